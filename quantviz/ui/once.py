"""Computations that take minutes: asked for before they start, and shown at once where they are already done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import streamlit as st

from quantviz.comparison import CompareRequest
from quantviz.specs import Phase, Progress, QuantSpec, StoredRecord
from quantviz.ui import visible_progress, workbench

T = TypeVar("T")

_SLOW: Final = {
    "distilled": "Learning scales and biases takes some minutes the first time; after that, it comes from the cache.",
    "gptq": "Rounding by GPTQ takes a minute or two the first time; after that, it comes from the cache.",
}


def slow_words(quant: QuantSpec) -> str:
    """Return how long a quantization's weights take to be learned, or "" where that is no time to speak of."""
    return _SLOW.get(quant.rounding, "")


class _NotStartedError(Exception):
    """Raised through a computation that should not start yet."""


def once_asked(request: CompareRequest, progress: Progress, compute: Callable[[Progress], T]) -> T | None:
    """Compute, but ask before weights are learned for the first time; None where that is still to be answered.

    Args:
        request: which weights of which model; an answer holds for the session.
        progress: told what is being done.
        compute: called with the progress.
    """
    agreed: set[tuple[Any, ...]] = st.session_state.setdefault("agreed", set())
    key = (request.model, request.weights, request.quant)

    def tell(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        if phase is Phase.LEARNING and slow_words(request.quant):
            raise _NotStartedError
        progress(message, fraction, phase)

    place = st.empty()
    if key not in agreed:
        try:
            return compute(tell)
        except _NotStartedError:
            with place.container():
                st.info(slow_words(request.quant), icon=":material/timer:")
                if not st.button("Start", key="start_learning", type="primary"):
                    return None
    agreed.add(key)
    place.empty()
    return compute(progress)


def once(kind: str, key: tuple[Any, ...], compute: Callable[[Progress], T], button: str, explained: str) -> T | None:
    """Return a result of this session or of the store, else offer to compute it; None until that is done.

    Args:
        kind: what is computed.
        key: the request, the pictures, and whatever else decides the result.
        compute: called with the progress.
        button: what starts it.
        explained: what it does and how long that takes.
    """
    results: dict[tuple[Any, ...], T] = st.session_state.setdefault("results", {})
    if (kind, *key) in results:
        return results[(kind, *key)]
    found = _stored(compute)
    if found is None:
        with visible_progress() as progress:  # weights may have to be fetched first
            done = workbench().subject(key[0], progress).key("shown on the Layers page", what=kind, by=key)
        place = st.empty()
        if workbench().store.get(done) is None:
            with place.container():
                st.markdown(explained)
                if not st.button(button, type="primary", key=f"start_{kind}", icon=":material/play_arrow:"):
                    return None
        with visible_progress() as progress:
            found = compute(progress)
        place.empty()
        workbench().store.put(done, StoredRecord({}))
    results[(kind, *key)] = found
    return found


def _stored(compute: Callable[[Progress], T]) -> T | None:
    """Return what can be read from the store alone: reading tells no progress, so that the first word of it ends it."""

    def refuse(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        raise _NotStartedError

    try:
        return compute(refuse)
    except _NotStartedError:
        return None
