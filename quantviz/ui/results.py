"""How a comparison is shown on the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import pandas as pd
import streamlit as st

from quantviz import figures
from quantviz.comparison import BASELINES, FaithfulnessRow, comparison_data, deployed_words, npz_bytes, tables_data
from quantviz.scores import CONVENTIONS, EXPLANATIONS, METRICS
from quantviz.specs import DEVIATIONS, Comparison, Cost, Deployed, GivenQuant, MetricTable, QuantSpec, Scores
from quantviz.ui import wrapping
from quantviz.ui.plain import code, plain
from quantviz.ui.quantization import protocol_name, scheme_words

_PAIRS = {
    "quantized_v_float": "quantized v float",
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
    "deployed_v_quantized": "deployed v simulated",
    "deployed_v_float": "deployed v float",
    "deployed_v_saliency": "deployed v saliency",
}


def show_scores(comparison: Comparison, cost: Cost | None = None) -> None:
    """Show the predictions, the scores and the costs, folded until they are asked for."""
    with st.expander("Predictions and scores", key="scores_open", on_change="rerun") as fold:
        if not fold.open:
            return
        left, right = wrapping("scores", "parts").columns([5, 6], gap="large")
        with left:
            st.subheader("Predictions")
            st.plotly_chart(figures.predictions_figure(comparison), key="predictions", config={"displayModeBar": False})
        with right:
            st.subheader("Alignment scores")
            _scores(comparison)
        if comparison.floor is not None and comparison.verdict.drift is not None:
            st.caption(
                f"The map drift, 1 − CC, is {figures.number(comparison.verdict.drift)}; the noise floor, the drift of "
                f"the float network's own map under a change that nobody sees, {figures.number(comparison.floor)}."
            )
        if cost is not None:
            st.caption(cost_words(cost))


def multiple_words(drift: float, floor: float) -> str:
    """Return how a drift stands to the noise floor, to be followed by what the floor is."""
    if drift <= floor:
        return "**no more than** what"
    return f"**{figures.times(drift, floor).removesuffix(' ×')} times** what" if floor else "**more than** what"


def cost_words(cost: Cost) -> str:
    """Return size, MACs and bit operations beside those of the float network."""
    return (
        f"Size {size_words(cost.bytes)}, {cost.bytes / cost.float_bytes:.0%} of float32's "
        f"{size_words(cost.float_bytes)} · {cost.macs / 1e6:,.0f} million MACs an image · "
        f"{cost.bops / 1e9:,.1f} GBOPs, {cost.bops / cost.float_bops:.1%} of float32's"
    )


def size_words(size: int) -> str:
    """Return a size in bytes as a reader's number: KiB below 1 MiB."""
    return f"{size / 2**20:,.2f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"


def show_downloads(
    comparison: Comparison, measured: Callable[[], Sequence[MetricTable]], rows: Sequence[FaithfulnessRow] = ()
) -> None:
    """Offer the figure, the maps and the result; what they take is computed when they are asked for.

    Args:
        comparison: what is shown.
        measured: returns the tables of metrics, off the page's own thread.
        rows: of the faithfulness metrics.
    """

    def result() -> bytes:
        data = comparison_data(comparison) | {"metrics": tables_data(measured())}
        data |= {"faithfulness": [asdict(row) for row in rows]} if rows else {}
        return json.dumps(data, indent=2, allow_nan=False).encode()

    stem = f"quantviz-{comparison.model}-{comparison.quant.label}-{comparison.cam.method}"
    offers: tuple[tuple[str, Callable[[], bytes], str, str, str], ...] = (
        ("Figure (PNG, 300 dpi)", lambda: figures.paper_png(comparison), "png", "image/png", "image"),
        ("Maps (NPZ)", lambda: npz_bytes(comparison), "npz", "application/octet-stream", "grid_on"),
        ("Result (JSON)", result, "json", "application/json", "data_object"),
    )
    for column, (label, make, ending, kind, icon) in zip(st.columns(3), offers, strict=True):
        column.download_button(
            label,
            make,
            f"{stem}.{ending}",
            kind,
            key=f"download_{ending}",
            on_click="ignore",
            icon=f":material/{icon}:",
            width="stretch",
        )


