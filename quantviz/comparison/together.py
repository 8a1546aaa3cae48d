"""Two computations at the same time, each in one thread, that report to one progress."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Final, TypeVar

from quantviz.cam import cores
from quantviz.specs import Phase, Progress

A = TypeVar("A")
B = TypeVar("B")

_LOOK_AGAIN: Final = 0.1
"""Seconds after which the caller's progress is told again what the other computation does."""


def together(first: Callable[[Progress], A], second: Callable[[Progress], B], progress: Progress) -> tuple[A, B]:
    """Return the results of two computations; with two of torch's threads or more, made at the same time.

    Each computes in one thread, so that the results are the same either way. The caller must hold no lock of a network
    that the second one runs.

    Args:
        first: computes in the calling thread.
        second: computes in another thread; it must call nothing that belongs to the calling one, but its progress.
        progress: called in the calling thread only; whatever it raises ends both.
    """
    if cores() < 2:
        return first(progress), second(progress)
    relay = _Relay()
    waiting = _helpers().submit(second, relay)
    try:
        done = first(progress)
        if waiting.cancel():  # no helper has come to it yet
            return done, second(progress)
        while not wait([waiting], _LOOK_AGAIN).done:
            relay.tell(progress)
    except BaseException:
        relay.stopped = True
        wait([waiting])
        raise
    return done, waiting.result()


class _Relay:
    """Takes messages in one thread, for another to pass on; raises where that wants an end."""

    def __init__(self) -> None:
        self.stopped = False
        self._last: tuple[str, float | None, Phase] | None = None

    def __call__(self, message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        if self.stopped:
            raise _StoppedError
        self._last = message, fraction, phase

    def tell(self, progress: Progress) -> None:
        if self._last is not None:
            progress(*self._last)


class _StoppedError(Exception):
    """The other computation has ended by an exception, which is the one that is told."""


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "together")
