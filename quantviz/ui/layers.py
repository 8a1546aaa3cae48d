"""The Layers page's parts: pictures, the atlas of layers, the search over bits, and the protocol's switches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from quantviz import figures, images
from quantviz.comparison import CompareRequest
from quantviz.layerwise.attribution import attribution, stored_attribution
from quantviz.layerwise.bits_file import bits_bytes
from quantviz.layerwise.drift import layers_of
from quantviz.layerwise.pictures import dataset
from quantviz.layerwise.search import candidate_quant, search, stored_search
from quantviz.layerwise.sensitivity import only_layer, sensitivity, stored_sensitivity
from quantviz.layerwise.specs import Attribution, Candidate, LayerDrift, SearchResult, Sensitivity
from quantviz.specs import DEVIATIONS, ImageSample, WeightsRef, no_progress
from quantviz.ui import guarded, visible_progress, workbench
from quantviz.ui.controls import choose_request
from quantviz.ui.links import Linked, show_ignored
from quantviz.ui.once import once
from quantviz.ui.quantization import choose_bits_file, keep_bits, scheme_words
from quantviz.ui.results import cost_words, multiple_words, size_words
from quantviz.ui.serving import serving, visitors_path

_PLAIN = {"displayModeBar": False}
_MEASURES: dict[str, Literal["cam", "kl", "sqnr"]] = {
    "map drift": "cam",
    "KL of the classes": "kl",
    "SQNR of the logits": "sqnr",
}
_WIDTHS = ("2", "3", "4", "5", "6", "8")
_NO_LAYER = "none"


@dataclass(frozen=True, slots=True)
class LayerChoices:
    """What the widgets say.

    Attributes:
        request: model, weights, quantization and map; both maps explain the float network's top-1.
        pictures: reads the pictures; raises ImageError where one cannot be used.
        ignored: values of the link that no widget has, as sentences.
    """

    request: CompareRequest
    pictures: Callable[[], list[ImageSample]]
    ignored: tuple[str, ...]


def show_parts(parts: Mapping[str, Callable[[CompareRequest, list[ImageSample]], None]]) -> None:
    """Draw the sidebar, and a tab for each part; only the open one is drawn, and what fails in it stays in it."""
    choices = choose()
    show_ignored(choices.ignored)
    samples = choices.pictures()
    tabs = st.tabs(list(parts), key="part", bind="query-params")
    for tab, show in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab, guarded():
                show(choices.request, samples)


def choose() -> LayerChoices:
    """Draw the sidebar and return what is chosen; no picture is read yet."""
    linked = Linked()
    with st.sidebar:
        pictures = _pictures(linked)
        request = choose_request(linked, protocols=False, targets=False)
        choose_bits_file()
    return LayerChoices(request, pictures, tuple(linked.ignored))


def show_atlas(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show every layer's drift, or the button that measures it."""
    atlas = once(
        "atlas",
        (request, _ids(samples)),
        lambda progress: stored_sensitivity(workbench(), request, samples, progress),
        lambda progress: sensitivity(workbench(), request, samples, progress),
        "Measure every layer",
        f"Quantizes one layer at a time, then all but one, at {request.quant.label}: two networks a layer, run on "
        f"{_count(samples)}. A few minutes the first time; an interrupted run goes on where it ended.",
    )
    if atlas is None:
        return
    _floor_block(atlas)
    st.subheader("Drift over the network's depth")
    measure = st.segmented_control(
        "Drift of", list(_MEASURES), default="map drift", key="measure", bind="query-params", required=True
    )
    inspected = _inspected(atlas)
    _clickable(figures.depth_figure(atlas, measure=_MEASURES[measure or "map drift"], selected=inspected), "depth")
    st.caption("Click a point or a bar to see what that layer alone does to the map.")
    place = st.container()
    st.subheader("The layers that move the maps most")
    _clickable(figures.ranked_figure(atlas), "ranked")
    with st.expander(f"All {len(atlas.layers)} layers"):
        st.dataframe(_table(atlas), hide_index=True)
    with place:
        _layer_maps(atlas, request, samples)


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
        (asked, _ids(samples), *budgets.values()),
        lambda progress: stored_search(workbench(), asked, samples, progress=progress, **budgets),
        lambda progress: search(workbench(), asked, samples, progress=progress, **budgets),
        "Search",
        "Finds the smallest model whose mean map drift stays within the budget on every other picture; the pictures "
        "between are kept for a test. Inputs keep the activation bits chosen at the left; weights are rounded to "
        "nearest while searching. Some minutes the first time.",
    )
    if result is not None:
        _search_result(result, asked)


