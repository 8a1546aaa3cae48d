"""A line of visitors, of whom a few are served at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from quantviz.specs import Phase, Progress, UsageError

_LOOK_AGAIN: Final = 0.4
"""Seconds after which who waits is told again how many are before, so that who has left is noticed."""


class Line:
    """Who is served, and who waits.

    Args:
        at_once: how many are served at the same time.
        most_waiting: how many may wait; who comes after them is sent away.
    """

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._at_once, self._most_waiting = at_once, most_waiting
        self._served = 0
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, progress: Progress) -> Iterator[None]:
        """Wait for one's turn, and hold it for the block.

        Args:
            progress: told how many are before; whatever it raises leaves the line.

        Raises:
            UsageError: too many wait already.
        """
        ticket = object()
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                raise UsageError(
                    f"{len(self._waiting)} visitors' files are waiting already; try again in some minutes."
                )
            self._waiting.append(ticket)
        try:
            while not self._admitted(ticket):
                with self._changed:
                    before = self._served + self._waiting.index(ticket)
                progress(f"Waiting for the files of {before} other visitors", None, Phase.WORKING)
        except BaseException:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            raise
        try:
            yield
        finally:
            with self._changed:
                self._served -= 1
                self._changed.notify_all()

    def _admitted(self, ticket: object) -> bool:
        """Admit whoever is first and finds a place; else wait for a moment."""
        with self._changed:
            if self._waiting[0] is not ticket or self._served >= self._at_once:
                self._changed.wait(_LOOK_AGAIN)
            if self._waiting[0] is not ticket or self._served >= self._at_once:
                return False
            self._waiting.pop(0)
            self._served += 1
            return True
