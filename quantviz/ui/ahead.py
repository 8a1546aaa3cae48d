"""Comparisons computed ahead in the background: one at a time in a server, and only while nobody waits for another.

Whoever asks for something comes first: what is computed ahead is left where it stands, and begun again once the line of
visitors is empty. What it has put into the store by then is found there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Final

import streamlit as st

from quantviz.comparison import CompareRequest
from quantviz.specs import ImageSample, Phase, QuantvizError
from quantviz.ui import workbench
from quantviz.ui.turns import line

LEFT: Final = 8.0
"""Seconds without a look after which a visitor counts as gone."""

_WAITING: Final = 0.2  # seconds after which who waits looks whether it is still wanted
_ONE: Final = threading.Lock()


class Ahead:
    """Computes comparisons of one visitor, the nearest first, into the store.

    Args:
        requests: what to compare by, in order.
        sample: the picture.
        compute: computes one; whatever ``progress`` raises ends it.
        busy: says whether somebody computes, or waits to, what was asked for.
    """

    def __init__(
        self,
        requests: Sequence[CompareRequest],
        sample: ImageSample,
        compute: Callable[[CompareRequest, ImageSample, Callable[..., None]], object],
        busy: Callable[[], bool],
    ) -> None:
        self._requests, self._sample, self._compute, self._busy = tuple(requests), sample, compute, busy
        self._cancelled = False
        self._seen = monotonic()
        self.failed: set[CompareRequest] = set()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether something is still to come."""
        return self._thread.is_alive()

    def look(self) -> None:
        """Note that the visitor is still there."""
        self._seen = monotonic()

    def cancel(self) -> None:
        """End it at the next step of what is being computed."""
        self._cancelled = True

    def _work(self) -> None:
        for request in self._requests:
            try:
                while not self._done(request):
                    pass
            except _Unwanted:
                return
            except QuantvizError:  # told when this bit-width is asked for
                self.failed.add(request)
            except Exception:
                logging.getLogger(__name__).exception("unexpected")
                self.failed.add(request)

    def _done(self, request: CompareRequest) -> bool:
        """Compute a comparison as soon as nobody else computes; return whether it came to its end."""
        while self._busy() or not _ONE.acquire(timeout=_WAITING):
            self._check()
            sleep(_WAITING)
        try:
            self._give_way()
            self._compute(request, self._sample, self._give_way)
        except _Elsewhere:
            return False
        finally:
            _ONE.release()
        return True

    def _check(self) -> None:
        if self._cancelled or monotonic() - self._seen > LEFT:
            raise _Unwanted

    def _give_way(self, _message: str = "", _fraction: float | None = None, _phase: Phase = Phase.WORKING) -> None:
        self._check()
        if self._busy():
            raise _Elsewhere


class _Unwanted(Exception):
    """Nobody waits for the result any more."""


class _Elsewhere(Exception):
    """The processor is wanted for what somebody asked for."""


def ahead(requests: Sequence[CompareRequest], sample: ImageSample) -> Ahead | None:
    """Compute these for this visitor in the background, in place of what was computed for them before.

    Args:
        requests: what the store does not hold yet, the nearest first; none: end what is running.
        sample: the picture.

    Returns:
        What is at work, or None where nothing is to be done.
    """
    before: tuple[tuple[CompareRequest, ...], str, Ahead] | None = st.session_state.get("ahead")
    if before is not None:
        if requests and before[1] == sample.id and set(requests) <= set(before[0]) and before[2].running:
            before[2].look()
            return before[2]
        before[2].cancel()
        del st.session_state["ahead"]
    if not requests:
        return None
    bench = workbench()
    visitors = line()

    def compute(request: CompareRequest, picture: ImageSample, progress: Callable[..., None]) -> object:
        return bench.compare(request, picture, progress)

    started = Ahead(requests, sample, compute, lambda: visitors.busy)
    st.session_state["ahead"] = (tuple(requests), sample.id, started)
    return started
