"""The Diagnose page's first part: every tensor's SQNR over depth, its histogram, its map, its cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from quantviz import figures
from quantviz.comparison import CompareRequest
from quantviz.layerwise.diagnosis.causes import REMEDIES
from quantviz.layerwise.diagnosis.drift import tensor_settings, with_drift
from quantviz.layerwise.diagnosis.output import csv_of
from quantviz.layerwise.diagnosis.remedies import Trial, try_remedy
from quantviz.layerwise.diagnosis.run import diagnose
from quantviz.layerwise.diagnosis.specs import Cause, Diagnosis, TensorFigures
from quantviz.layerwise.drift import layers_of
from quantviz.specs import ImageSample, Progress, UsageError, no_progress
from quantviz.study.examples import shipped_example
from quantviz.ui import visible_progress, workbench
from quantviz.ui.charts import PLAIN, name_picked, show_chart
from quantviz.ui.example import example
from quantviz.ui.once import once
from quantviz.ui.plain import plain

_NO_TENSOR = "none"
_MOST_DRIFTS = 10
_SHOWN = 5


def show_tensors(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show what rounding does to every tensor, or the button that measures it."""
    ids = tuple(sample.id for sample in samples)
    count = f"{len(samples)} pictures" if len(samples) != 1 else "one picture"
    found = once(
        "diagnosis",
        (request, ids),
        lambda _progress: None,
        lambda progress: diagnose(workbench(), request, samples, progress, by_channel=True),
        "Diagnose",
        f"Compares every weight and layer input in float and at {request.quant.label} on {count}, and names what is "
        "wrong by stated rules. Some seconds.",
    )
    if found is None:
        with example():
            shipped = shipped_example(Diagnosis)
            _show_causes(shipped)
            _show_depth(shipped)
            _show_drifts(shipped)
        return
    for words in found.notes:
        st.warning(plain(words), icon=":material/casino:")
    _show_causes(found)
    _show_depth(found)
    _show_tensor(found, request, samples)
    _show_disagreement(found, request, samples)
    st.download_button("All tensors as CSV", csv_of(found), "diagnosis.csv", "text/csv", icon=":material/download:")


def _show_depth(found: Diagnosis) -> None:
    show_chart(
        figures.tensors_figure(found, selected=_chosen(found)),
        "sqnr_depth",
        heading="SQNR over the network's depth",
        caption="Points: each tensor's own rounding, in dB. Line: what activations have lost in all, with everything "
        "before them rounded, too. A ring marks a tensor with a cause. Click a point.",
        stem="quantviz-sqnr",
        picked=name_picked("tensor"),
    )


def _show_drifts(measured: Diagnosis) -> None:
    show_chart(
        figures.disagreement_figure(measured),
        "disagreement",
        heading="SQNR against the drift of the maps",
        caption="Far left SQNR is poor, far up the maps move: a tensor that is one without the other is worth a look. "
        "The dashed line is the noise floor: drift of a change that nobody sees.",
        stem="quantviz-sqnr-drift",
        picked=name_picked("tensor"),
    )


def _show_causes(found: Diagnosis) -> None:
    if not found.causes:
        st.markdown(f"### At {found.quantization}, no rule finds anything wrong with {found.network}.")
        return
    worst = found.causes[0]
    st.markdown(f"### {plain(worst.sentence)}")
    st.markdown(f"**{worst.cause.replace('_', ' ').capitalize()}.** Remedy: {worst.advice}. {worst.reference}.")
    others = found.causes[1:]
    if others:
        with st.expander(f"{len(others)} more tensors with a cause"):
            for cause in others[:_SHOWN]:
                st.markdown(f"- {plain(cause.sentence)} *{cause.cause.replace('_', ' ')}*: {cause.advice}.")
            if len(others) > _SHOWN:
                st.markdown(f"... and {len(others) - _SHOWN} more; the CSV has them all.")


def _chosen(found: Diagnosis) -> str:
    name = st.session_state.get("tensor", st.query_params.get("tensor", ""))
    return name if any(entry.name == name for entry in found.tensors) else ""


