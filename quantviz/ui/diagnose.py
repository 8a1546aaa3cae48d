"""The Diagnose page's first part: every tensor's SQNR over depth, its histogram, its map, its cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from quantviz import figures
from quantviz.comparison import CompareRequest
from quantviz.layerwise.diagnosis.asked import Answer
from quantviz.layerwise.diagnosis.causes import REMEDIES, manual
from quantviz.layerwise.diagnosis.output import csv_of
from quantviz.layerwise.diagnosis.remedies import Trial
from quantviz.layerwise.diagnosis.specs import Cause, Diagnosis, TensorFigures
from quantviz.specs import CheckpointError, Comparison, ImageSample, Progress, UsageError, counted
from quantviz.study.examples import shipped_example
from quantviz.ui import guarded, visible_progress
from quantviz.ui.charts import PLAIN, name_picked, show_chart
from quantviz.ui.diagnosed import PICTURES_FOR_A_REMEDY, Diagnosed, Rounded
from quantviz.ui.example import example
from quantviz.ui.once import once
from quantviz.ui.plain import code, plain

_NO_TENSOR = "none"
_MOST_DRIFTS = 10
_SHOWN = 5
_MOST_MAPS = 6


def show_tensors(request: CompareRequest, samples: Sequence[ImageSample]) -> None:
    """Show what rounding does to every tensor of a network that quantviz rounds."""
    show_diagnosis(Rounded(request, samples))


def show_diagnosis(source: Diagnosed) -> None:
    """Show what rounding does to every tensor, or the button that measures it."""
    count = counted(len(source.samples), "picture")
    found = once(
        "diagnosis",
        source.key,
        lambda _progress: None,
        source.diagnosis,
        "Diagnose",
        f"Compares {plain(source.what)} on {count}, and names what is wrong by stated rules. Some seconds.",
    )
    if found is None:
        with example():
            shipped = shipped_example(Diagnosis)
            _show_causes(shipped)
            _show_depth(shipped)
            _show_drifts(shipped)
        return
    for words in found.notes:
        random = words.startswith("UNTRAINED")
        st.warning(plain(words), icon=":material/casino:" if random else ":material/difference:")
    _show_causes(found)
    _show_depth(found)
    _show_tensor(found, source)
    _show_disagreement(found, source)
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
        st.markdown(f"### At {plain(found.quantization)}, no rule finds anything wrong with {plain(found.network)}.")
        return
    worst = found.causes[0]
    st.markdown(f"### {plain(worst.sentence)}")
    st.markdown(f"**{_titled(worst)}.** Remedy: {plain(worst.advice)}. {plain(worst.reference)}.")
    _, _, section = manual()[worst.cause].partition("\n")
    with st.expander("What it looks like, why it happens, and how other tools mend it", icon=":material/menu_book:"):
        st.markdown(section)
    others = found.causes[1:]
    if others:
        with st.expander(f"{counted(len(others), 'more tensor')} with a cause"):
            for cause in others[:_SHOWN]:
                st.markdown(f"- {plain(cause.sentence)} *{_titled(cause)}*: {plain(cause.advice)}.")
            if len(others) > _SHOWN:
                st.markdown(f"... and {len(others) - _SHOWN} more; the CSV has them all.")


def _titled(cause: Cause) -> str:
    return plain(cause.cause.replace("_", " ").capitalize())


def _chosen(found: Diagnosis) -> str:
    name = st.session_state.get("tensor", st.query_params.get("tensor", ""))
    return name if any(entry.name == name for entry in found.tensors) else ""


def _show_tensor(found: Diagnosis, source: Diagnosed) -> None:
    names = [name for name in found.ranking if any(entry.name == name for entry in found.tensors)]
    name = st.selectbox("Tensor, worst first", (_NO_TENSOR, *names), key="tensor", bind="query-params")
    if name not in names:
        return
    entry = found.tensor(name)
    cause = next((cause for cause in found.causes if cause.tensor == name), None)
    st.markdown(_sentence(entry, cause))
    show_chart(
        figures.tensor_figure(entry),
        "histogram",
        heading="Its values, float and quantized",
        caption="Part of the values in each interval; grey ticks are the levels of the grid"
        + (", of the widest channel." if len(entry.site.scale) > 1 else "."),
        stem="quantviz-tensor",
    )
    with guarded():
        _show_map(entry, source)
    _show_remedy(entry, cause, source)


def _sentence(entry: TensorFigures, cause: Cause | None) -> str:
    if cause is not None:
        return f"{plain(cause.sentence)} Remedy: {plain(cause.advice)}."
    if entry.sqnr_isolated is None:
        return f"{code(entry.name)} loses nothing by its own rounding."
    bits, used = entry.site.bits, entry.used or 0.0
    return (
        f"{code(entry.name)} at {bits} bits: {entry.sqnr_isolated:.1f} dB of its own rounding, {used:.0%} of its grid "
        f"used, {entry.clipped:.3%} clipped; no rule finds anything wrong."
    )


def _show_map(entry: TensorFigures, source: Diagnosed) -> None:
    """Show the map of the first picture with this tensor alone quantized."""
    compare = source.alone(entry)
    if compare is None:
        st.markdown("This tensor is not rounded by itself, so that there is no map of it alone.")
        return
    kept: dict[tuple[Any, ...], Comparison] = st.session_state.setdefault("tensor_comparisons", {})
    key = (source.key, entry.name)
    if key not in kept:
        with visible_progress() as progress:
            comparison = compare(progress)
        while len(kept) >= _MOST_MAPS:
            del kept[next(iter(kept))]
        kept[key] = comparison
    comparison = kept[key]
    cc = comparison.scores["quantized_v_float"].cc
    drift = "" if cc is None else f" drifts by {figures.number(max(1 - cc, 0.0))}"
    st.markdown(f"With only this tensor quantized, the map of {plain(source.samples[0].name)}{drift}.")
    chart = figures.maps_figure(comparison, opacity=0.55, name="this tensor only")
    st.plotly_chart(chart, key="tensor_maps", config=PLAIN)


def _show_remedy(entry: TensorFigures, cause: Cause | None, source: Diagnosed) -> None:
    remedy = cause.remedy if cause is not None and cause.remedy in REMEDIES else "exclude"
    if entry.site.bits is None:
        return
    if len(source.samples) < PICTURES_FOR_A_REMEDY:
        st.caption("With two pictures or more, a remedy can be tried: chosen on some, measured on the others.")
        return
    tried = once(
        "trial",
        (*source.key, entry.name, remedy),
        lambda _progress: None,
        lambda progress: _tried(source, f"{entry.name}={remedy}", progress),
        f"Try it: {REMEDIES[remedy]}",
        "Chosen on every other picture, measured on the pictures between.",
    )
    if isinstance(tried, str):
        st.info(plain(tried), icon=":material/info:")
    elif tried is not None and tried.trial is not None:
        _show_trial(tried.trial)
        if tried.mended is not None:
            st.download_button(
                "The mended ONNX file",
                tried.mended,
                "mended.onnx",
                "application/octet-stream",
                icon=":material/download:",
            )


def _show_trial(trial: Trial) -> None:
    rows = {"before": trial.before, "after": trial.after}
    st.dataframe(
        {
            "": list(rows),
            "SQNR of the tensor, dB": [one.sqnr_isolated for one in rows.values()],
            "drift": [one.drift.cam for one in rows.values()],
            "flips": [one.drift.flips for one in rows.values()],
            "KiB": [round(one.bytes / 2**10) for one in rows.values()],
        },
        hide_index=True,
        column_config={
            "SQNR of the tensor, dB": st.column_config.NumberColumn(format="%.1f"),
            "drift": st.column_config.NumberColumn(format="%.5f"),
            "flips": st.column_config.NumberColumn(format="percent"),
        },
    )
    if trial.difference is not None:
        ends = trial.interval
        words = "" if ends is None else f", 95 % interval {ends.low:+.5f} to {ends.high:+.5f}"
        held_out = counted(trial.held_out, "picture")
        st.markdown(f"Drift changes by {trial.difference:+.5f}{words}, on {held_out} that it was not chosen on.")


def _tried(source: Diagnosed, remedy: str, progress: Progress) -> Answer | str:
    """Return what a remedy does, or why it cannot be tried here."""
    try:
        return source.tried(remedy, progress)
    except (UsageError, CheckpointError) as error:
        return str(error)


def _show_disagreement(found: Diagnosis, source: Diagnosed) -> None:
    st.subheader("Where SQNR and the maps disagree")
    measured = once(
        "tensor drift",
        source.key,
        lambda _progress: None,
        lambda progress: source.with_drift(found, _MOST_DRIFTS, progress),
        f"Measure the {_MOST_DRIFTS} worst tensors' drift",
        "Two maps a tensor and picture. A minute or so.",
    )
    if measured is not None:
        _show_drifts(measured)
