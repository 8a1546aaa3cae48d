"""The folder that the store lies in: where it is, what belongs in it, and setting a damaged database aside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diskcache.core import DBNAME

from quantviz.specs import StoreError

_IN_FLIGHT_S = 60.0  # a file younger than this may belong to a put that has yet to name it in a row


def default_directory() -> Path:
    """Return the folder for everything that quantviz keeps; the tensor store is its ``tensors``.

    ``QUANTVIZ_CACHE`` where set, else ``cache`` in the checkout that holds this package, else ``quantviz`` in the
    user's cache folder (``XDG_CACHE_HOME`` where it is absolute, or ``~/.cache``). Nothing is created.

    Raises:
        StoreError: the home folder cannot be found.
    """
    checkout = Path(__file__).resolve().parent.parent.parent
    try:
        if chosen := os.environ.get("QUANTVIZ_CACHE"):
            return Path(chosen).expanduser().absolute()
        # Some packages leave a pyproject.toml of theirs beside all installed packages; app.py is ours alone.
        if (checkout / "pyproject.toml").is_file() and (checkout / "app.py").is_file():
            return checkout / "cache"
        user = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (user if user.is_absolute() else Path.home() / ".cache") / "quantviz"
    except RuntimeError as error:
        raise StoreError("The home folder cannot be found; set QUANTVIZ_CACHE to an absolute path.") from error


def database_files(directory: Path) -> list[Path]:
    """Return the paths that SQLite may use for the database in ``directory``, the database last."""
    return [directory / (DBNAME + suffix) for suffix in ("-journal", "-wal", "-shm", "")]


def identity(directory: Path) -> tuple[int, int] | None:
    """Return what tells the database file from a later one at the same path, or None where there is none."""
    try:
        status = os.stat(directory / DBNAME)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def make_private(directory: Path) -> None:
    """Make the folder and those above it that are missing, closed to other users."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def check_owner(directory: Path) -> None:
    """Refuse a folder that others could have put records into: a digest does not tell who computed a map.

    Raises:
        PermissionError: it belongs to another user (root, who may use anybody's, apart), or all users may write to it.
    """
    status, own = os.stat(directory), os.geteuid()
    if own != 0 and status.st_uid not in (own, 0):
        raise PermissionError(f"it belongs to user {status.st_uid}, who could keep anything in it")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise PermissionError("all users may write to it and could keep anything in it")


@contextlib.contextmanager
def opening_lock(directory: Path, timeout: float) -> Iterator[None]:
    """Keep other processes from opening or rebuilding the database; BlockingIOError when one takes too long."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(folder)


def set_aside(directory: Path) -> Path:
    """Rename the database and what belongs to it; return its new path.

    The journal goes first: left behind alone, it would be played back into the new database.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    count = 0
    while (directory / f"{DBNAME}.damaged-{stamp}-{count}").exists():
        count += 1
    for path in database_files(directory):
        with contextlib.suppress(FileNotFoundError):
            path.rename(f"{path}.damaged-{stamp}-{count}")
    return directory / f"{DBNAME}.damaged-{stamp}-{count}"


def set_aside_files(directory: Path) -> list[Path]:
    """Return the databases that were set aside, and their journals."""
    try:
        return sorted(directory.glob(f"{DBNAME}*.damaged-*"))
    except OSError:
        return []


def orphans(directory: Path, named: set[Any], in_flight: float = _IN_FLIGHT_S) -> list[Path]:
    """Return the files that no row names and that are older than ``in_flight`` seconds; links are not followed."""
    own = {*database_files(directory), *set_aside_files(directory)}
    paths = []
    for folder, folders, files in os.walk(directory):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for path in (Path(folder) / name for name in files + links):
            if path in own or path.relative_to(directory).as_posix() in named:
                continue
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.lstat().st_mtime >= in_flight:
                    paths.append(path)
    return sorted(paths)
