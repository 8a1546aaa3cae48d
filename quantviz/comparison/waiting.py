"""A line of visitors, of whom a few are served at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from quantviz.specs import Phase, Progress, UsageError

_LOOK_AGAIN: Final = 0.4
"""Seconds after which who waits is told again how many are before, so that who has left is noticed."""


@dataclass(eq=False, slots=True)
class _Ticket:
    long: bool


class Line:
    """Who is served, and who waits, in the order of their coming.

    Args:
        at_once: how many are served at the same time.
        most_waiting: how many may wait; who comes after them is sent away.
        what: the words for what others are before one with, ``"the files of {} other visitors"`` say.
        most_long: how many of those served may take long, so that others pass them; None for all.
    """

    def __init__(
        self,
        at_once: int,
        most_waiting: int,
        what: str = "the files of {} other visitors",
        most_long: int | None = None,
    ) -> None:
        self._at_once, self._most_waiting, self._what = at_once, most_waiting, what
        self._most_long = at_once if most_long is None else most_long
        self._served: list[_Ticket] = []
        self._waiting: list[_Ticket] = []
        self._changed = threading.Condition()

    @property
    def served(self) -> int:
        """How many are served now."""
        return len(self._served)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether anyone is served or waits."""
        return bool(self._served or self._waiting)

    @contextmanager
    def turn(self, progress: Progress, *, long: bool = False) -> Iterator[None]:
        """Wait for one's turn, and hold it for the block.

        Args:
            progress: told how many are before; whatever it raises leaves the line.
            long: what is to be done takes long.

        Raises:
            UsageError: too many wait already.
        """
        ticket = _Ticket(long)
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                before = self._what.format(len(self._waiting))
                raise UsageError(f"{before[0].upper()}{before[1:]} are waiting already; try again in some minutes.")
            self._waiting.append(ticket)
        try:
            while not self._admitted(ticket):
                with self._changed:
                    before = self._what.format(len(self._served) + self._waiting.index(ticket))
                progress(f"Waiting for {before}", None, Phase.WORKING)
        except BaseException:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            raise
        try:
            yield
        finally:
            with self._changed:
                self._served.remove(ticket)
                self._changed.notify_all()

    def _admitted(self, ticket: _Ticket) -> bool:
        """Admit whoever is first of those that find a place; else wait for a moment."""
        with self._changed:
            if self._next() is not ticket:
                self._changed.wait(_LOOK_AGAIN)
            if self._next() is not ticket:
                return False
            self._waiting.remove(ticket)
            self._served.append(ticket)
            self._changed.notify_all()  # there may be a place for another
            return True

    def _next(self) -> _Ticket | None:
        """Return whose turn it is, or None while every place is taken."""
        if len(self._served) >= self._at_once:
            return None
        room = sum(ticket.long for ticket in self._served) < self._most_long
        return next((ticket for ticket in self._waiting if room or not ticket.long), None)
