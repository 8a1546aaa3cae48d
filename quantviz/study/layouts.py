"""Data sets on disk: which files are the pictures, and which of ImageNet's classes each shows.

Three layouts are known. A flat folder has no labels. In an ImageFolder, a picture's folder is named by a synset
(``n02123045``). In the ILSVRC tree the training pictures lie likewise, and the validation pictures are all in one
folder::

    ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG
    LOC_val_solution.csv                                           their labels: this table,
    ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml     or these files,
    ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt, meta.mat    or the devkit's numbers
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantviz import images, networks, truth
from quantviz.specs import ImageError, Phase, Progress, no_progress

_PLACES = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_SPLITS = ("val", "train")
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")
_TABLE = "LOC_val_solution.csv"
_ANNOTATIONS = ("ILSVRC/Annotations/CLS-LOC/val", "Annotations/CLS-LOC/val")
_DEVKITS = ("", "data", "devkit/data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t3/data")
_NUMBERS, _SYNSETS = "ILSVRC2012_validation_ground_truth.txt", ("meta.mat", "map_clsloc.txt")
_LEVELS = 5  # from Data/CLS-LOC/val up to the folder that holds ILSVRC, and that folder


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of pictures.

    Attributes:
        classes: of each picture, ImageNet's class index, or None where it is not known.
        notes: where they are from and what could not be used, a sentence each; () where folders' names give them.
    """

    classes: tuple[int | None, ...]
    notes: tuple[str, ...] = ()


def pictures_of(dataset: Path) -> list[Path]:
    """Return the pictures of a data set, sorted by path.

    Args:
        dataset: a folder of pictures; or the top of the ILSVRC tree (or its folder ``ILSVRC``), whose validation
            pictures are taken, or where it has none its training pictures.

    Raises:
        ImageError: there is no such folder, or it holds no picture.
    """
    folders = (dataset / place / split for place in _PLACES for split in _SPLITS)
    return images.folder(next((folder for folder in folders if folder.is_dir()), dataset))


def labels_of(files: Sequence[Path], progress: Progress = no_progress) -> Labels:
    """Return the classes of pictures, as far as they are known.

    A folder that is named by a synset gives the class of its pictures. The others are looked for if their names are
    those of ILSVRC's validation pictures, in the tree that they lie in: in ``LOC_val_solution.csv``, then in the
    annotations' XML, then by the devkit's numbers with its ``meta.mat`` or with a ``map_clsloc.txt`` of lines
    ``n02119789 1 kit_fox``.

    Args:
        files: paths of the pictures.
        progress: reports how far it is.
    """
    classes = {file: networks.synset_class(file.absolute().parent.name) for file in files}
    asked = [file for file in files if classes[file] is None and _VALIDATION.fullmatch(file.stem)]
    notes: list[str] = []
    for find in (_by_table, _by_annotations, _by_devkit):
        if not asked:
            break
        synsets, note = find(asked, progress)
        known = {file: networks.synset_class(synset) for file, synset in synsets.items()}
        classes |= {file: index for file, index in known.items() if index is not None}
        asked = [file for file in asked if classes[file] is None]
        if note:
            notes.append(note)
    if asked and len(asked) < sum(_VALIDATION.fullmatch(file.stem) is not None for file in files):
        notes.append(f"{len(asked)} of the validation pictures have no label there.")
    return Labels(tuple(classes[file] for file in files), tuple(notes))


def _near(files: Sequence[Path], *names: str) -> Path | None:
    """Return the first of these paths that exists in the pictures' folder or one above it, in the ILSVRC tree."""
    folder = files[0].absolute().parent
    paths = (top / name for top in (folder, *folder.parents[: _LEVELS - 1]) for name in names)
    return next((path for path in paths if path.exists()), None)


def _by_table(files: Sequence[Path], progress: Progress) -> tuple[Mapping[Path, str], str]:
    table = _near(files, _TABLE)
    if table is None:
        return {}, ""
    progress(f"Reading {_TABLE}", None, Phase.READING)
    try:
        synsets = truth.localized_synsets(table)
    except ImageError as error:
        return {}, f"Labels are not taken from {_TABLE}: {error}"
    return _with_note({file: synsets.get(file.stem, "") for file in files}, _TABLE)


def _by_annotations(files: Sequence[Path], progress: Progress) -> tuple[Mapping[Path, str], str]:
    folder = _near(files, *_ANNOTATIONS)
    if folder is None:
        return {}, ""
    synsets, unread = {}, ""
    for done, file in enumerate(files):
        progress("Reading the annotations", done / len(files), Phase.READING)
        annotation = folder / f"{file.stem}.xml"
        try:
            synsets[file] = truth.object_synset(annotation) if annotation.exists() else ""
        except ImageError as error:
            unread = unread or f" A file that cannot be used: {error}"
    named, note = _with_note(synsets, "Annotations/CLS-LOC/val")
    return named, note + unread


def _by_devkit(files: Sequence[Path], progress: Progress) -> tuple[Mapping[Path, str], str]:
    numbers = _near(files, *(f"{place}/{_NUMBERS}" for place in _DEVKITS))
    if numbers is None:
        return {}, ""
    progress(f"Reading {_NUMBERS}", None, Phase.READING)
    synset_file = next((path for name in _SYNSETS if (path := numbers.parent / name).exists()), None)
    own = f"Labels are not taken from {_NUMBERS}, whose numbers follow the devkit's own order"
    if synset_file is None:
        return {}, f"{own}: neither {' nor '.join(_SYNSETS)}, which gives their synsets, is beside it."
    try:
        of_picture, synsets = truth.devkit_numbers(numbers), truth.devkit_synsets(synset_file)
    except ImageError as error:
        return {}, f"{own}: {error}"
    places = {file: int(file.stem[-8:]) - 1 for file in files}
    named = {file: synsets.get(of_picture[at], "") if 0 <= at < len(of_picture) else "" for file, at in places.items()}
    return _with_note(named, f"{_NUMBERS} and {synset_file.name}")


def _with_note(synsets: Mapping[Path, str], source: str) -> tuple[Mapping[Path, str], str]:
    named = {file: synset for file, synset in synsets.items() if synset}
    pictures = f"{len(named):,} picture{'s' * (len(named) != 1)}"
    return named, f"The labels of {pictures} are from {source}." if named else ""
