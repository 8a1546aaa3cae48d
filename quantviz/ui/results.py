"""How a comparison is shown on the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import streamlit as st

from quantviz import figures
from quantviz.pipeline import FaithfulnessRow, npz_bytes, report, report_tables
from quantviz.scores import CONVENTIONS, EXPLANATIONS, METRICS, verdict
from quantviz.specs import Comparison, MetricTable, Scores

_PAIRS = {
    "quantized_v_float": "quantized v float",
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
}


def show(comparison: Comparison, opacity: float) -> None:
    """Show the answer, the maps, the predictions and the three scores that come first."""
    _answer(comparison)
    st.plotly_chart(figures.maps_figure(comparison, opacity=opacity), key="maps", config={"displayModeBar": False})
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("Predictions")
        st.plotly_chart(figures.predictions_figure(comparison), key="predictions", config={"displayModeBar": False})
    with right:
        st.subheader("Alignment scores")
        _scores(comparison)


def show_downloads(comparison: Comparison, tables: Sequence[MetricTable], rows: Sequence[FaithfulnessRow]) -> None:
    """Offer the figure, the maps and the result, and tell how they were made."""
    _downloads(comparison, tables, rows)
    _details(comparison)


def _answer(comparison: Comparison) -> None:
    before, after = comparison.reference.predictions[0], comparison.quantized.predictions[0]
    label = comparison.quant.label
    if not comparison.weights.trained:
        st.warning("These weights are UNTRAINED (random): a sanity control, not a model.", icon=":material/casino:")
    cc = comparison.scores["quantized_v_float"].cc
    if cc is None:
        st.warning(f"At {label} the maps cannot be compared.", icon=":material/visibility_off:")
    else:
        st.markdown(
            f"#### At {label}, {comparison.model} looks **{verdict(cc)}** (CC {cc:.3f}{_explained(comparison)})."
        )
    if comparison.flipped:
        st.error(
            f"**Label flip:** {before.label} ({before.probability:.0%}) in float, "
            f"{after.label} ({after.probability:.0%}) at {label}.",
            icon=":material/swap_horiz:",
        )
    else:
        st.markdown(
            f"Both call it **{before.label}**: {before.probability:.0%} in float, {after.probability:.0%} at {label}."
        )
    for name, reason in comparison.degenerate.items():
        st.warning(
            f"The {name} map carries no evidence ({reason}); it is not scored.", icon=":material/visibility_off:"
        )


def _explained(comparison: Comparison) -> str:
    """Name the class that both maps explain, where they explain one and the same."""
    index = comparison.reference.class_index
    if comparison.cam.method == "eigencam" or index != comparison.quantized.class_index:
        return ""
    predictions = (*comparison.reference.predictions, *comparison.quantized.predictions)
    label = next((found.label for found in predictions if found.index == index), f"class {index}")
    return f" for {label}"


def _scores(comparison: Comparison) -> None:
    table = {
        _PAIRS[name]: [_cell(marks, metric) for metric in CONVENTIONS] for name, marks in comparison.scores.items()
    }
    frame = pd.DataFrame(table, index=[metric.upper() for metric in CONVENTIONS])
    frame["what it says"] = [EXPLANATIONS[metric] for metric in CONVENTIONS]
    st.table(frame)
    height, width = comparison.reference.heatmap.values.shape
    st.caption(f"On maps of {width} x {height} pixels, the network's input. The second of a pair is the reference.")
    if comparison.saliency is not None:
        kind = "a computed prediction, not human gaze" if comparison.saliency.predicted else "supplied by you"
        st.caption(f"Saliency: {comparison.saliency.source}, {kind}.")
    with st.expander("Conventions"):
        for metric, sentence in CONVENTIONS.items():
            st.markdown(f"**{metric.upper()}**: {sentence}")


def show_metrics(tables: Sequence[MetricTable]) -> None:
    """Show every metric against each reference, with what the baselines get, and explain each row."""
    st.subheader("Every metric, and what a baseline gets")
    if not tables:
        st.info("No map here carries evidence to score against.")
        return
    st.caption(
        "A score means little alone. Beside each stands what a blob at the centre, a uniform map, another picture's "
        "map and the untrained model get."
    )
    for tab, table in zip(st.tabs([f"against {table.reference}" for table in tables]), tables, strict=True):
        with tab:
            _metric_table(table)


def show_faithfulness(rows: Sequence[FaithfulnessRow]) -> None:
    """Show how much each model's class rests on what its own map marks."""
    frame = pd.DataFrame({"metric": [row.title for row in rows]})
    for subject in rows[0].values:
        frame[subject] = [
            "–" if row.values[subject].value is None else f"{row.values[subject].value:.3f}" for row in rows
        ]
    frame["better is"] = ["higher" if row.higher_is_better else "lower" for row in rows]
    frame["what it says"] = [row.explanation for row in rows]
    st.table(frame.set_index("metric"))
    reasons = {score.reason for row in rows for score in row.values.values() if score.reason}
    if reasons:
        st.caption(f"– stands for no value: {'; '.join(sorted(reasons))}.")


