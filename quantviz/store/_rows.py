"""diskcache made safe for a folder whose content is not trusted: only bytes, only generated names, no pickle.

Stock diskcache unpickles values and keys (CVE-2025-69872), reads and deletes whatever path a row names, runs as
PRAGMA and sets as attribute whatever its Settings table holds, and waits a minute for a locked database. Here a
database is checked before diskcache sees it, a ``Disk`` of our own stands between its rows and the files, and
``reset`` lets no setting in. Nothing private of diskcache is used.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diskcache import DEFAULT_SETTINGS, ENOVAL, UNKNOWN, Cache, Disk, Timeout
from diskcache.core import MODE_BINARY

from quantviz.store._folder import database_files
from quantviz.store._record import LARGEST_RECORD, Refused, decode, is_key

POLICY = "least-recently-stored"
"""The oldest entries are evicted first, as many as it takes to come under the size limit."""

NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
"""The file names that diskcache generates, relative to its folder."""

_COLUMNS = "key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value"
# Rows that diskcache's methods cannot find, or whose text would make a whole query fail because it is not UTF-8.
_UNREACHABLE = "key IS NULL OR raw IS NULL OR " + " OR ".join(
    f"(typeof({column}) = 'text' AND {column} GLOB '*[^ -~]*')"
    for column in ("key", "raw", "tag", "mode", "filename", "value")
)
_READ = os.O_RDONLY | os.O_NOFOLLOW
_FOLDER = _READ | os.O_DIRECTORY
_DAMAGE_CODES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_FORMAT,
}


class Damaged(Exception):
    """The database as a whole cannot be used."""


# What a broken disk, database or row makes diskcache raise; the last ones come from planted types.
FAILURES = (Timeout, OSError, sqlite3.Error, Damaged, ValueError, TypeError, AttributeError, AssertionError)


def is_lock(error: BaseException) -> bool:
    """Tell whether an error means that another process or thread holds the database."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, Timeout | BlockingIOError) or code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: BaseException) -> bool:
    """Tell whether an error means that the database has to be rebuilt; a full or read-only disk does not."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is None or code & 0xFF in _DAMAGE_CODES
    return not isinstance(error, Timeout | OSError)


class Foreign(NamedTuple):
    """The key of a row that this store cannot have written, as the row has it."""

    key: Any
    raw: Any

    def __str__(self) -> str:
        return str(self.key)


class BytesDisk(Disk):  # type: ignore[misc]
    """Keeps bytes in files of generated names; whatever else a row asks for is refused, never followed."""

    def __init__(self, directory: str, **_planted: Any) -> None:
        super().__init__(directory)
        self.folder = directory

    def put(self, key: Any) -> tuple[Any, Any]:
        return tuple(key) if isinstance(key, Foreign) else (key, True)

    def get(self, key: Any, raw: Any) -> str | Foreign:
        return key if type(key) is str and raw == 1 else Foreign(key, raw)

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str, None]:
        if type(value) is not bytes or read:
            raise Refused("only bytes are stored")
        for attempts_left in reversed(range(5)):
            name, _ = self.filename()
            try:
                self._write_new(name, value)
            except FileNotFoundError:
                # Another process removed the folder, empty until now, before the file was in it.
                if not attempts_left:
                    raise
            else:
                break
        return len(value), MODE_BINARY, name, None

    def _write_new(self, name: str, value: bytes) -> None:
        with self._folders(name, create=True) as (*_, folder):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            file = os.open(name[6:], flags, 0o600, dir_fd=folder)
            try:
                with open(file, "wb") as writer:
                    writer.write(value)
            except BaseException:
                os.unlink(name[6:], dir_fd=folder)
                raise

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> Any:
        """Return the bytes of a row's file, or with ``read`` only the file's name.

        Raises:
            Refused: the row names anything else, or the file cannot be read.
        """
        if read:
            return filename
        if mode != MODE_BINARY or value is not None:
            raise Refused(f"its mode is {mode!r}, not a file of bytes")
        try:
            with self._folders(filename) as (*_, folder):
                # Without O_NONBLOCK, opening a planted named pipe would wait for ever.
                file = os.open(filename[6:], _READ | os.O_NONBLOCK, dir_fd=folder)
            with open(file, "rb") as reader:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_RECORD:
                    raise Refused("its file is not a regular one of a record's size")
                return reader.read(LARGEST_RECORD)
        except OSError as error:
            raise Refused(f"its file cannot be read ({error.strerror})") from error

    def remove(self, file_path: Any) -> None:
        with contextlib.suppress(OSError, Refused), self._folders(file_path) as (root, parent, folder):
            os.unlink(file_path[6:], dir_fd=folder)
            os.rmdir(file_path[3:5], dir_fd=parent)
            os.rmdir(file_path[:2], dir_fd=root)

    @contextlib.contextmanager
    def _folders(self, name: Any, create: bool = False) -> Iterator[tuple[int, int, int]]:
        """Open the cache's folder and the two below it that hold ``name``, following no link of theirs."""
        if type(name) is not str or not NAME.fullmatch(name):
            raise Refused(f"its file name {str(name)[:80]!r} is not a generated one")
        with contextlib.ExitStack() as stack:
            opened = [os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)]
            stack.callback(os.close, opened[0])
            for part in (name[:2], name[3:5]):
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=opened[-1])
                opened.append(os.open(part, _FOLDER, dir_fd=opened[-1]))
                stack.callback(os.close, opened[-1])
            yield opened[0], opened[1], opened[2]


