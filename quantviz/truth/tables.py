"""Untrusted CSV bytes to rows with named columns, found by image."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from quantviz.specs import ImageError, limits, one_form
from quantviz.truth.files import parse_number, read_bytes, shown

MAX_ROWS = limits.TRUTH_ROWS

Row = tuple[int, Sequence[str]]
"""A row's number in the file, counted from 1, and its cells."""

_IMAGE = frozenset("image imageid image_id image_name imagename img file filename file_name stimulus picture".split())
_ENDING = re.compile(r"\.[A-Za-z]{3,4}$")
_MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "."))


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows of one file.

    Attributes:
        name: the file's, for messages.
        columns: column -> position, lower case; empty without a header.
        rows: without header, blank lines and lines that start with ``#``.
        by_image: an image as the file names it -> its rows; empty without such a column.
        stems: an image's stem, as it is and in lower case -> how the file names such images.
        decimal_comma: True where cells are not separated by commas.
    """

    name: str
    columns: Mapping[str, int]
    rows: Sequence[Row]
    by_image: Mapping[str, Sequence[Row]]
    stems: Mapping[str, Sequence[str]]
    decimal_comma: bool

    def of_image(self, image: str) -> Sequence[Row]:
        """Return the rows of one image, by its file's stem, or all where the file does not tell images apart.

        Raises:
            ImageError: it does, and holds no row for this image, or for several that share its stem, or several
                images' rows while none is named.
        """
        if len(self.by_image) <= 1 and not (self.by_image and image):
            return self.rows
        if not image:
            raise ImageError(f"{self.name} holds rows of several images; name the image whose rows are wanted.")
        stem = stem_of(image)
        names = self.stems.get(stem) or self.stems.get(stem.lower()) or ()
        if not names:
            raise ImageError(f"{self.name} holds no row for image {shown(image)}; check its column of image names.")
        if len(names) > 1:
            raise ImageError(
                f"{self.name} names several images of stem {shown(stem)} ({shown(names[0])}, {shown(names[1])}); "
                "split it by image."
            )
        return self.by_image[names[0]]

    def number(self, row: Row, position: int) -> float:
        """Return one cell's number, NaN where it is empty or says that it is missing.

        Raises:
            ImageError: the row is too short, or the cell holds something else.
        """
        line, cells = row
        if position >= len(cells):
            raise ImageError(
                f"{self.name} has no column {position + 1} in line {line}, where a number is needed; complete it."
            )
        text = cells[position].strip()
        if text.lower() in _MISSING:
            return math.nan
        value = parse_number(text.replace(",", ".", 1) if self.decimal_comma else text)
        if value is None:
            raise ImageError(f"{self.name} has {shown(text)} in line {line} where a number is needed; correct it.")
        return value


def read_table(source: bytes | Path, name: str, headers: Sequence[str], wanted: str) -> Table:
    """Read a table whose cells are separated by tabs, semicolons or commas (the first of them in its first line).

    A path's table is kept for the next call, since one file may hold the rows of ten thousand images.

    Args:
        source: the file's bytes, or its path.
        name: for messages; the path's last part by default.
        headers: column names, lower case, any of which makes the first line a header.
        wanted: what to give, for messages.

    Raises:
        ImageError: the file cannot be read, is no text, or has more than ``MAX_ROWS`` rows.
    """
    if isinstance(source, Path):
        try:
            status = os.stat(source)
        except (OSError, ValueError):
            read_bytes(source, name, wanted)  # which says what is wrong
            raise
        return _table_of_path(source.absolute(), status.st_size, status.st_mtime_ns, name, tuple(headers), wanted)
    return _table(*read_bytes(source, name, wanted), tuple(headers), wanted)


@lru_cache(maxsize=2)  # a table may be large
def _table_of_path(path: Path, _size: int, _mtime: int, name: str, headers: tuple[str, ...], wanted: str) -> Table:
    return _table(*read_bytes(path, name, wanted), headers, wanted)


def _table(name: str, data: bytes, headers: tuple[str, ...], wanted: str) -> Table:
    if b"\0" in data:
        raise ImageError(f"{name} is no plain text; give {wanted}, saved as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # only names of images and columns that are not read can hold such letters
    first = next((line for line in io.StringIO(text) if line.strip() and not line.startswith("#")), "")
    delimiter = next((mark for mark in "\t;," if mark in first), ",")
    rows: list[Row] = []
    try:
        for cells in (reader := csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)):
            if any(cell.strip() for cell in cells) and not cells[0].startswith("#"):
                rows.append((reader.line_num, cells))
            if len(rows) > MAX_ROWS:
                raise ImageError(f"{name} has more than {MAX_ROWS:,} rows; split it by image.")
    except csv.Error as error:
        raise ImageError(f"{name} is no readable CSV ({error}); give {wanted}.") from None
    columns: dict[str, int] = {}
    labels = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if set(labels) & set(headers):
        rows = rows[1:]
        for position, label in enumerate(labels):
            columns.setdefault(label, position)
    by_image = _grouped(rows, columns)
    stems: dict[str, list[str]] = {}
    for named in by_image:
        for key in {stem_of(named), stem_of(named).lower()}:
            stems.setdefault(key, []).append(named)
    return Table(name, columns, rows, by_image, stems, delimiter != ",")


def _grouped(rows: Sequence[Row], columns: Mapping[str, int]) -> dict[str, list[Row]]:
    position = next((columns[label] for label in columns if label in _IMAGE), None)
    groups: dict[str, list[Row]] = {}
    if position is not None:
        for row in rows:
            named = row[1][position] if position < len(row[1]) else ""
            groups.setdefault(named.strip(), []).append(row)
    return groups


def stem_of(named: str) -> str:
    """Return an image's name without folders and without its ending, a name of no ending keeping its dots."""
    return one_form(_ENDING.sub("", re.split(r"[/\\]", named.strip())[-1]))