def _metric_table(table: MetricTable) -> None:
    names = list(next(iter(table.columns.values())))
    frame = pd.DataFrame({"metric": [METRICS[name].title for name in names]})
    for subject, column in table.columns.items():
        frame[subject] = ["–" if column[name].value is None else f"{column[name].value:.3f}" for name in names]
    frame["closer is"] = ["higher" if METRICS[name].higher_is_closer else "lower" for name in names]
    frame["what it says"] = [METRICS[name].explanation for name in names]
    st.table(frame.set_index("metric"))
    if table.kind != "map" or not table.predicted:
        st.caption(f"Reference: {table.reference}, ground truth of your own ({table.kind}).")
    if remarks := table.remarks():
        st.caption("  \n".join(f"{sentence}." for sentence in remarks))


def _cell(marks: Scores, metric: str) -> str:
    value = getattr(marks, metric)
    return "–" if value is None else f"{value:.4f}"


def _downloads(comparison: Comparison, tables: Sequence[MetricTable], rows: Sequence[FaithfulnessRow]) -> None:
    result = report(comparison) | {"metrics": report_tables(tables)}
    if rows:
        result["faithfulness"] = [asdict(row) for row in rows]
    stem = f"quantviz-{comparison.model}-{comparison.quant.label}-{comparison.cam.method}"
    columns = st.columns(3)
    with columns[0]:
        st.download_button(
            "Figure (PNG, 300 dpi)",
            lambda: figures.paper_png(comparison),
            f"{stem}.png",
            "image/png",
            key="download_png",
            on_click="ignore",
            icon=":material/image:",
            width="stretch",
        )
    with columns[1]:
        st.download_button(
            "Maps (NPZ)",
            lambda: npz_bytes(comparison),
            f"{stem}.npz",
            "application/octet-stream",
            key="download_npz",
            on_click="ignore",
            icon=":material/grid_on:",
            width="stretch",
        )
    with columns[2]:
        st.download_button(
            "Result (JSON)",
            json.dumps(result, indent=2, allow_nan=False),
            f"{stem}.json",
            "application/json",
            key="download_json",
            on_click="ignore",
            icon=":material/data_object:",
            width="stretch",
        )


def _activations(comparison: Comparison) -> str:
    """Say how the activations are quantized, if they are."""
    quant = comparison.quant
    if quant.act_bits is None:
        return "activations in float32 (weight-only)"
    wider = f", widened by {quant.headroom:g}" if quant.headroom != 1 else ""
    return f"activations affine per-tensor with frozen min-max ranges{wider}"


def _details(comparison: Comparison) -> None:
    weights, calibration = comparison.weights, comparison.calibration
    with st.expander("How this was made"):
        st.markdown(
            f"- **Model**: {comparison.model}, weights {weights.name} ({weights.source}), sha256 `{weights.sha256}`\n"
            f"- **Quantization**: {comparison.quant.label}, batch norm folded; weights {comparison.quant.scheme} "
            f"per-channel, {_activations(comparison)}\n"
            f"- **Calibration**: {calibration.images} inputs from {calibration.source}\n"
            f"- **Map**: {comparison.cam.method} at `{comparison.cam.layer}`, "
            f"{' x '.join(map(str, comparison.reference.native.values.shape))} grid\n"
            f"- **Picture**: {comparison.sample.name}, sha256 `{comparison.sample.id}`"
        )
        for note in (*comparison.sample.notes, weights.note):
            if note:
                st.markdown(f"- **Note**: {note}")
        st.caption(
            f"{'Read from the cache' if comparison.cached else 'Computed'} in {comparison.seconds:.2f} s. "
            + ", ".join(f"{name} {number}" for name, number in comparison.versions.items())
        )