@contextlib.contextmanager
def _database(path: Path, timeout: float) -> Iterator[sqlite3.Connection]:
    """Open a database whose pages and indexes are in order.

    Raises:
        Damaged: they are not.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as con:
        con.execute("PRAGMA trusted_schema = 0")
        if (problems := con.execute("PRAGMA integrity_check(1)").fetchall()) != [("ok",)]:
            raise Damaged(str(problems[0][0]).splitlines()[-1])
        yield con


def _prepare(directory: Path, timeout: float) -> None:
    """Make sure that diskcache can use the database, and that nothing planted in it does harm.

    Raises:
        Damaged: it is not one of diskcache's in good order.
        sqlite3.Error: it cannot be written, or another process holds it.
    """
    for path in database_files(directory):
        with contextlib.suppress(FileNotFoundError):  # a journal goes when another process ends its transaction
            if not stat.S_ISREG(path.lstat().st_mode):
                raise Damaged(f"{path.name} is not a regular file")
    if not path.exists():
        return
    with _database(path, timeout) as con:
        con.execute("BEGIN IMMEDIATE")
        tables = {name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables <= {"Cache", "Settings"}:
            raise Damaged("it is another program's database")
        if tables:
            con.execute(f"SELECT {_COLUMNS} FROM Cache LIMIT 0")
            con.execute(f"DELETE FROM Cache WHERE {_UNREACHABLE}")
            for key, total in (("count", "COUNT(*)"), ("size", "CAST(TOTAL(size) AS INTEGER)")):
                total = f"(SELECT {total} FROM Cache)"
                con.execute(f"UPDATE Settings SET value = {total} WHERE key = ? AND value IS NOT {total}", (key,))
        con.execute("COMMIT")


class Rows(Cache):  # type: ignore[misc]
    """diskcache with bounded waiting, and with settings that come from here only, never from the database.

    A rollback journal instead of write-ahead logging, and no memory map: a file that another process truncates,
    renames or deletes then costs an error, where a mapped one would end this process with SIGBUS.

    While diskcache opens a database or reads its counters, it waits a minute for a lock. So a lock is looked for, for
    ``timeout`` seconds, before it opens one, and counters are read inside a transaction only.
    """

    def __init__(self, directory: Path, size_limit: int, timeout: float) -> None:
        self._own_settings = DEFAULT_SETTINGS | {
            "size_limit": size_limit,
            "eviction_policy": POLICY,
            "cull_limit": 0,
            "disk_min_file_size": 0,
            "sqlite_journal_mode": "delete",
            "sqlite_mmap_size": 0,
            "sqlite_trusted_schema": 0,
            "sqlite_cell_size_check": 1,
            "sqlite_synchronous": 0,  # for some twenty small commits that write what the next opening would write again
        }
        _prepare(directory, timeout)
        try:
            super().__init__(str(directory), timeout=timeout, disk=BytesDisk, **self._own_settings)
            self.make_room()
            self._own_settings["sqlite_synchronous"] = 1
        finally:
            # The next connection syncs. And one left open over a file that is then renamed could write to its old path.
            self.close()

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Return a counter, or set a setting to our own value, whatever the database has.

        Raises:
            Damaged: the counter is no number.
        """
        if key in ("count", "size"):
            # A planted size that is no whole number can make the sum a fraction.
            number = super().reset(key, value, update)
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise Damaged(f"its setting {key} is {number!r}, not a number")
            return int(number)
        return super().reset(key, self._own_settings[key], update=False) if key in self._own_settings else None

    def put(self, key: str, blob: bytes) -> bool:
        """Keep ``blob`` under ``key``, and remove old entries where there are too many bytes now."""
        self.set(key, blob)
        self.make_room(newest=key)
        return True

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Keep several blobs, each under its key, in one transaction: the disk is waited for once."""
        with self.transact():
            for key, blob in blobs.items():
                self.set(key, blob)
        self.make_room(newest=[*blobs][-1])

    def make_room(self, newest: str = "") -> None:
        """Remove the oldest entries, as many as it takes to come under the size limit; ``newest`` stays.

        diskcache's own eviction removes ten rows or none, whatever their size: too much of a small cache, too little
        of a full one. It is switched off.
        """
        if self.usage()[1] <= self.size_limit:
            return
        self.expire()
        for key in self:
            if key != newest:
                self.delete(key)
            if self.usage()[1] <= self.size_limit:
                return

    def usage(self) -> tuple[int, int]:
        """Return the number of rows, and the bytes of their files and of the database."""
        with self.transact():
            return len(self), self.volume()

    def check_database(self) -> None:
        """Raise Damaged unless SQLite finds its pages and indexes in order."""
        with _database(database_files(Path(self.directory))[-1], self.timeout):
            pass

    def fault(self, key: str | Foreign) -> str | None:
        """Return what is wrong with an entry and its file, ``""`` for nothing; None where it is gone."""
        try:
            if (blob := self.get(key)) is None:
                return None
            if not is_key(key):
                raise Refused("its key is not a sha256 in hex")
            decode(str(key), blob)
        except Refused as error:
            return str(error)
        return ""
