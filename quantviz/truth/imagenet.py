"""The annotations of ILSVRC to synsets: untrusted XML, CSV and devkit files to which class a picture shows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantviz.specs import ImageError
from quantviz.truth.boxes import parsed_xml
from quantviz.truth.files import read_bytes, shown
from quantviz.truth.matlab import read_mat

SYNSET = re.compile(r"n\d{8}")
"""A WordNet synset as ILSVRC writes it."""

_COLUMNS = ["ImageId", "PredictionString"]


def object_synset(source: bytes | Path, name: str = "") -> str:
    """Return the synset of the objects of an ILSVRC annotation (XML), or "" where they are none or of several.

    Args:
        source: the file's bytes, or its path.
        name: for messages; the path's last part by default.

    Raises:
        ImageError: the file cannot be read, or its XML is refused by ``read_boxes``.
    """
    name, data = read_bytes(source, name, "an ILSVRC .xml file")
    return _only((element.findtext("name") or "").strip() for element in parsed_xml(data, name).findall("object"))


def localized_synsets(path: Path) -> dict[str, str]:
    """Read the localisation table of ILSVRC (``LOC_val_solution.csv``): a picture's boxes, each behind its synset.

    Returns:
        Stem of the picture's name -> synset; pictures whose boxes are of several are left out.

    Raises:
        ImageError: the file cannot be read or has other columns than ``ImageId`` and ``PredictionString``.
    """
    name, data = read_bytes(path, "", "LOC_val_solution.csv")
    try:
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{name} is no CSV file ({error}); give LOC_val_solution.csv.") from None
    if not rows or [cell.strip() for cell in rows[0]] != _COLUMNS:
        raise ImageError(f"{name} has columns {shown(rows and ', '.join(rows[0]))}, not {', '.join(_COLUMNS)}.")
    synsets = ((row[0].strip(), _only(row[1].split()[::5])) for row in rows[1:] if len(row) == len(_COLUMNS))
    return {stem: synset for stem, synset in synsets if synset}


def devkit_numbers(path: Path) -> list[int]:
    """Read the classes of the validation pictures (``ILSVRC2012_validation_ground_truth.txt``): one number a line.

    The number is the ``ILSVRC2012_ID`` of ``meta.mat``, which does not follow the synsets' order.

    Raises:
        ImageError: the file cannot be read or holds anything else.
    """
    name, data = read_bytes(path, "", "ILSVRC2012_validation_ground_truth.txt")
    lines = data.decode("latin-1").split()
    wrong = next((line for line in lines if not (line.isascii() and line.isdigit() and len(line) < 5)), None)
    if wrong is not None:
        raise ImageError(f"{name} has {shown(wrong)} where a class number is needed.")
    return [int(line) for line in lines]


def devkit_synsets(path: Path) -> Mapping[int, str]:
    """Read which synset a class number of the devkit is.

    Args:
        path: ``meta.mat``, or a text file of lines with a synset and its number (``n02119789 1 kit_fox``).

    Raises:
        ImageError: the file cannot be read, or gives none.
    """
    name, data = read_bytes(path, "", "the devkit's meta.mat")
    synsets: dict[int, str] = {}
    if path.suffix.lower() == ".mat":
        synsets = _from_meta(read_mat(data, name, text=True).get("synsets"))
    else:
        for words in (line.split()[:2] for line in data.decode("latin-1").splitlines()):
            synset, number = sorted(words, reverse=True) if len(words) == 2 else ("", "")
            if SYNSET.fullmatch(synset) and number.isascii() and number.isdigit() and len(number) < 5:
                synsets[int(number)] = synset
    if not synsets:
        raise ImageError(f"{name} does not tell the synsets of the devkit's class numbers.")
    return synsets


def _from_meta(synsets: Any) -> dict[int, str]:
    by_number = {}
    for entry in synsets if isinstance(synsets, list) else []:
        if isinstance(entry, dict):
            synset, number = entry.get("WNID"), entry.get("ILSVRC2012_ID")
            if isinstance(synset, str) and SYNSET.fullmatch(synset) and isinstance(number, np.ndarray) and number.size:
                by_number[int(number.flat[0])] = synset
    return by_number


def _only(synsets: Iterable[str]) -> str:
    different = set(synsets)
    synset = different.pop() if len(different) == 1 else ""
    return synset if SYNSET.fullmatch(synset) else ""
