"""Which files lie in a folder and below: one rule for every reader, so that none of them vanishes in silence."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from pathlib import Path

from quantviz.specs.errors import ImageError, UsageError

_LONGEST_PATH, _LONGEST_NAME = 4095, 255  # PATH_MAX and NAME_MAX of Linux, in bytes


def files_below(top: Path, suffixes: Collection[str], what: str) -> list[Path]:
    """Return the files of a folder and of the folders in it whose names have one of some endings.

    Hidden files and folders, whose names begin with a dot, are passed over. Links are followed, as torchvision's
    ImageFolder does; a folder that is reached twice counts once, under its own name rather than a link's, so that loops
    end.

    Args:
        top: the folder.
        suffixes: lower case, with the dot.
        what: what such files are called, for messages: ``"pictures"``.

    Returns:
        Paths below ``top``, sorted by the path relative to it in POSIX form.

    Raises:
        ImageError: a folder cannot be read, or a link leads nowhere; its files would be missing.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    own, linked = deque([top]), deque[Path]()
    while own or linked:
        folder = (own or linked).popleft()
        for entry in _entries(folder, seen, what):
            path = Path(folder, entry.name)
            if entry.is_dir():
                (linked if entry.is_symlink() else own).append(path)
            elif path.suffix.lower() in suffixes:
                found.append(path)
            elif entry.is_symlink() and not path.exists():
                raise ImageError(f"Link {path} leads nowhere, and {what} may be missing; mend it or remove it.")
    return sorted(found, key=lambda file: file.relative_to(top).as_posix())


def _entries(folder: Path, seen: set[tuple[int, int]], what: str) -> list[os.DirEntry[str]]:
    """Return a folder's entries that are not hidden; none where the folder is in ``seen``, which it becomes."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        return sorted(
            (entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda entry: entry.name
        )
    except OSError as error:
        raise ImageError(
            f"Folder {folder} cannot be read ({error.strerror}), and its {what} would be missing; make it readable, or "
            "leave it out by a name that begins with a dot."
        ) from None


def usable_path(path: Path, what: str) -> Path:
    """Return a path that a system can have; people and links bring others.

    Args:
        path: as it was typed.
        what: what it should name, for the message: ``"a study's folder"``.

    Raises:
        UsageError: it holds a NUL, or it or one of its names is longer than file systems take.
    """
    text = str(path)
    if "\0" in text:
        raise UsageError(f"Path {text!r} holds the sign NUL, which no path can have; give the path of {what}.")
    if len(os.fsencode(text)) > _LONGEST_PATH or any(len(os.fsencode(name)) > _LONGEST_NAME for name in path.parts):
        raise UsageError(
            f"Path {text[:80]!r}... has {len(text):,} signs, more than a file system takes; give the path of {what}."
        )
    return path
