"""What quantviz keeps on disk, how much space it takes, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quantviz.specs import utf8
from quantviz.store._folder import set_aside_files


@dataclass(frozen=True, slots=True)
class SpaceTaken:
    """One thing that is kept.

    Attributes:
        what: it is: ``"maps and results"``, ``"study photos"``.
        path: where it lies.
        files: how many files it has.
        bytes: that they take on the disk.
        kept: what becomes of it: whether it is ever removed by itself, and in which order.
    """

    what: str
    path: Path
    files: int
    bytes: int
    kept: str


def space_taken(folder: Path, weights: Path, size_limit: int) -> tuple[SpaceTaken, ...]:
    """Return what is kept, the largest first.

    Args:
        folder: of everything that quantviz keeps, ``default_directory()``.
        weights: torch hub's folder of downloaded weights.
        size_limit: bytes above which the cache removes its oldest records.

    Returns:
        The cache of maps, databases that were set aside, each study, whatever else lies there, and the weights; nothing
        of size 0. What cannot be read counts as nothing.
    """
    studies = folder / "studies"
    found = [
        _taken("maps and results", folder / "tensors", f"up to {size_limit >> 20} MiB, the oldest go first"),
        *(_taken(f"study {utf8(path.name).decode()}", path, "until you delete it") for path in _entries(studies)),
        *(
            _taken("other files", path, "until you delete it")
            for path in _entries(folder)
            if path.name not in ("tensors", "studies")
        ),
        _taken("downloaded weights, shared with torch hub", weights, "until you delete it"),
    ]
    aside = set_aside_files(folder / "tensors")
    if aside:
        size = sum(_size(path) for path in aside)
        words = "until `quantviz cache clear`"
        found.append(SpaceTaken("damaged databases set aside, counted above, too", aside[0], len(aside), size, words))
    return tuple(sorted((taken for taken in found if taken.bytes), key=lambda taken: -taken.bytes))


def _taken(what: str, path: Path, kept: str) -> SpaceTaken:
    sizes = [_size(file) for file in _files(path)]
    return SpaceTaken(what, path, len(sizes), sum(sizes), kept)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a folder and the folders in it, or the file itself; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for place, _, names in os.walk(path):
        yield from (Path(place, name) for name in names)


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0
