"""Blobs that another thread writes, a moment later and together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

_MOST_WAITING = 16  # blobs that are not written yet
_TOGETHER = 0.03  # seconds


class WrittenLater:
    """Blobs by key, written together once no more has come for a moment; threads may share it.

    A disk is waited for as long as a small network computes, and readers of the database wait with the writer.

    Args:
        write: writes blobs; called in a thread of its own.
        let_go: called in that thread when it ends.
    """

    def __init__(self, write: Callable[[Mapping[str, bytes]], object], let_go: Callable[[], object]) -> None:
        self._write, self._let_go = write, let_go
        self._changed = threading.Condition()
        self._waiting: dict[str, bytes] = {}
        self._write_at, self._hurried = 0.0, 0
        self._writer: ThreadPoolExecutor | None = None

    def get(self, key: str) -> bytes | None:
        """Return a blob that is not written yet, or None."""
        with self._changed:
            return self._waiting.get(key)

    def put(self, key: str, blob: bytes) -> None:
        """Have a blob written, in place of one that waits under the same key."""
        with self._changed:
            self._waiting[key] = blob
            self._write_at = time.monotonic() + _TOGETHER
            if self._writer is None:
                self._writer = ThreadPoolExecutor(1, "store")
            many = self._start(self._writer) is None or len(self._waiting) > _MOST_WAITING
        if many:
            self.flush()

    def flush(self) -> None:
        """Wait until everything is written."""
        with self._changed:
            if self._writer is None:
                return
            self._hurried += 1
            self._changed.notify_all()
            written = self._start(self._writer)
        try:
            if written is None:
                self._work()
            else:
                written.result()
        finally:
            with self._changed:
                self._hurried -= 1

    def close(self) -> None:
        """Write everything and end the thread."""
        self.flush()
        with self._changed:
            writer, self._writer = self._writer, None
        if writer is not None:
            self._start(writer, self._let_go)
            writer.shutdown()

    def _start(self, writer: ThreadPoolExecutor, work: Callable[[], object] | None = None) -> Future[object] | None:
        """Give the writer its work, or return None where it takes none: Python ends all pools before it exits."""
        try:
            return writer.submit(work or self._work)
        except RuntimeError:
            return None

    def _work(self) -> None:
        with self._changed:
            while not self._hurried and (left := self._write_at - time.monotonic()) > 0:
                self._changed.wait(left)
            blobs = dict(self._waiting)
        if not blobs:
            return
        self._write(blobs)
        with self._changed:
            for key, blob in blobs.items():
                if self._waiting.get(key) is blob:  # else a later one is on its way
                    del self._waiting[key]
