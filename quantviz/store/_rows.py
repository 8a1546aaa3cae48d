"""diskcache made safe for a folder whose content is not trusted: only bytes, only generated names, no pickle.

Stock diskcache unpickles values and keys (CVE-2025-69872), reads and deletes whatever path a row names, runs as
PRAGMA and sets as attribute whatever its Settings table holds, and waits a minute for a locked database. Here each
of these doors is shut by overriding the method behind it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diskcache import Cache, Disk, Timeout
from diskcache.core import DBNAME, DEFAULT_SETTINGS, ENOVAL, METADATA, MODE_BINARY, UNKNOWN

from quantviz.store._folder import database_files
from quantviz.store._record import LARGEST_RECORD, Refused, decode, is_key

POLICY = "least-recently-stored"
"""The oldest entries are evicted first, as many as it takes to come under the size limit."""

NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
"""The file names that diskcache generates, relative to its folder."""

_COLUMNS = "key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value"
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
    return isinstance(error, Timeout) or code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: BaseException) -> bool:
    """Tell whether an error means that the database has to be rebuilt; a full or read-only disk does not."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is None or code & 0xFF in _DAMAGE_CODES
    return not isinstance(error, Timeout | OSError)


class BytesDisk(Disk):  # type: ignore[misc]
    """Keeps bytes in files of generated names; whatever else a row asks for is refused, never followed."""

    def __init__(self, directory: str, **_planted: Any) -> None:
        super().__init__(directory)

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise Refused(f"key {key!r} is not text")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        if type(key) is not str or raw != 1:
            raise Refused("its key is not plain text")
        return key

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

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:
        if mode != MODE_BINARY or value is not None or read:
            raise Refused(f"its mode is {mode!r}, not a file of bytes")
        with self._folders(filename) as (*_, folder):
            # Without O_NONBLOCK, opening a planted named pipe would wait for ever.
            file = os.open(filename[6:], _READ | os.O_NONBLOCK, dir_fd=folder)
        with open(file, "rb") as reader:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_RECORD:
                raise Refused("its file is not a regular one of a record's size")
            return reader.read(LARGEST_RECORD)

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
            opened = [os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)]
            stack.callback(os.close, opened[0])
            for part in (name[:2], name[3:5]):
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=opened[-1])
                opened.append(os.open(part, _FOLDER, dir_fd=opened[-1]))
                stack.callback(os.close, opened[-1])
            yield opened[0], opened[1], opened[2]


def _check_pages(con: sqlite3.Connection) -> None:
    if (found := con.execute("PRAGMA integrity_check(1)").fetchall()) != [("ok",)]:
        raise Damaged(str(found[0][0]).splitlines()[-1])