def _show_tensor(found: Diagnosis, request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    names = [name for name in found.ranking if any(entry.name == name for entry in found.tensors)]
    name = st.selectbox("Tensor, worst first", (_NO_TENSOR, *names), key="tensor", bind="query-params")
    if name == _NO_TENSOR:
        return
    entry = found.tensor(name)
    cause = next((cause for cause in found.causes if cause.tensor == name), None)
    st.markdown(_sentence(entry, cause))
    left, right = st.columns(2)
    with left:
        show_chart(
            figures.tensor_figure(entry),
            "histogram",
            heading="Its values, float and quantized",
            caption="Part of the values in each interval; grey ticks are the levels of the grid"
            + (", of the widest channel." if len(entry.site.scale) > 1 else "."),
            stem="quantviz-tensor",
        )
    with right:
        _show_map(entry, request, samples)
    _show_remedy(entry, cause, request, samples)


def _sentence(entry: TensorFigures, cause: Cause | None) -> str:
    if cause is not None:
        return f"{plain(cause.sentence)} Remedy: {cause.advice}."
    if entry.sqnr_isolated is None:
        return f"`{entry.name}` loses nothing by its own rounding."
    bits, used = entry.site.bits, entry.used or 0.0
    return (
        f"`{entry.name}` at {bits} bits: {entry.sqnr_isolated:.1f} dB of its own rounding, {used:.0%} of its grid "
        f"used, {entry.clipped:.3%} clipped; no rule finds anything wrong."
    )


def _show_map(entry: TensorFigures, request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show the map of the first picture with this tensor alone quantized."""
    bench = workbench()
    layers, _ = layers_of(bench, bench.subject(request), request.quant, no_progress)
    names = [layer.name for layer in layers]
    if entry.site.layer not in names or entry.site.bits is None or entry.site.role == "bias":
        st.markdown("This tensor is not rounded by itself, so that there is no map of it alone.")
        return
    alone, _ = tensor_settings(request.quant, names, entry.site.layer, entry.site.role)
    with visible_progress() as progress:
        comparison = bench.compare(replace(request, quant=alone), samples[0], progress)
    cc = comparison.scores["quantized_v_float"].cc
    drift = "" if cc is None else f" drifts by {figures.number(max(1 - cc, 0.0))}"
    st.markdown(f"With only this tensor quantized, the map of {plain(samples[0].name)}{drift}.")
    chart = figures.maps_figure(comparison, opacity=0.55, name="this tensor only")
    st.plotly_chart(chart, key="tensor_maps", config=PLAIN)


def _show_remedy(
    entry: TensorFigures, cause: Cause | None, request: CompareRequest, samples: Sequence[ImageSample]
) -> None:
    remedy = cause.remedy if cause is not None else "exclude"
    if len(samples) < 2 or entry.site.bits is None:
        return
    key = (request, tuple(sample.id for sample in samples), entry.name, remedy)
    tried = once(
        "trial",
        key,
        lambda _progress: None,
        lambda progress: _tried(request, samples, entry.name, remedy, progress),
        f"Try it: {REMEDIES[remedy]}",
        "Chosen on every other picture, measured on the pictures between.",
    )
    if isinstance(tried, str):
        st.info(tried, icon=":material/info:")
    elif tried is not None:
        rows = {"before": tried.before, "after": tried.after}
        st.dataframe(
            {
                "": list(rows),
                "SQNR of the tensor, dB": [one.sqnr_isolated for one in rows.values()],
                "drift": [one.drift.cam for one in rows.values()],
                "flips": [one.drift.flips for one in rows.values()],
                "KiB": [round(one.bytes / 2**10) for one in rows.values()],
            },
            hide_index=True,
        )


def _tried(
    request: CompareRequest, samples: Sequence[ImageSample], tensor: str, remedy: str, progress: Progress
) -> Trial | str:
    """Return what a remedy does, or why it cannot be tried here."""
    try:
        return try_remedy(workbench(), request, samples, tensor, remedy, progress)[1]
    except UsageError as error:
        return str(error)


def _show_disagreement(found: Diagnosis, request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    st.subheader("Where SQNR and the maps disagree")
    measured = once(
        "tensor drift",
        (request, tuple(sample.id for sample in samples)),
        lambda _progress: None,
        lambda progress: with_drift(workbench(), request, found, samples, progress, most=_MOST_DRIFTS),
        f"Measure the {_MOST_DRIFTS} worst tensors' drift",
        "Two maps a tensor and picture. A minute or so.",
    )
    if measured is not None:
        _show_drifts(measured)
