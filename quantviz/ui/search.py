"""The search over bit-widths: its budgets, what it found, and its front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import streamlit as st

from quantviz import figures
from quantviz.comparison import CompareRequest
from quantviz.layerwise.bits_file import bits_bytes
from quantviz.layerwise.drift import layers_of
from quantviz.layerwise.search import candidate_quant, search, stored_search
from quantviz.layerwise.specs import Candidate, SearchResult
from quantviz.specs import ImageSample, LayerCost, counted, no_progress
from quantviz.study.examples import shipped_example
from quantviz.ui import workbench
from quantviz.ui.charts import show_chart
from quantviz.ui.example import EXAMPLE, example
from quantviz.ui.layers import ids_of, show_untrained
from quantviz.ui.once import once
from quantviz.ui.quantization import keep_bits, scheme_words
from quantviz.ui.results import cost_words, size_words

_WIDTHS: Final = ("2", "3", "4", "5", "6", "8")


def show_search(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show the bits that a search found, or what it needs to start."""
    columns = st.columns(2)
    drift = columns[0].number_input(
        "Map drift allowed, 1 − CC", 0.0, 1.0, 0.02, 0.005, format="%.3f", key="max_drift", bind="query-params"
    )
    flips = columns[1].slider("Labels that may flip", 0, 100, 100, 5, format="%d %%", key="flips", bind="query-params")
    widths = st.pills(
        "Weight bits to choose from",
        _WIDTHS,
        selection_mode="multi",
        default=_WIDTHS,
        key="widths",
        bind="query-params",
    )
    asked = replace(request, quant=replace(request.quant, layer_bits=()))
    budgets: dict[str, Any] = {
        "max_drift": float(drift),
        "max_flips": None if flips == 100 else flips / 100,
        "widths": tuple(sorted(int(width) for width in widths)),
    }
    result = once(
        "search",
        (asked, ids_of(samples), *budgets.values()),
        lambda progress: stored_search(workbench(), asked, samples, progress=progress, **budgets),
        lambda progress: search(workbench(), asked, samples, progress=progress, **budgets),
        "Search",
        "Finds the smallest model whose mean map drift stays within the budget on every other picture; the pictures "
        "between are kept for a test. Inputs keep the activation bits chosen at the left; weights are rounded to "
        "nearest while searching. Some minutes the first time.",
    )
    if result is not None:
        _search_result(result, asked)
        return
    with example(f"{EXAMPLE}, with a drift of at most {shipped_example(SearchResult).max_drift:g}"):
        _example_search(shipped_example(SearchResult))


def _example_search(result: SearchResult) -> None:
    if (best := result.found) is not None:
        _best_words(best)
        _bits_chart(best, (), result.model)
    _front_block(result)


def _search_result(result: SearchResult, asked: CompareRequest) -> None:
    show_untrained(result.weights)
    if result.found is None:
        st.warning(
            f"No bits among these keep the map drift within {result.max_drift:g}; allow more drift or flips, or wider "
            "weights.",
            icon=":material/search_off:",
        )
    else:
        _best_block(result, result.found, asked)
    _front_block(result)


def _front_block(result: SearchResult) -> None:
    show_chart(
        figures.front_figure(result),
        "front",
        heading="Size against drift",
        caption=f"Searched on {counted(len(result.searched), 'picture')}, tested on {len(result.held_out)} that the "
        "search did not see. A point further down and to the left is better.",
        stem=f"quantviz-search-{result.model}",
    )


def _best_block(result: SearchResult, best: Candidate, asked: CompareRequest) -> None:
    _best_words(best)
    costs, _ = layers_of(workbench(), workbench().subject(asked), result.quant, no_progress)
    _bits_chart(best, costs, result.model)
    data, name = _bits_file(result, best, asked), f"quantviz-bits-{result.model}.json"
    left, right = st.columns(2)
    left.download_button(
        "Bits file (JSON)",
        data,
        name,
        "application/json",
        key="download_bits",
        on_click="ignore",
        icon=":material/download:",
        width="stretch",
    )
    right.button(
        "Use these bits",
        on_click=keep_bits,
        args=(name, data),
        help="On Compare and here, in place of bits and scheme at the left.",
        key="use_bits",
        icon=":material/tune:",
        width="stretch",
    )
    st.caption(f"{candidate_quant(result, best).label}: {scheme_words(result.quant)}.")


def _best_words(best: Candidate) -> None:
    unseen = best.held_out
    words = "" if unseen is None else f", {figures.number(unseen.cam)} on pictures that the search did not see"
    st.markdown(
        f"### {size_words(best.cost.bytes)}, {best.cost.bytes / best.cost.float_bytes:.0%} of float32: map drift "
        f"{figures.number(best.searched.cam)} on the searched pictures{words}."
    )
    st.caption(cost_words(best.cost))


def _bits_chart(best: Candidate, costs: Sequence[LayerCost], model: str) -> None:
    show_chart(
        figures.bits_figure(best.bits, costs),
        "bits",
        heading="Bits of each layer",
        caption="In order of execution. A tensor that stays in float has 32 bits.",
        stem=f"quantviz-bits-{model}",
    )


def _bits_file(result: SearchResult, best: Candidate, asked: CompareRequest) -> bytes:
    """Return the bits in the scheme that is chosen, whose weights may be learned for them, unlike while searching."""
    if asked.quant == replace(result.quant, layer_bits=()):
        return bits_bytes(result)
    return bits_bytes(replace(asked.quant, layer_bits=best.bits), result.model, result.weights)
