"""The store that the rest of the program sees: open, get, put, verify, clear, and rebuilding after damage."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from diskcache.core import DBNAME

from quantviz.specs import StoredRecord, StoreError
from quantviz.store._folder import (
    check_owner,
    identity,
    make_private,
    opening_lock,
    orphans,
    set_aside,
    set_aside_files,
)
from quantviz.store._later import WrittenLater
from quantviz.store._record import LARGEST_RECORD, Refused, decode, encode, is_key
from quantviz.store._rows import FAILURES, NAME, POLICY, Rows, is_damage, is_lock

T = TypeVar("T")

_SMALLEST_LIMIT = 2**20


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The state of a store.

    Attributes:
        directory: where it lies.
        entries: number of records.
        bytes: of all records and the database.
        size_limit: bytes above which the oldest records are evicted.
        policy: how records are chosen for eviction.
        healthy: False while records cannot be read or kept.
        problem: one sentence for the user, or "" when there is nothing to tell.
        set_aside: damaged databases that were moved out of the way.
    """

    directory: Path
    entries: int
    bytes: int
    size_limit: int
    policy: str
    healthy: bool
    problem: str
    set_aside: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of checking every entry.

    Attributes:
        checked: entries looked at.
        good: entries whose file, size, digest and key are right.
        bad: (key, reason) of the others.
        orphans: files that no entry names, older than a minute (a younger one may be in the making).
        removed: bad entries and orphans that the repair removed; files of foreign names are left alone.
    """

    checked: int
    good: int
    bad: tuple[tuple[str, str], ...]
    orphans: tuple[Path, ...]
    removed: int = 0


class TensorStore:
    """Records of arrays by key, in one folder shared by any number of threads and processes.

    A broken store is a slow store, never a failed comparison: ``get``, ``put`` and ``info`` raise nothing that the
    disk, the database or another process causes. After such trouble ``info().problem`` says what happened. While the
    database stays locked the store rests, so that not every call waits. A damaged database is set aside when the
    store is next opened, which a running store does by itself.

    Args:
        directory: the store's folder, made with mode 0700 at the first use.
        size_limit: bytes of records and database above which the least recently stored records are evicted, 2**20
            and up. A record of more than half of it, or of more than 256 MiB, is not kept. A later store's limit
            replaces an earlier one's.
        timeout: seconds to wait for a locked database.

    Raises:
        StoreError: the size limit is too small.
    """

    def __init__(self, directory: Path, *, size_limit: int = 4 * 2**30, timeout: float = 2.0) -> None:
        if size_limit < _SMALLEST_LIMIT:
            raise StoreError(f"Cache size limit {size_limit} bytes is too small; use {_SMALLEST_LIMIT} or more.")
        self._directory = Path(directory).absolute()
        self._size_limit = size_limit
        self._timeout = timeout
        self._lock = threading.Lock()
        self._rows: Rows | None = None
        self._file: tuple[int, int] | None = None
        self._retry_at = 0.0
        self._closed = False
        self._problems: dict[str, str] = {}
        self._note = ""
        self._later = WrittenLater(self._write, self._let_go)

    def __enter__(self) -> TensorStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> StoredRecord | None:
        """Return the record kept under ``key``, or None.

        Args:
            key: sha256 in lowercase hex.

        Returns:
            The same arrays bit for bit, read-only, and the metadata as JSON gives it back (a tuple as a list).

        Raises:
            StoreError: the key is not a sha256 in hex.
        """
        _check_key(key)
        waiting = self._later.get(key)
        blob = self._attempt("read", lambda rows: rows.get(key)) if waiting is None else waiting
        try:
            return None if blob is None else decode(key, blob)
        except Refused:
            return None

    def put(self, key: str, record: StoredRecord) -> bool:
        """Keep ``record`` under ``key``, in place of an earlier one.

        Args:
            key: sha256 in lowercase hex.
            record: arrays of float32, float64, uint8 or signed integers, any shape; metadata that JSON can hold,
                without NaN.

        Returns:
            False when it could not be kept.

        Raises:
            StoreError: the key, a dtype, an array's name or the metadata is none of those.
        """
        _check_key(key)
        blob = encode(key, record)
        if len(blob) > min(self._size_limit // 2, LARGEST_RECORD):
            return False
        return self._attempt("written", lambda rows: rows.put(key, blob)) is True

    def put_later(self, key: str, record: StoredRecord) -> None:
        """Keep ``record`` under ``key`` as ``put`` does, but written by another thread, a moment later.

        ``get`` gives it at once; ``close``, ``info``, ``verify`` and ``clear`` wait until it is written.

        Args:
            key: as in ``put``.
            record: as in ``put``.

        Raises:
            StoreError: as ``put``.
        """
        _check_key(key)
        blob = encode(key, record)
        if self._closed or len(blob) > min(self._size_limit // 2, LARGEST_RECORD):
            return
        self._later.put(key, blob)

    def flush(self) -> None:
        """Wait until everything that ``put_later`` was given is written."""
        self._later.flush()

    def _write(self, blobs: Mapping[str, bytes]) -> None:
        self._attempt("written", lambda rows: rows.put_all(blobs))

    def info(self) -> StoreInfo:
        """Return the state of the store; zero entries and a problem where it cannot be read."""
        self.flush()
        entries, size = self._attempt("read", Rows.usage) or (0, 0)
        problem = [*self._problems.values(), ""][0]
        return StoreInfo(
            self._directory,
            entries,
            size,
            self._size_limit,
            POLICY,
            healthy=not problem,
            problem=problem or self._note,
            set_aside=tuple(path for path in set_aside_files(self._directory) if path.name.startswith(f"{DBNAME}.")),
        )

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Check key, mode, file name, size, digest and content of every entry, and look for files without one.

        Args:
            repair: also remove the bad entries, and the orphans that bear a name of the store's own.

        Raises:
            StoreError: the store cannot be read, or not repaired.
        """
        self.flush()
        return self._insist("verified", lambda rows: _verified(rows, self._directory, repair))

    def clear(self) -> int:
        """Remove every entry, files left over without one, and damaged databases that were set aside.

        Returns:
            The number of entries removed.

        Raises:
            StoreError: the store cannot be written.
        """

        def clear(rows: Rows) -> int:
            removed: int = rows.clear(retry=False)
            for path in orphans(self._directory, set()):
                _remove_generated(rows, self._directory, path)
            for path in set_aside_files(self._directory):
                path.unlink(missing_ok=True)
            return removed

        self.flush()
        return self._insist("cleared", clear)

    def close(self) -> None:
        """Let go of the database; afterwards every ``get`` is a miss and every ``put`` is refused."""
        self._later.close()
        self._closed = True
        self._problems = {"opened": f"The cache in {self._directory} is closed; make a new TensorStore to use it."}
        self._forget()

    def _attempt(self, what: str, action: Callable[[Rows], T]) -> T | None:
        """Return what ``action`` returns, or None where the store or the row is broken."""
        rows = self._opened()
        if rows is None:
            return None
        try:
            result = action(rows)
        except Refused:
            return None
        except FAILURES as error:
            self._note_trouble(what, error, rows)
            return None
        if what == "written":
            self._problems.clear()
        self._problems.pop(what, None)
        return result

    def _insist(self, what: str, action: Callable[[Rows], T]) -> T:
        self._retry_at = 0.0
        result = self._attempt(what, action)
        if result is None:
            message = self._problems.get(what) or [*self._problems.values(), ""][0]
            raise StoreError(message or f"The cache in {self._directory} could not be {what}; try again.")
        return result

    def _opened(self) -> Rows | None:
        if self._closed or time.monotonic() < self._retry_at:
            return None
        rows = self._rows
        # Someone may have deleted the folder or set the database aside; rows of a file without a name are lost.
        if rows is not None and self._file == identity(self._directory):
            return rows
        if not self._lock.acquire(timeout=self._timeout):
            return None
        try:
            if self._rows is None or self._file != identity(self._directory):
                self._forget()
                rows, note = _open(self._directory, self._size_limit, self._timeout)
                self._rows, self._file, self._note = rows, identity(self._directory), note or self._note
                self._problems.clear()
            return self._rows
        except FAILURES as error:
            self._note_trouble("opened", error, None)
            return None
        finally:
            self._lock.release()

    def _let_go(self) -> None:
        """Close this thread's own connection."""
        if self._rows is not None:
            self._rows.close()

    def _forget(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()

    def _note_trouble(self, what: str, error: BaseException, rows: Rows | None) -> None:
        if rows is not None:
            rows.close()  # also rolls back a transaction that failed at its commit
        if rows is None or is_lock(error) or is_damage(error):
            self._retry_at = time.monotonic() + 5 * self._timeout
        if is_damage(error) and rows is self._rows:
            self._rows = None
        if is_lock(error):
            reason = "another process holds its database or it is read-only; close that process or try again later"
        elif is_damage(error):
            reason = f"its database is damaged ({error}); it is rebuilt the next time the cache is opened"
        else:
            reason = f"{error}; see to its space and permissions, or set QUANTVIZ_CACHE to another folder"
        self._problems[what] = f"The cache in {self._directory} could not be {what}: {reason}."


def _check_key(key: str) -> None:
    if not is_key(key):
        raise StoreError(f"Cache key {key!r} is not a sha256 of 64 lowercase hex digits; use digest_of.")


def _open(directory: Path, size_limit: int, timeout: float) -> tuple[Rows, str]:
    """Open the store's table, setting a damaged database aside; return it and a note for the user."""
    if os.path.expandvars(directory) != str(directory):
        raise OSError(f"diskcache would replace the variable in the folder's name {directory.name!r}")
    make_private(directory)
    check_owner(directory)
    # One process at a time: the tables of a database in the making would be taken for damage, and set aside.
    with opening_lock(directory, timeout):
        try:
            return _rows(directory, size_limit, timeout), ""
        except FAILURES as error:
            if not is_damage(error):
                raise
            damage = str(error)
        aside = set_aside(directory)
        rows = _rows(directory, size_limit, timeout)
        # Without their rows the old files cannot be found, and would not count towards the size limit.
        for path in orphans(directory, set(), in_flight=0.0):
            _remove_generated(rows, directory, path)
    return rows, f"The cache's database was damaged ({damage}); it was set aside as {aside} and a new one begun."


def _rows(directory: Path, size_limit: int, timeout: float) -> Rows:
    """Open the table, again for ``timeout`` seconds where it is locked: SQLite tells of some locks without a wait."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return Rows(directory, size_limit, timeout)
        except FAILURES as error:
            if not is_lock(error) or time.monotonic() >= deadline:
                raise
        time.sleep(0.02)


def _remove_generated(rows: Rows, directory: Path, path: Path) -> bool:
    name = path.relative_to(directory).as_posix()
    rows.disk.remove(name)
    return NAME.fullmatch(name) is not None and not os.path.lexists(path)


def _verified(rows: Rows, directory: Path, repair: bool) -> VerifyReport:
    rows.check_database()
    good, bad, names, removed = 0, [], set(), 0
    for key in rows:
        names.add(rows.get(key, read=True))
        if fault := rows.fault(key):
            # While nobody can write: what is wrong still is not being replaced just now.
            with rows.transact():
                if (fault := rows.fault(key)) and repair:
                    removed += rows.delete(key)
        if fault:
            bad.append((str(key)[:80], fault))
        good += fault == ""
    left = orphans(directory, names)
    if repair:
        removed += sum(_remove_generated(rows, directory, path) for path in left)
    return VerifyReport(good + len(bad), good, tuple(bad), tuple(left), removed)