def _inspect(directory: Path, timeout: float) -> None:
    """Raise Damaged where the database is not one of diskcache's in good order, before anything is written to it."""
    for path in database_files(directory):
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise Damaged(f"{path.name} is not a regular file")
    if not path.exists():
        return
    with contextlib.closing(sqlite3.connect(path, timeout=timeout)) as con:
        con.execute("PRAGMA trusted_schema = 0")
        _check_pages(con)
        tables = {name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables <= {"Cache", "Settings"}:
            raise Damaged("it is another program's database")
        if "Cache" in tables:
            con.execute(f"SELECT {_COLUMNS} FROM Cache LIMIT 0")


class Rows(Cache):  # type: ignore[misc]
    """diskcache with bounded waiting, and with settings that come from here only, never from the database.

    A rollback journal instead of write-ahead logging, and no memory map: a file that another process truncates,
    renames or deletes then costs an error, where a mapped one would end this process with SIGBUS.
    """

    _pragmas = (
        "auto_vacuum = 1",
        "journal_mode = delete",
        "synchronous = 1",
        "mmap_size = 0",
        "trusted_schema = 0",
        "cell_size_check = 1",
    )

    def __init__(self, directory: Path, size_limit: int, timeout: float) -> None:
        self._patience = timeout
        self._opening = True
        self._settings = DEFAULT_SETTINGS | {
            "size_limit": size_limit,
            "eviction_policy": POLICY,
            "disk_min_file_size": 0,
            "sqlite_journal_mode": "delete",
            "sqlite_mmap_size": 0,
        }
        _inspect(directory, timeout)
        try:
            super().__init__(str(directory), timeout=timeout, disk=BytesDisk, **self._settings)
            self._recount()
            self._opening = False
            with self._transact() as (sql, cleanup):
                self._cull(time.time(), sql, cleanup)
            self.close()
        except BaseException:
            # A connection left open over a file that is then renamed could still write to its old path.
            self.close()
            raise

    @property
    def _con(self) -> sqlite3.Connection:
        if getattr(self._local, "pid", None) != os.getpid():
            self.close()
            self._local.pid = os.getpid()
        if not hasattr(self._local, "con"):
            path = os.path.join(self._directory, DBNAME)
            con = sqlite3.connect(path, timeout=self._patience, isolation_level=None)
            # Undecodable text then spoils its own row instead of the whole query.
            con.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            try:
                for pragma in self._pragmas:
                    con.execute(f"PRAGMA {pragma}").fetchall()
                if self._opening:
                    # Some fifty small commits that write what the next opening would write again.
                    con.execute("PRAGMA synchronous = 0")
            except BaseException:
                con.close()
                raise
            self._local.con = con
        return self._local.con  # type: ignore[no-any-return]

    @property
    def _sql_retry(self) -> Callable[..., sqlite3.Cursor]:
        def patiently(*statement: Any) -> sqlite3.Cursor:
            deadline = time.monotonic() + self._patience
            while True:
                try:
                    return self._con.execute(*statement)
                except sqlite3.OperationalError as error:
                    if not is_lock(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)

        return patiently

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        if key in METADATA:
            number = super().reset(key, value, update)
            if self._opening:
                return 0  # counted afresh before anything uses it
            # A planted size that is no whole number can make the sum a fraction.
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise Damaged(f"its setting {key} is {number!r}, not a number")
            return int(number)
        if key in self._settings:
            setattr(self, key, self._settings[key])
        return self._settings.get(key)

    def _cull(self, now: float, sql: Any, cleanup: Any, limit: int | None = None) -> None:
        # diskcache removes ten rows or none, whatever their size: too much of a small cache, too little of a full one.
        excess = self.volume() - self.size_limit
        if excess <= 0:
            return
        doomed = []
        for rowid, filename, size in sql("SELECT rowid, filename, size FROM Cache ORDER BY store_time"):
            if excess <= 0:
                break
            excess -= size if type(size) is int else 0
            doomed.append((rowid, filename))
        for rowid, filename in doomed:
            sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
            cleanup(filename)

    def _recount(self) -> None:
        for key, total in (("count", "COUNT(*)"), ("size", "CAST(TOTAL(size) AS INTEGER)")):
            self._sql_retry(f"UPDATE Settings SET value = (SELECT {total} FROM Cache) WHERE key = ?", (key,))

    def check_database(self) -> None:
        """Raise Damaged unless SQLite finds its pages and indexes in order."""
        _check_pages(self._con)

    def usage(self) -> tuple[int, int]:
        """Return the number of rows, and the bytes of their files and of the database."""
        return self.reset("count"), self.volume()

    def row(self, rowid: int) -> tuple[Any, ...] | None:
        """Return (rowid, key, raw, size, mode, filename, value) of one row."""
        query = "SELECT rowid, key, raw, size, mode, filename, value FROM Cache WHERE rowid = ?"
        found: tuple[Any, ...] | None = self._sql(query, (rowid,)).fetchone()
        return found

    def rowids(self) -> list[int]:
        return [rowid for (rowid,) in self._sql("SELECT rowid FROM Cache ORDER BY rowid").fetchall()]

    def filenames(self) -> set[Any]:
        return {name for (name,) in self._sql("SELECT filename FROM Cache").fetchall()}

    def drop(self, row: tuple[Any, ...]) -> bool:
        """Remove a row and its file, unless the row has changed since it was read."""
        with self._transact() as (sql, cleanup):
            if self.row(row[0]) != row:
                return False
            sql("DELETE FROM Cache WHERE rowid = ?", (row[0],))
            cleanup(row[5])
            return True

    def fault(self, row: tuple[Any, ...]) -> str:
        """Return what is wrong with a row and its file, or ""."""
        _, key, raw, size, mode, filename, value = row
        try:
            if not is_key(self._disk.get(key, raw)):
                raise Refused("its key is not a sha256 in hex")
            blob = self._disk.fetch(mode, filename, value, False)
            if len(blob) != size:
                raise Refused(f"its file has {len(blob)} bytes instead of {size}")
            decode(key, blob)
        except Refused as error:
            return str(error)
        except OSError as error:
            return f"its file cannot be read ({error.strerror})"
        return ""