def show_notes(comparison: Comparison) -> None:
    """Say what must be known before the maps are read."""
    quant = comparison.quant
    if isinstance(quant, QuantSpec) and quant.deviations:
        _protocol_banner(quant)
    if not comparison.weights.trained:
        st.warning("These weights are UNTRAINED (random): a sanity control, not a model.", icon=":material/casino:")
    if comparison.deployed is not None:
        _deployed(comparison, comparison.deployed)
    if comparison.backend_note:
        st.info(plain(comparison.backend_note), icon=":material/info:")
    for name, reason in comparison.degenerate.items():
        st.warning(
            f"The {name} map carries no evidence ({plain(reason)}); it is not scored.", icon=":material/visibility_off:"
        )


def _deployed(comparison: Comparison, deployed: Deployed) -> None:
    """Say how much the deployed network differs from the simulated one, and what a map takes by each."""
    words = plain(deployed_words(comparison))
    if deployed.result.predictions[0].index != comparison.quantized.predictions[0].index:
        st.error(words, icon=":material/swap_horiz:")
    else:
        st.markdown(words)
    if deployed.milliseconds:
        backends = {"torch": "torch", "onnxruntime": "ONNX Runtime", "ncnn": "ncnn"}
        names = {
            "float": f"float ({backends[comparison.backend]})",
            "quantized": f"simulated ({backends[comparison.quantized_backend]})",
            "deployed": "deployed (ONNX Runtime)",
        }
        taken = " · ".join(f"{names[name]} {value:.1f} ms" for name, value in deployed.milliseconds.items())
        st.caption(f"A map on this machine, measured when it was computed: {taken}")


def _protocol_banner(quant: QuantSpec) -> None:
    """Say that these are not the calibrated protocol's maps: what follows must not be read as if they were."""
    names = ", ".join(name.replace("_", " ") for name in DEVIATIONS if name in quant.deviations)
    st.warning(
        f"**This is {protocol_name(quant)}, not what quantization does to the deployed network.** "
        f"Switched on: {names}. What each does stands under *How this was made*; what each costs, on the Layers page.",
        icon=":material/science:",
    )


def _scores(comparison: Comparison) -> None:
    frame = _score_frame(comparison.scores)
    frame["what it says"] = [EXPLANATIONS[metric] for metric in CONVENTIONS]
    st.table(frame)
    if comparison.deployed is not None:
        st.table(_score_frame(comparison.deployed.scores))
    height, width = comparison.reference.heatmap.values.shape
    st.caption(f"On maps of {width} x {height} pixels, the network's input. The second of a pair is the reference.")
    if comparison.saliency is not None:
        kind = "a computed prediction, not human gaze" if comparison.saliency.predicted else "supplied by you"
        st.caption(f"Saliency: {plain(comparison.saliency.source)}, {kind}.")
    with st.expander("Conventions"):
        for metric, sentence in CONVENTIONS.items():
            st.markdown(f"**{metric.upper()}**: {sentence}")


def _score_frame(scores: Mapping[str, Scores]) -> pd.DataFrame:
    table = {_PAIRS[name]: [_cell(values, metric) for metric in CONVENTIONS] for name, values in scores.items()}
    return pd.DataFrame(table, index=[metric.upper() for metric in CONVENTIONS])


def show_metrics(measured: Callable[[], Sequence[MetricTable]]) -> None:
    """Show every metric against each reference, with what the baselines get; computed once it is unfolded."""
    with st.expander("Every metric, and what a baseline gets", key="metrics_open", on_change="rerun") as fold:
        if fold.open:
            _metrics(measured())


def _metrics(tables: Sequence[MetricTable]) -> None:
    if not tables:
        st.info("No map here carries evidence to score against.")
        return
    beside = "a blob at the centre, a uniform map, another picture's map and the untrained model get"
    if not any(BASELINES[-1] in table.columns for table in tables):
        beside = "a blob at the centre and a uniform map get"
    st.caption(f"A score means little alone. Beside each stands what {beside}.")
    for tab, table in zip(st.tabs([f"against {plain(table.reference)}" for table in tables]), tables, strict=True):
        with tab:
            _metric_table(table)


