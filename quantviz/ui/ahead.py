"""Comparisons computed ahead in the background: one at a time in a server, and only while their visitor is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import streamlit as st

from quantviz.comparison import CompareRequest
from quantviz.specs import ImageSample, Phase, QuantvizError
from quantviz.ui import workbench

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
    """

    def __init__(
        self,
        requests: Sequence[CompareRequest],
        sample: ImageSample,
        compute: Callable[[CompareRequest, ImageSample, Callable[..., None]], object],
    ) -> None:
        self._requests, self._sample, self._compute = tuple(requests), sample, compute
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
                while not _ONE.acquire(timeout=_WAITING):
                    self._check()
                try:
                    self._check()
                    self._compute(request, self._sample, self._check)
                finally:
                    _ONE.release()
            except _Unwanted:
                return
            except QuantvizError:  # told when this bit-width is asked for
                self.failed.add(request)
            except Exception:
                logging.getLogger(__name__).exception("unexpected")
                self.failed.add(request)

    def _check(self, _message: str = "", _fraction: float | None = None, _phase: Phase = Phase.WORKING) -> None:
        if self._cancelled or monotonic() - self._seen > LEFT:
            raise _Unwanted


class _Unwanted(Exception):
    """Nobody waits for the result any more."""


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
    started = Ahead(requests, sample, lambda request, picture, check: bench.compare(request, picture, check))
    st.session_state["ahead"] = (tuple(requests), sample.id, started)
    return started
