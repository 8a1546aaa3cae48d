"""Turns between visitors: what computes long waits in one line, shows its place, and stays within a limit."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import streamlit as st

from quantviz.comparison.waiting import Line
from quantviz.specs import Phase, Progress, UsageError
from quantviz.ui import visible_progress
from quantviz.ui.observed import OBSERVED
from quantviz.ui.serving import serving

_MOST_WAITING: Final = 64
_HELD = threading.local()


@st.cache_resource(show_spinner=False)
def line() -> Line:
    """Return the line of all sessions: a place for each core, two at least, one of them kept for what is quick."""
    at_once = max(2, os.cpu_count() or 1)
    return Line(at_once, _MOST_WAITING, "{} other computations", most_long=at_once - 1)


@contextmanager
def computing(*, long: bool = False) -> Iterator[Progress]:
    """Wait for this session's turn, and show what is being computed while a block runs.

    Look into the store first: what is there needs no turn. No lock may be held meanwhile, since others wait for it
    while this waits for them.

    Args:
        long: it takes many passes of a network; one place is always left for what does not.

    Raises:
        UsageError: too many wait; or from the progress, when the server's limit of time is over.
    """
    with visible_progress() as show:
        if getattr(_HELD, "turn", False):  # a turn within a turn would wait for itself
            yield show
            return
        came = time.monotonic()
        try:
            with line().turn(show, long=long):
                _note(came)
                _HELD.turn = True
                began = time.monotonic()
                try:
                    yield _limited(show, serving().seconds)
                finally:
                    _HELD.turn = False
                    OBSERVED.took("compute_seconds", time.monotonic() - began)
        finally:
            _note(None)


def _note(came: float | None) -> None:
    if came is not None:
        OBSERVED.took("queue_seconds", time.monotonic() - came)
    OBSERVED.set("queue_waiting", line().waiting)
    OBSERVED.set("queue_running", line().served)


def _limited(progress: Progress, seconds: int) -> Progress:
    """Return a progress that ends what takes longer than so many seconds; 0 for no limit."""
    if not seconds:
        return progress
    until = time.monotonic() + seconds

    def told(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        if time.monotonic() > until:
            raise UsageError(
                f"This takes more than the {seconds} s that a computation has on this server; choose a quicker method "
                "or fewer pictures, or run quantviz on your own machine."
            )
        progress(message, fraction, phase)

    return told
