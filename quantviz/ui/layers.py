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
from quantviz.layerwise.pictures import dataset
from quantviz.layerwise.sensitivity import only_layer, sensitivity, stored_sensitivity
from quantviz.layerwise.specs import LayerDrift, Sensitivity
from quantviz.specs import DEVIATIONS, ImageSample, WeightsRef, counted
from quantviz.study.examples import shipped_example
from quantviz.study.published import shipped_attributions
from quantviz.ui import guarded, visible_progress, workbench
from quantviz.ui.attribution import show_attribution_of
from quantviz.ui.charts import PLAIN, name_picked, show_chart
from quantviz.ui.controls import choose_request
from quantviz.ui.example import example
from quantviz.ui.links import Linked, show_ignored
from quantviz.ui.once import once
from quantviz.ui.quantization import choose_bits_file, scheme_words
from quantviz.ui.results import multiple_words, size_words
from quantviz.ui.serving import serving, visitors_path

_MEASURES: dict[str, Literal["cam", "kl", "sqnr"]] = {
    "map drift": "cam",
    "KL of the classes": "kl",
    "SQNR of the logits": "sqnr",
}
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


def show_parts(
    parts: Mapping[str, Callable[[CompareRequest, list[ImageSample]], None]], linked: Linked | None = None
) -> None:
    """Draw the sidebar, and a tab for each part; only the open one is drawn, and what fails in it stays in it.

    Args:
        parts: words on a tab -> what draws it.
        linked: the values of the address, where widgets before these have taken some.
    """
    choices = choose(linked)
    show_ignored(choices.ignored)
    samples = choices.pictures()
    tabs = st.tabs(list(parts), key="part", bind="query-params")
    for tab, show in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab, guarded():
                show(choices.request, samples)


def choose(linked: Linked | None = None) -> LayerChoices:
    """Draw the sidebar and return what is chosen; no picture is read yet."""
    linked = linked or Linked()
    with st.sidebar:
        pictures = choose_pictures(linked)
        request = choose_request(linked, protocols=False, targets=False)
        choose_bits_file()
    return LayerChoices(request, pictures, tuple(linked.ignored))


def show_atlas(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show every layer's drift, or the button that measures it."""
    atlas = once(
        "atlas",
        (request, ids_of(samples)),
        lambda progress: stored_sensitivity(workbench(), request, samples, progress),
        lambda progress: sensitivity(workbench(), request, samples, progress),
        "Measure every layer",
        f"Quantizes one layer at a time, then all but one, at {request.quant.label}: two networks a layer, run on "
        f"{counted(len(samples), 'picture')}. A few minutes the first time; an interrupted run goes on where it ended.",
    )
    if atlas is None:
        with example():
            shipped = shipped_example(Sensitivity)
            _floor_block(shipped)
            _depth_block(shipped, "cam")
            _ranked_block(shipped)
        return
    _floor_block(atlas)
    measure = st.segmented_control(
        "Drift of", list(_MEASURES), default="map drift", key="measure", bind="query-params", required=True
    )
    _depth_block(atlas, _MEASURES[measure or "map drift"])
    place = st.container()
    _ranked_block(atlas)
    with st.expander(f"All {len(atlas.layers)} layers"):
        st.dataframe(_table(atlas), hide_index=True)
    with place:
        _layer_maps(atlas, request, samples)


def _depth_block(atlas: Sensitivity, measure: Literal["cam", "kl", "sqnr"]) -> None:
    show_chart(
        figures.depth_figure(atlas, measure=measure, selected=_inspected(atlas)),
        "depth",
        heading="Drift over the network's depth",
        caption="Layers in order of execution. Click a point or a bar to see what that layer alone does to the map.",
        stem=f"quantviz-depth-{atlas.model}",
        picked=name_picked("inspect"),
    )


def _ranked_block(atlas: Sensitivity) -> None:
    show_chart(
        figures.ranked_figure(atlas),
        "ranked",
        heading="The layers that move the maps most",
        caption="At the right the drift, and how many times the noise floor that is.",
        stem=f"quantviz-layers-{atlas.model}",
        picked=name_picked("inspect"),
    )


def show_attribution(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show which step of the paper's protocol costs how much, or the button that measures it."""
    asked = replace(request, quant=replace(request.quant, layer_bits=()))
    pictures = counted(len(samples), "picture")
    result = once(
        "attribution",
        (asked, ids_of(samples)),
        lambda progress: stored_attribution(workbench(), asked, samples, progress),
        lambda progress: attribution(workbench(), asked, samples, progress),
        "Measure every switch",
        f"The published code of arXiv 2403.09939 differs from the calibrated protocol in {len(DEVIATIONS)} steps. Each "
        f"of the {2 ** len(DEVIATIONS)} combinations runs on {pictures}: minutes the first time, "
        "and an interrupted run goes on where it ended.",
    )
    if result is not None:
        show_attribution_of(result)
        return
    shipped = {one.model: one for one in shipped_attributions()}
    chosen = shipped.get(request.model) or next(iter(shipped.values()))
    with example(f"{chosen.model} at {chosen.quant.label}, on {counted(len(chosen.images), 'picture')} of ImageNet"):
        show_attribution_of(chosen)


def choose_pictures(linked: Linked) -> Callable[[], list[ImageSample]]:
    """Draw the choice of pictures and return what reads them."""
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


def ids_of(samples: Sequence[ImageSample]) -> tuple[tuple[str, int | None], ...]:
    """Return what tells pictures apart in a key: digest and label of each."""
    return tuple((sample.id, sample.label) for sample in samples)


def show_untrained(weights: WeightsRef) -> None:
    """Warn where weights are random."""
    if not weights.trained:
        st.warning("These weights are UNTRAINED (random): a sanity control, not a model.", icon=":material/casino:")


def _floor_block(atlas: Sensitivity) -> None:
    label, drift, floor = atlas.quant.label, atlas.network.cam, atlas.floor
    show_untrained(atlas.weights)
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
    st.markdown(
        f"Mean over {counted(len(atlas.images), 'picture')} of 1 − CC with the float network's map; {', '.join(parts)}."
    )
    show_chart(
        figures.floor_figure(floor, atlas.network, label),
        "floor",
        heading="Noise floor",
        caption="Drift that is not quantization: the float network against itself with every pixel up to one grey "
        "level up or down, or with the crop moved by one pixel; and two quantized networks, each calibrated on half of "
        "the calibration pictures. A bar is the mean over the pictures, a tick one of them. The larger of the first "
        "two is the floor, and drift is given as a multiple of it.",
        stem=f"quantviz-floor-{atlas.model}",
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
        figures.maps_figure(comparison, opacity=0.55, name="this layer only"), key="layer_maps", config=PLAIN
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
