"""A few expensive values, each made once however many threads ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class _Entry(Generic[V]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: list[V] = []
        self.bytes = 0


class Pool(Generic[V]):
    """Keeps the ``limit`` most recently used values.

    A value that fails to be made is not kept; the next call tries again. Threads that ask for the same key wait for
    one of them to make it; different keys do not wait for each other.

    Args:
        limit: how many values are kept.
        most: bytes that the values may have together; the longest unused go, but never the one just made.
        weigh: returns the bytes of a value that was just made; None: only their number counts.
    """

    def __init__(self, limit: int, most: int = 0, weigh: Callable[[V], int] | None = None) -> None:
        self._limit, self._most, self._weigh = limit, most, weigh
        self._guard = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of ``key``, calling ``make`` where there is none."""
        with self._guard:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._limit:
                self._entries.popitem(last=False)
        with entry.lock:
            if not entry.values:
                entry.values.append(make())
                if self._weigh is not None:
                    entry.bytes = self._weigh(entry.values[0])
                    self._trim(entry)
            return entry.values[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the values that are kept now."""
        with self._guard:
            return sum(entry.bytes for entry in self._entries.values())

    def make_room(self, coming: int) -> None:
        """Let the longest unused values go before one of so many bytes is made, as they would after it."""
        with self._guard:
            total = coming + sum(entry.bytes for entry in self._entries.values())
            for key, entry in list(self._entries.items()):
                if total > self._most and entry.bytes:
                    total -= entry.bytes
                    del self._entries[key]

    def _trim(self, made: _Entry[V]) -> None:
        with self._guard:
            total = sum(entry.bytes for entry in self._entries.values())
            for key, entry in list(self._entries.items()):
                if total > self._most and entry is not made:
                    total -= entry.bytes
                    del self._entries[key]
