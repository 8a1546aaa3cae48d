"""The classes of pictures of one's own: by the names of their folders, or by a table of files and labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from quantviz.networks.classes import ClassNames, some_of, unique
from quantviz.specs import UsageError, foreign, limits, one_form
from quantviz.study.layouts import Labels

_MOST_BYTES: Final = limits.LABELS_BYTES
_HEADS: Final = (("file", "filename", "image", "path", "picture"), ("label", "class", "category"))


def folder_labels(dataset: Path, files: Sequence[Path], names: Sequence[str]) -> Labels:
    """Return the classes of pictures by the names of their folders, the innermost first.

    Args:
        dataset: the folder of all of them.
        files: paths of the pictures, in it.
        names: of the classes; () for ImageNet's.
    """
    classes = ClassNames(names)
    known: dict[Path, int | None] = {}

    def of_folder(folder: Path) -> int | None:
        if folder not in known:
            inner = folder != dataset and dataset in folder.parents
            found = classes.find(folder.name) if inner else None
            known[folder] = of_folder(folder.parent) if inner and found is None else found
        return known[folder]

    labels = tuple(of_folder(file.parent) for file in files)
    without = {_top(dataset, file) for file, label in zip(files, labels, strict=True) if label is None} - {""}
    note = f"No class is called as the folders {some_of(sorted(without))}; their pictures have no label."
    return Labels(labels, (note,) if without else ())


def class_folders(dataset: Path) -> tuple[str, ...]:
    """Return the names of the folders in a data set, sorted: its classes, as torchvision's ImageFolder counts them."""
    with os.scandir(dataset) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def table_labels(table: Path, dataset: Path, files: Sequence[Path], names: Sequence[str]) -> Labels:
    """Return the classes of pictures by a CSV file of two columns, the picture's file and its label.

    A file is named by its path in the data set, or by its own name where only one picture has it. A first line of
    ``file,label`` is a heading.

    Args:
        table: the CSV file.
        dataset: the folder of the pictures.
        files: paths of the pictures, in it.
        names: of the classes; () for ImageNet's.

    Raises:
        UsageError: the table cannot be read, a label names no class, or no picture is in it.
    """
    classes = ClassNames(names)
    places = {one_form(file.relative_to(dataset).as_posix()): file for file in files}
    alone = unique([one_form(file.name) for file in files])
    labels: dict[Path, int] = {}
    elsewhere = 0
    for line, name, text in _rows(table):
        found = classes.find(text)
        if found is None:
            raise UsageError(
                f"Labels {table.name!r}, line {line}: class {text!r} is unknown; {classes.near(text)}, and an index "
                f"up to {len(classes) - 1} is taken as well."
            )
        name = one_form(name.replace("\\", "/").removeprefix("./"))
        file = places.get(name)
        if file is None and name in alone:
            file = files[alone[name]]
        elsewhere += file is None
        if file is not None and labels.setdefault(file, found) != found:
            raise UsageError(
                f"Labels {table.name!r}, line {line}: {name!r} has another label further up; leave one of them out."
            )
    if not labels:
        raise UsageError(
            f"Labels {table.name!r} name none of the pictures of {str(dataset)!r}; name them by their path in it, "
            f"{next(iter(places))!r} say."
        )
    notes = [f"The labels of {len(labels):,} of {len(files):,} pictures are from {table.name}."]
    if elsewhere:
        notes.append(f"{elsewhere:,} of its rows name no picture that is swept over.")
    return Labels(tuple(labels.get(file) for file in files), tuple(notes))


def _rows(table: Path) -> list[tuple[int, str, str]]:
    """Return (line, file, label) of each row."""
    try:
        if table.stat().st_size > _MOST_BYTES:
            raise UsageError(f"Labels {table.name!r} have more than {_MOST_BYTES >> 20} MiB; give a smaller file.")
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"Labels {str(table)!r} cannot be read ({reason}); give a CSV file of file,label.") from None
    if (found := foreign(text[:400].encode())) and found.remedy:
        raise UsageError(found.sentence(table.name, "a CSV file of file,label", ""))
    first = next((line for line in text.splitlines() if line.strip()), "")
    # As tables of ground truth are read: spreadsheets write semicolons where the comma is the decimal sign.
    reader = csv.reader(io.StringIO(text), delimiter=next((mark for mark in "\t;," if mark in first), ","))
    rows: list[tuple[int, str, str]] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < 2:
                raise UsageError(
                    f"Labels {table.name!r}, line {reader.line_num}: {cells[0]!r} has no label; write file,label."
                )
            rows.append((reader.line_num, cells[0].strip(), cells[1].strip()))
    except csv.Error as error:
        raise UsageError(f"Labels {table.name!r}, line {reader.line_num}: {error}; write file,label.") from None
    if rows and all(cell.lower() in heads for cell, heads in zip(rows[0][1:], _HEADS, strict=True)):
        return rows[1:]
    return rows


def _top(dataset: Path, file: Path) -> str:
    """Return the name of the folder in the data set that a picture lies in, or "" where it lies in none."""
    parts = file.relative_to(dataset).parts
    return parts[-2] if len(parts) > 1 else ""
