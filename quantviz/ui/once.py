"""Computations that take minutes: asked for before they start, and shown at once where they are already done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import streamlit as st

from quantviz.comparison import CompareRequest
from quantviz.comparison.protocols import MANY_PASSES
from quantviz.layerwise.noise import with_floor
from quantviz.specs import Comparison, ImageSample, Progress, QuantSpec, QuantvizError, WeightsUnavailable
from quantviz.ui import Cancelled, show_cancelled, visible_progress, workbench
from quantviz.ui.network import models_at_hand
from quantviz.ui.observed import OBSERVED
from quantviz.ui.plain import code, plain
from quantviz.ui.turns import computing

T = TypeVar("T")

_MOST_RESULTS: Final = 12
"""Results that a session keeps; the store has the others."""

# What will stand there, in its size, so that nothing moves when it comes.
_SKELETON: Final = (
    '<div class="skeleton" role="status" aria-label="The maps are being computed">'
    '<i class="verdicts"></i><i class="panels"></i><i class="strip"></i></div>'
)

_SLOW: Final = {
    "distilled": "Learning scales and biases takes some minutes the first time; after that, it comes from the cache.",
    "gptq": "Rounding by GPTQ takes a minute or two the first time; after that, it comes from the cache.",
}


def slow_words(quant: QuantSpec) -> str:
    """Return how long a quantization's weights take to be learned, or "" where that is no time to speak of."""
    return _SLOW.get(quant.rounding, "")


def compared_once_asked(request: CompareRequest, sample: ImageSample) -> Comparison | None:
    """Compare, with the noise floor, but ask before weights are first learned; None until that is answered.

    Args:
        request: what to compare by; an answer holds for its model, weights and quantization, and for the session.
        sample: the picture.
    """
    bench = workbench()
    agreed: set[tuple[Any, ...]] = st.session_state.setdefault("agreed", set())
    learner, words = (request.model, request.weights, request.quant), slow_words(request.quant)
    with visible_progress() as progress:
        stored = bench.stored(request, sample, progress)
        if stored is not None:  # without a turn: nobody waits for what is there
            OBSERVED.count('comparisons_total{cache="hit"}')
            OBSERVED.took("cached_seconds", stored.seconds)
            return with_floor(bench, request, stored, progress)
        known = not words or learner in agreed or bench.has_learned(request, progress)
    if not known and not _started(partial(st.info, words, icon=":material/timer:"), "Start", "start_learning"):
        return None
    if words:
        agreed.add(learner)
    with computing(long=bool(words) or request.cam.method in MANY_PASSES) as progress:
        OBSERVED.count('comparisons_total{cache="miss"}')
        return with_floor(bench, request, bench.compare(request, sample, progress), progress)


def compared_or_before(request: CompareRequest, sample: ImageSample) -> tuple[CompareRequest, Comparison] | None:
    """Compare; where that cannot be done, say why, and return what was shown before.

    Args:
        request: as in ``compared_once_asked``.
        sample: the picture.

    Returns:
        What is shown, with what it was compared by; None where there is nothing to show.
    """
    before: tuple[CompareRequest, Comparison] | None = st.session_state.get("shown_before")
    place = st.empty()
    if before is None:
        place.html(_SKELETON)
    try:
        comparison = compared_once_asked(request, sample)
    except QuantvizError as error:
        place.empty()
        _show_refused(error)
        if before is not None:
            st.caption(f"Until then, here is {before[1].model} at {before[1].quant.label} as before.")
        return before
    place.empty()
    if comparison is None:
        return None
    st.session_state["shown_before"] = (request, comparison)
    return request, comparison


def _show_refused(error: QuantvizError) -> None:
    """Say why there is no comparison, and what can be done."""
    if isinstance(error, Cancelled):
        show_cancelled()
        return
    st.error(plain(error), icon=":material/error:")
    if isinstance(error, WeightsUnavailable):
        names = ", ".join(map(code, models_at_hand()))
        st.caption(f"These run now, without a download: {names}; and every network with *untrained* weights.")


def once(
    kind: str,
    key: tuple[Any, ...],
    stored: Callable[[Progress], T | None],
    compute: Callable[[Progress], T],
    button: str,
    explained: str,
) -> T | None:
    """Return a result of this session or of the store, or offer to compute it; None until that is done.

    Args:
        kind: what is computed.
        key: the request, the pictures, and whatever else decides the result.
        stored: returns the result where the store holds it, and None elsewhere, without computing it.
        compute: computes it.
        button: the words on the button that starts it.
        explained: what it does and how long that takes.
    """
    results: dict[tuple[Any, ...], T] = st.session_state.setdefault("results", {})
    if (kind, *key) in results:
        return results[(kind, *key)]
    with visible_progress() as progress:  # weights may have to be fetched first
        result = stored(progress)
    if result is None:
        if not _started(partial(st.markdown, explained), button, f"start_{kind}"):
            return None
        with computing(long=True) as progress:
            result = compute(progress)
    while len(results) >= _MOST_RESULTS:
        del results[next(iter(results))]
    results[(kind, *key)] = result
    return result


def _started(explain: Callable[[], object], button: str, key: str) -> bool:
    """Offer to start something that takes long; return whether it was started, and then show the offer no more."""
    place = st.empty()
    with place.container():
        explain()
        if not st.button(button, type="primary", key=key, icon=":material/play_arrow:"):
            return False
    place.empty()
    return True
