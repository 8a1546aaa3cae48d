"""Plotly figures of a network's layers: drift over depth, the ranking, and the noise floor."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.data.study import LEAST, log_axis
from quantviz.figures.data.style import COLOURS, GREY, KINDS
from quantviz.figures.data.words import number, short, times
from quantviz.figures.interactive.layout import depth_axis, frame, log_scale, note, rows_axis, title
from quantviz.layerwise.specs import Drift, LayerDrift, NoiseFloor, Sensitivity
from quantviz.specs import UsageError

LayerMeasure = Literal["cam", "kl", "sqnr"]

_SCALES: Final = {
    "cam": ("map drift, 1 − CC", True),
    "kl": ("logit drift, KL in nats", True),
    "sqnr": ("SQNR of the logits, dB", False),
}
"""Measure -> title of its axis, and whether the drift of a layer alone is logarithmic."""


def depth_figure(sensitivity: Sensitivity, *, measure: LayerMeasure = "cam", selected: str = "") -> go.Figure:
    """Return drift over depth: above when a layer alone is quantized, below when every layer but it is.

    The upper panel's line is the noise floor, the lower one's the network with every layer quantized. Drift is on a
    logarithmic axis above, where what is 10⁻⁶ or less is drawn at 10⁻⁶; the lower panel is linear. A point's
    ``customdata`` is its layer's name. A layer without a value has no point.

    Args:
        sensitivity: what to show.
        measure: ``"cam"``: 1 - CC of the maps; ``"kl"``: of the class probabilities, in nats; ``"sqnr"``: of the
            logits, in decibels (higher is less drift).
        selected: name of a layer to mark, or "".

    Raises:
        UsageError: the measure is unknown.
    """
    if measure not in _SCALES:
        raise UsageError(f"Measure {measure!r} is unknown; use one of {', '.join(_SCALES)}.")
    axis_title, logarithmic = _SCALES[measure]
    titles = "only this layer quantized", "every layer but this one quantized"
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1, subplot_titles=titles)
    layers, floor = sensitivity.layers, _floor(sensitivity.floor, measure)
    alone = _heights([layer.alone for layer in layers], measure, logarithmic)
    others = _heights([layer.all_but for layer in layers], measure, log=False)
    level = floor if floor is None or not logarithmic else max(floor, LEAST)
    floor_line = _level(level, len(layers), f"noise floor {number(floor, measure)}", "dash")
    (whole,) = _heights([sensitivity.network], measure, log=False)
    network_line = _level(whole, len(layers), f"whole network {number(whole, measure)}", "dot")
    for row, (heights, level_line) in enumerate(((alone, floor_line), (others, network_line)), start=1):
        points = [_points(sensitivity, kind, heights, row == 1) for kind in KINDS]
        for trace in (_path(heights), *points, *level_line):
            figure.add_trace(trace, row=row, col=1)
    for layer in layers:
        if layer.cost.name == selected:
            line = {"color": COLOURS["quantized"], "width": 1.5}
            figure.add_vline(x=layer.depth, line=line, layer="below", row="all", col=1)
    figure.update_yaxes(title=title(axis_title), zeroline=False, automargin=True)
    if logarithmic:
        figure.update_yaxes(**log_scale(log_axis([*alone, floor])), row=1, col=1)
    figure.update_xaxes(**depth_axis([layer.cost.name for layer in layers]), row=2, col=1)
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False, row=1, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(**frame(590, 92), hovermode="closest", clickmode="event+select")
    return figure


def ranked_figure(sensitivity: Sensitivity, *, count: int = 15) -> go.Figure:
    """Return the layers that alone move the maps most as bars, the first on top, with the noise floor as a line.

    A bar's ``customdata`` is its layer's name; at its right stands its drift, with the multiple of the noise floor.

    Args:
        sensitivity: what to show.
        count: how many layers, 1 and up.
    """
    layers = sensitivity.ranked[:count]
    figure = go.Figure()
    for kind in KINDS:
        if any(layer.cost.kind == kind for layer in layers):
            figure.add_trace(_ranked_bars(layers, sensitivity, kind))
    for row, layer in enumerate(layers):  # in a column of their own, where no bar or line crosses them
        place = {"x": 1, "xref": "paper", "xanchor": "right", "y": row, "showarrow": False}
        multiple = times(layer.alone.cam, sensitivity.floor.floor)
        words = number(layer.alone.cam) + (f"  ({multiple})" if multiple else "")
        figure.add_annotation(text=words, font_size=12, **place)
    if (floor := sensitivity.floor.floor) is not None:
        figure.add_vline(x=floor, line={"color": GREY, "dash": "dash", "width": 1.5})
        figure.add_annotation(
            x=floor, y=1, yref="paper", yanchor="bottom", text="noise floor", showarrow=False, font_size=11
        )
    largest = max((layer.alone.cam or 0.0 for layer in layers), default=0.0)
    figure.update_xaxes(
        title=title("map drift, 1 − CC, with only this layer quantized"),
        range=[0, 1.35 * max(largest, sensitivity.floor.floor or 0.0, LEAST)],
        fixedrange=True,
        zeroline=False,
    )
    figure.update_yaxes(**rows_axis([html.escape(short(layer.cost.name)) for layer in layers]))
    figure.update_layout(**frame(26 * len(layers) + 120), barmode="overlay")
    figure.update_layout(clickmode="event+select", showlegend=True)
    return figure


def floor_figure(floor: NoiseFloor, network: Drift | None = None, label: str = "") -> go.Figure:
    """Return the map drift of each pair of twins as a bar, with every image's own drift as a dot.

    Args:
        floor: drift that is not quantization.
        network: drift of the quantized network to set beside it, or None.
        label: what the quantized network is called, ``"W8A8"`` say.
    """
    rows: list[tuple[str, Drift, str]] = [
        ("one grey level", floor.grey, COLOURS["float"]),
        ("crop moved by one pixel", floor.shift, COLOURS["float"]),
    ]
    if floor.calibration is not None:
        rows.append(("other calibration half", floor.calibration, KINDS["linear"][1]))
    if network is not None:
        rows.append((f"float v {label}" if label else "quantized", network, COLOURS["quantized"]))
    figure = go.Figure()
    for row, (name, drift, colour) in enumerate(rows):
        cams = [value for value in drift.cams if value is not None]
        figure.add_trace(
            go.Bar(
                x=[drift.cam or 0.0],
                y=[row],
                orientation="h",
                marker={"color": colour, "line": {"width": 0}},
                name=name,
                hovertemplate=f"{html.escape(name)}: mean %{{x:.4f}}<extra></extra>",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=cams,
                y=[row] * len(cams),
                mode="markers",
                marker={"symbol": "line-ns-open", "size": 14, "color": GREY},
                name="one image",
                showlegend=row == 0,
                hovertemplate="one image: %{x:.4f}<extra></extra>",
            )
        )
    figure.update_xaxes(title=title("map drift, 1 − CC"), rangemode="tozero", fixedrange=True, zeroline=False)
    figure.update_yaxes(**rows_axis([f"{html.escape(name)}: <b>{number(drift.cam)}</b>" for name, drift, _ in rows]))
    figure.update_layout(**frame(40 * len(rows) + 60, 8), showlegend=False, bargap=0.35)
    return figure


def _heights(drifts: Sequence[Drift], measure: str, log: bool) -> list[float | None]:
    """Return each drift by a measure, where it is drawn."""
    values: list[float | None] = [getattr(drift, measure) for drift in drifts]
    return [value if value is None or not log else max(value, LEAST) for value in values]


def _floor(floor: NoiseFloor, measure: str) -> float | None:
    """Return the noise floor in the units of a measure: the float twin that differs more."""
    if measure == "cam":
        return floor.floor
    values = [value for value in _heights([floor.grey, floor.shift], measure, log=False) if value is not None]
    if not values:
        return None
    return min(values) if measure == "sqnr" else max(values)


def _path(heights: Sequence[float | None]) -> go.Scatter:
    """Return a thin line from point to point, which leads the eye from layer to layer."""
    line, x = {"color": GREY, "width": 0.7}, list(range(len(heights)))
    return go.Scatter(x=x, y=heights, mode="lines", line=line, opacity=0.6, hoverinfo="skip", showlegend=False)


def _level(height: float | None, count: int, name: str, dash: str) -> list[go.Scatter]:
    """Return a level line over all layers; none without a height or without layers."""
    if height is None or not count:
        return []
    line, x = {"color": GREY, "dash": dash, "width": 1.8}, [-0.7, count - 0.3]
    return [go.Scatter(x=x, y=[height, height], mode="lines", line=line, name=name, hoverinfo="skip")]


def _points(sensitivity: Sensitivity, kind: str, heights: Sequence[float | None], named: bool) -> go.Scatter:
    words, colour, symbol = KINDS[kind]
    points = [pair for pair in zip(sensitivity.layers, heights, strict=True) if pair[0].cost.kind == kind]
    return go.Scatter(
        x=[layer.depth for layer, _ in points],
        y=[height for _, height in points],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9},
        name=words,
        legendgroup=kind,
        showlegend=named and bool(points),
        customdata=[layer.cost.name for layer, _ in points],
        hovertext=[_hover(layer, sensitivity) for layer, _ in points],
        hoverinfo="text",
        unselected={"marker": {"opacity": 0.75}},
    )


def _hover(layer: LayerDrift, sensitivity: Sensitivity) -> str:
    cost = layer.cost
    multiple = times(layer.alone.cam, sensitivity.floor.floor)
    return note(
        [
            cost.name,
            f"{KINDS[cost.kind][0]}, layer {layer.depth + 1} of {len(sensitivity.layers)}",
            f"{cost.weights:,} weights, {cost.macs / 1e6:,.2f} million MACs",
            f"map drift alone {number(layer.alone.cam)}" + (f", {multiple} the noise floor" if multiple else ""),
            f"map drift of all but it {number(layer.all_but.cam)}",
            f"alone: KL {number(layer.alone.kl)} nats, SQNR {number(layer.alone.sqnr, 'sqnr')}",
        ]
    )


def _ranked_bars(layers: Sequence[LayerDrift], sensitivity: Sensitivity, kind: str) -> go.Bar:
    chosen = [(row, layer) for row, layer in enumerate(layers) if layer.cost.kind == kind]
    return go.Bar(
        x=[layer.alone.cam for _, layer in chosen],
        y=[row for row, _ in chosen],
        orientation="h",
        width=0.72,  # given, or each trace would take its own from the gaps between its bars
        name=KINDS[kind][0],
        marker={"color": KINDS[kind][1], "line": {"width": 0}},
        customdata=[layer.cost.name for _, layer in chosen],
        hovertext=[_hover(layer, sensitivity) for _, layer in chosen],
        hoverinfo="text",
    )
