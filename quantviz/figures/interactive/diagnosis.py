"""Plotly figures of a diagnosis: SQNR over depth, a tensor's histogram with its grid, and SQNR against drift."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from quantviz.figures.data.study import log_axis
from quantviz.figures.data.style import BLUE, COLOURS, GREY, ORANGE, PURPLE, VERMILLION
from quantviz.figures.data.words import number
from quantviz.figures.interactive.layout import depth_axis, frame, log_scale, note, title
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures

_ROLES = {
    "weight": ("weight", BLUE, "circle"),
    "activation": ("activation", ORANGE, "diamond"),
    "bias": ("bias", PURPLE, "square"),
}
_MOST_LEVELS = 300  # grid lines beyond that would be one grey area


def tensors_figure(diagnosis: Diagnosis, *, selected: str = "") -> go.Figure:
    """Return each tensor's SQNR in dB over the depth of the network: points isolated, the line accumulated.

    A point's ``customdata`` is its tensor's name; a ring marks tensors with a cause. A tensor that loses nothing has no
    point.

    Args:
        diagnosis: what to show.
        selected: name of a tensor to mark, or "".
    """
    causes = {cause.tensor: cause.cause.replace("_", " ") for cause in diagnosis.causes}
    read = [entry for entry in diagnosis.tensors if entry.site.role == "activation" and entry.sqnr is not None]
    figure = go.Figure(
        go.Scatter(
            x=[entry.depth for entry in read],
            y=[entry.sqnr for entry in read],
            mode="lines",
            name="activations, accumulated",
            line={"color": GREY, "width": 1.5},
            hoverinfo="skip",
        )
    )
    for role, (words, colour, symbol) in _ROLES.items():
        rows = [entry for entry in diagnosis.tensors if entry.site.role == role and _own(entry) is not None]
        if rows:
            figure.add_trace(_points(rows, words, colour, symbol, causes))
    for entry in diagnosis.tensors:
        if entry.name == selected:
            line = {"color": COLOURS["quantized"], "width": 1.5}
            figure.add_vline(x=entry.depth, line=line, layer="below")
    figure.update_xaxes(**depth_axis([_dotted(entry.site.layer) for entry in diagnosis.tensors]))
    figure.update_yaxes(title=title("SQNR, dB"), zeroline=False, automargin=True)
    figure.update_layout(**frame(420), hovermode="closest", clickmode="event+select")
    return figure


def _dotted(layer: str) -> str:
    """Return a layer's dotted name; PyTorch's exporter calls ``features.3.relu`` ``/features/features.3/relu/Relu``."""
    parts = [part for part in layer.split("/") if part]
    follow = [*parts[1:], ""]
    return ".".join(part for part, after in zip(parts, follow, strict=True) if not after.startswith(f"{part}."))


def _own(entry: TensorFigures) -> float | None:
    return entry.sqnr_isolated if entry.site.role != "bias" else entry.sqnr


def _points(rows: list[TensorFigures], words: str, colour: str, symbol: str, causes: dict[str, str]) -> go.Scatter:
    marked = [entry.name in causes for entry in rows]
    return go.Scatter(
        x=[entry.depth for entry in rows],
        y=[_own(entry) for entry in rows],
        mode="markers",
        name=f"{words}, isolated",
        customdata=[entry.name for entry in rows],
        text=[_hover(entry, causes.get(entry.name, "")) for entry in rows],
        hoverinfo="text",
        marker={
            "color": colour,
            "symbol": symbol,
            "size": [12 if mark else 8 for mark in marked],
            "line": {"color": VERMILLION, "width": [3 if mark else 0 for mark in marked]},
        },
    )


def _hover(entry: TensorFigures, cause: str) -> str:
    lines = [entry.name]
    for what, value in (("isolated", entry.sqnr_isolated), ("accumulated", entry.sqnr)):
        lines.append(f"{what} {value:.1f} dB" if value is not None else f"{what}: no difference")
    return note([*lines, *([cause] if cause else [])])


def tensor_figure(entry: TensorFigures) -> go.Figure:
    """Return a tensor's histogram in float and quantized, with the levels of its grid as lines on the axis.

    Args:
        entry: the tensor; of a per-channel grid the levels of the widest channel are drawn.
    """
    histogram, figure = entry.histogram, go.Figure()
    middles = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    for name, counts, colour in (
        ("float", histogram.reference, COLOURS["float"]),
        ("quantized", histogram.quantized, COLOURS["quantized"]),
    ):
        parts = np.where(counts > 0, counts / max(histogram.sampled, 1), np.nan)
        shape = {"color": colour, "shape": "hvh", "width": 1.5}
        figure.add_trace(go.Scatter(x=middles, y=parts, mode="lines", name=name, line=shape, connectgaps=False))
    levels = _levels(entry)
    if len(levels):
        figure.add_trace(
            go.Scatter(
                x=levels,
                y=np.full(len(levels), 0.02),
                yaxis="y2",
                mode="markers",
                name=f"grid, {entry.site.bits} bits",
                marker={"symbol": "line-ns-open", "color": GREY, "size": 9},
                hovertemplate="%{x:.4g}<extra>level</extra>",
            )
        )
    figure.update_layout(
        **frame(320),
        yaxis={"title": title("part of the values"), "type": "log", "automargin": True, "exponentformat": "power"},
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False},
        xaxis={"title": title(f"value of {entry.name}"), "zeroline": False},
    )
    return figure


def _levels(entry: TensorFigures) -> np.ndarray:
    site = entry.site
    if site.bits is None:
        return np.zeros(0)
    widest = int(np.argmax(site.scale))
    integers = np.arange(site.quant_min, site.quant_max + 1) if site.bits <= 16 else np.zeros(0)
    levels = (integers - site.zero_point[widest]) * site.scale[widest]
    low, high = entry.histogram.edges[0], entry.histogram.edges[-1]
    margin = (high - low) / 4
    levels = levels[(levels >= low - margin) & (levels <= high + margin)]
    shown: np.ndarray = levels[:: max(1, -(-len(levels) // _MOST_LEVELS))]
    return shown


def disagreement_figure(diagnosis: Diagnosis) -> go.Figure:
    """Return isolated SQNR against the drift of each tensor alone: where the two disagree is worth a look.

    Only tensors whose drift was measured have a point; its ``customdata`` is the tensor's name. The line is the noise
    floor.
    """
    figure, drifts = go.Figure(), []
    for role, (words, colour, symbol) in _ROLES.items():
        rows = [
            entry
            for entry in diagnosis.tensors
            if entry.site.role == role and entry.drift is not None and entry.drift.alone and entry.sqnr_isolated
        ]
        heights = [entry.drift.alone for entry in rows if entry.drift is not None]
        drifts += heights
        if rows:
            figure.add_trace(
                go.Scatter(
                    x=[entry.sqnr_isolated for entry in rows],
                    y=heights,
                    mode="markers",
                    name=words,
                    customdata=[entry.name for entry in rows],
                    text=[
                        note([entry.name, f"drift {number(drift)}"]) for entry, drift in zip(rows, heights, strict=True)
                    ],
                    hoverinfo="text",
                    marker={"color": colour, "symbol": symbol, "size": 9},
                )
            )
    if diagnosis.floor:
        figure.add_hline(y=diagnosis.floor, line={"color": GREY, "dash": "dash", "width": 1.5})
    figure.update_xaxes(title=title("isolated SQNR, dB"), zeroline=False)
    figure.update_yaxes(
        title=title("map drift, 1 − CC, of the tensor alone"), **log_scale(log_axis([*drifts, diagnosis.floor]))
    )
    figure.update_layout(**frame(380), hovermode="closest", clickmode="event+select")
    return figure