def show_faithfulness(rows: Sequence[FaithfulnessRow]) -> None:
    """Show how much each model's class rests on the pixels that its own map marks."""
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
        st.caption(f"– stands for no value: {plain('; '.join(sorted(reasons)))}.")


def _metric_table(table: MetricTable) -> None:
    names = list(next(iter(table.columns.values())))
    frame = pd.DataFrame({"metric": [METRICS[name].title for name in names]})
    for subject, column in table.columns.items():
        frame[subject] = ["–" if column[name].value is None else f"{column[name].value:.3f}" for name in names]
    frame["closer is"] = ["higher" if METRICS[name].higher_is_closer else "lower" for name in names]
    frame["what it says"] = [METRICS[name].explanation for name in names]
    st.table(frame.set_index("metric"))
    if table.kind != "map" or not table.predicted:
        st.caption(f"Reference: {plain(table.reference)}, ground truth of your own ({table.kind}).")
    if remarks := table.remarks():
        st.caption("  \n".join(f"{plain(sentence)}." for sentence in remarks))


def _cell(scores: Scores, metric: str) -> str:
    value = getattr(scores, metric)
    return "–" if value is None else f"{value:.4f}"


def _folded(quant: QuantSpec) -> str:
    """Say in which mode the networks run."""
    if "train_mode" in quant.deviations:
        return "train mode, batch norm of the one image"
    return "batch norm not folded" if "output_quantizers" in quant.deviations else "batch norm folded"


def _calibrated(comparison: Comparison) -> str:
    if comparison.calibration is None:
        return "not known, the network came quantized"
    if "online_ranges" in comparison.quant.deviations:
        return "none, observers start at this picture"
    return f"{comparison.calibration.images} inputs from {comparison.calibration.source}"


def _quantized(quant: QuantSpec | GivenQuant) -> str:
    """Say how the network was quantized."""
    return f"{quant.label}, {_folded(quant)}; {scheme_words(quant)}" if isinstance(quant, QuantSpec) else quant.title


def show_details(comparison: Comparison) -> None:
    """Say how a comparison was made."""
    with st.expander("How this was made"):
        st.markdown("\n".join(f"- {line}" for line in _made_of(comparison)))
        st.caption(
            f"{'Read from the cache' if comparison.cached else 'Computed'} in {comparison.seconds:.2f} s. "
            + ", ".join(f"{name} {number}" for name, number in comparison.versions.items())
        )


def _made_of(comparison: Comparison) -> Iterator[str]:
    """Yield what the comparison was made with, a line of Markdown each."""
    weights, quant = comparison.weights, comparison.quant
    source = f"weights {plain(weights.name)} ({weights.source}), sha256 `{weights.sha256}`"
    yield f"**Model**: {plain(comparison.model)}, {source}"
    yield f"**Quantization**: {plain(_quantized(quant))}"
    yield f"**Calibration**: {plain(_calibrated(comparison))}"
    grid = " x ".join(map(str, comparison.reference.native.values.shape))
    yield f"**Map**: {comparison.cam.method} at {code(comparison.cam.layer)}, {grid} grid"
    yield f"**Picture**: {plain(comparison.sample.name)}, sha256 `{comparison.sample.id}`"
    for name in DEVIATIONS:
        if name in quant.deviations:
            yield f"**Deviation**, {name.replace('_', ' ')}: {DEVIATIONS[name]}"
    for bits in quant.layer_bits if isinstance(quant, QuantSpec) else ():
        widths = (f"{width} bits" if width else "float" for width in (bits.weight_bits, bits.act_bits))
        yield "**Layer** {}: weights {}, input {}".format(code(bits.name), *widths)
    for note in (*comparison.sample.notes, weights.note, *comparison.notes):
        if note:
            yield f"**Note**: {plain(note)}"