def show_attribution(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show which step of the paper's protocol costs how much, or the button that measures it."""
    asked = replace(request, quant=replace(request.quant, layer_bits=()))
    result = once(
        "attribution",
        (asked, _ids(samples)),
        lambda progress: stored_attribution(workbench(), asked, samples, progress),
        lambda progress: attribution(workbench(), asked, samples, progress),
        "Measure every switch",
        f"The published code of arXiv 2403.09939 differs from the calibrated protocol in {len(DEVIATIONS)} steps. Each "
        f"of the {2 ** len(DEVIATIONS)} combinations runs on {_count(samples)}: minutes the first time, and an "
        "interrupted run goes on where it ended.",
    )
    if result is not None:
        _attribution_result(result)


def _pictures(linked: Linked) -> Callable[[], list[ImageSample]]:
    st.subheader("Pictures", divider="gray")
    names = st.multiselect(
        "Bundled photographs", images.BUNDLED, images.BUNDLED, key="images", bind="query-params", placeholder="Choose"
    )
    folder = _folder(linked)
    most = st.number_input("At most so many of the folder", 1, 1000, 16, key="limit", bind="query-params")
    linked.check("limit", most)
    if folder:
        return lambda: dataset(folder, int(most))
    return lambda: [images.bundled(name) for name in names]


def _folder(linked: Linked) -> Path | None:
    """Draw the choice of a folder of pictures and return it; on a public server, of those that it was started with."""
    offered = {path.name: path for path in serving().datasets}
    if serving().public:
        none = "none"
        chosen = linked.select("Or a folder", [none, *offered], "dataset") if offered else none
        return offered.get(chosen)
    typed = st.text_input(
        "Or a folder on this machine",
        key="folder",
        bind="query-params",
        help="Its pictures, and those of the folders in it, take the place of the photographs. Where a folder is named "
        "as an ImageNet class (n02123045), accuracy is shown too.",
    ).strip()
    return visitors_path(typed) if typed else None


def _ids(samples: Sequence[ImageSample]) -> tuple[tuple[str, int | None], ...]:
    return tuple((sample.id, sample.label) for sample in samples)


def _count(samples: Sequence[object]) -> str:
    return f"{len(samples)} pictures" if len(samples) != 1 else "one picture"


def _untrained(weights: WeightsRef) -> None:
    if not weights.trained:
        st.warning("These weights are UNTRAINED (random): a sanity control, not a model.", icon=":material/casino:")


def _floor_block(atlas: Sensitivity) -> None:
    label, drift, floor = atlas.quant.label, atlas.network.cam, atlas.floor
    _untrained(atlas.weights)
    if drift is None:
        st.warning("No map here carries evidence: nothing can be said of its drift.", icon=":material/visibility_off:")
    elif floor.floor is not None:
        st.markdown(
            f"### At {label}, {atlas.model}'s maps drift by {figures.number(drift)}: "
            f"{multiple_words(drift, floor.floor)} a change that nobody sees does."
        )
    count = len(atlas.images)
    parts = [f"{atlas.network.flips * count:.0f} of {count} labels flipped"]
    if atlas.network.accuracy is not None:
        parts.append(f"accuracy {atlas.network.accuracy:.0%} on the {atlas.labelled} pictures with a known class")
    st.markdown(f"Mean over {_count(atlas.images)} of 1 − CC with the float network's map; {', '.join(parts)}.")
    st.subheader("Noise floor")
    st.plotly_chart(figures.floor_figure(floor, atlas.network, label), key="floor", config=_PLAIN)
    st.caption(
        "Drift that is not quantization: the float network against itself with every pixel up to one grey level up or "
        "down, or with the crop moved by one pixel; and two quantized networks, each calibrated on half of the "
        "calibration pictures. A bar is the mean over the pictures, a tick one of them. The larger of the first two is "
        "the floor, and drift is given as a multiple of it."
    )
    st.subheader("Cost")
    cost, columns = atlas.cost, st.columns(3)
    for column, what, value, part in (
        (columns[0], "Size", size_words(cost.bytes), cost.bytes / cost.float_bytes),
        (columns[1], "Bit operations", f"{cost.bops / 1e9:,.1f} G", cost.bops / cost.float_bops),
    ):
        column.metric(what, value, f"{part:.1%} of float32", delta_color="off", delta_arrow="off")
    columns[2].metric("MACs an image", f"{cost.macs / 1e6:,.0f} M")
    st.caption(f"{label}: {scheme_words(atlas.quant)}.")


def _inspected(atlas: Sensitivity) -> str:
    """Return the layer that is looked at: from the address, or "" where the network has none of that name."""
    name = st.session_state.get("inspect", st.query_params.get("inspect", ""))
    return name if any(layer.cost.name == name for layer in atlas.layers) else ""


def _clickable(figure: Any, key: str) -> None:
    """Draw a figure whose points are layers; a click chooses the layer that is looked at."""

    def clicked() -> None:
        points = st.session_state[key]["selection"]["points"]
        if points and (name := points[0].get("customdata")):
            st.session_state["inspect"] = name[0] if isinstance(name, list | tuple) else name

    st.plotly_chart(figure, key=key, config=_PLAIN, on_select=clicked, selection_mode="points")


def _layer_maps(atlas: Sensitivity, request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    names = [layer.cost.name for layer in atlas.layers]
    left, right = st.columns(2)
    name = left.selectbox("Layer", (_NO_LAYER, *names), key="inspect", bind="query-params")
    if name == _NO_LAYER:
        return
    shown = [sample.name for sample in samples]
    place = right.selectbox("Picture", range(len(samples)), format_func=lambda index: shown[index], key="shown")
    with visible_progress() as progress:
        comparison = workbench().compare(replace(request, quant=only_layer(atlas, name)), samples[place], progress)
    cc = comparison.scores["quantized_v_float"].cc
    verdict = "cannot be compared" if cc is None else f"drifts by {figures.number(max(1 - cc, 0.0))}"
    bits = "{} / {}".format(*(width or "float" for width in atlas.quant.bits_of(name)))
    st.markdown(f"With only `{name}` quantized (weights / input: {bits} bits), the map of {shown[place]} {verdict}.")
    st.plotly_chart(
        figures.maps_figure(comparison, opacity=0.55, name="this layer only"), key="layer_maps", config=_PLAIN
    )


def _table(atlas: Sensitivity) -> pd.DataFrame:
    floor = atlas.floor.floor

    def row(layer: LayerDrift) -> dict[str, Any]:
        cost = layer.cost
        return {
            "layer": cost.name,
            "kind": cost.kind,
            "depth": layer.depth + 1,
            "drift alone": layer.alone.cam,
            "x noise floor": None if not floor or layer.alone.cam is None else layer.alone.cam / floor,
            "drift of all but it": layer.all_but.cam,
            "KL alone, nats": layer.alone.kl,
            "SQNR alone, dB": layer.alone.sqnr,
            "weights": cost.weights,
            "million MACs": cost.macs / 1e6,
        }

    return pd.DataFrame([row(layer) for layer in atlas.ranked])


def _search_result(result: SearchResult, asked: CompareRequest) -> None:
    _untrained(result.weights)
    if result.found is None:
        st.warning(
            f"No bits among these keep the map drift within {result.max_drift:g}; allow more drift or flips, or wider "
            "weights.",
            icon=":material/search_off:",
        )
    else:
        _best_block(result, result.found, asked)
    st.subheader("Size against drift")
    st.plotly_chart(figures.front_figure(result), key="front", config=_PLAIN)
    st.caption(
        f"Searched on {_count(result.searched)}, tested on {len(result.held_out)} that the search did not see. A "
        "point further down and to the left is better."
    )


def _best_block(result: SearchResult, best: Candidate, asked: CompareRequest) -> None:
    unseen = best.held_out
    words = "" if unseen is None else f", {figures.number(unseen.cam)} on pictures that the search did not see"
    st.markdown(
        f"### {size_words(best.cost.bytes)}, {best.cost.bytes / best.cost.float_bytes:.0%} of float32: map drift "
        f"{figures.number(best.searched.cam)} on the searched pictures{words}."
    )
    st.caption(cost_words(best.cost))
    costs, _ = layers_of(workbench(), workbench().subject(asked), result.quant, no_progress)
    st.plotly_chart(figures.bits_figure(best.bits, costs), key="bits", config=_PLAIN)
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


def _bits_file(result: SearchResult, best: Candidate, asked: CompareRequest) -> bytes:
    """Return the bits in the scheme that is chosen, whose weights may be learned for them, unlike while searching."""
    if asked.quant == replace(result.quant, layer_bits=()):
        return bits_bytes(result)
    return bits_bytes(replace(asked.quant, layer_bits=best.bits), result.model, result.weights)


def _attribution_result(result: Attribution) -> None:
    _untrained(result.weights)
    gap = round(result.paper, 3) - round(result.calibrated, 3)
    st.markdown(
        f"### At {result.quant.label}, the mean CC is {result.calibrated:.3f} under the calibrated protocol and "
        f"{result.paper:.3f} under the paper's: a gap of {_signed(gap)}."
    )
    st.plotly_chart(figures.attribution_figure(result), key="attribution", config=_PLAIN)
    st.caption(
        f"A bar is a switch's Shapley value over {_count(result.images)}: the mean change of CC when it is "
        "switched on, over all orders in which the switches can be switched on. The bars add up to the whole gap."
    )
    if names := sorted({name for subset in result.unscored.values() for name in subset}):
        st.caption(f"Left out of some means, for want of a map with evidence: {', '.join(names)}.")
    shares = figures.shown_shares(result)
    frame = pd.DataFrame(
        {
            "switch": [name.replace("_", " ") for name in shares],
            "share of the gap": [_signed(share) for share in shares.values()],
            "CC with it alone": [
                "–" if name not in result.alone else f"{result.alone[name]:.3f}".replace("-", "−") for name in shares
            ],
            "what it does": [DEVIATIONS[name] for name in shares],
        }
    )
    st.table(frame.set_index("switch"))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
