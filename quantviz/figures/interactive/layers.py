"""Plotly figures of a network's layers: drift over depth, the ranking, and the noise floor."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.layer_style import GREY, KINDS, depth_axis, frame, log_axis, number, rows_axis, short, times
from quantviz.figures.panels import COLOURS
from quantviz.layerwise.specs import Drift, LayerDrift, NoiseFloor, Sensitivity
from quantviz.specs import UsageError

Measure = Literal["cam", "kl", "sqnr"]

_LEAST = 1e-6  # drift at or below it is drawn here on a logarithmic axis


@dataclass(frozen=True, slots=True)
class _Scale:
    title: str
    words: str
    log: bool


_SCALES: dict[str, _Scale] = {
    "cam": _Scale("map drift, 1 − CC", "map drift", log=True),
    "kl": _Scale("logit drift, KL in nats", "KL", log=True),
    "sqnr": _Scale("SQNR of the logits, dB", "SQNR", log=False),
}


def depth_figure(sensitivity: Sensitivity, *, measure: Measure = "cam", selected: str = "") -> go.Figure:
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
    scale = _scale(measure)
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.1,
        subplot_titles=("only this layer quantized", "every layer but this one quantized"),
    )
    floor = _floor(sensitivity.floor, measure)
    for row, which in enumerate(("alone", "all_but"), start=1):
        line, words = (floor, "noise floor") if row == 1 else (_value(sensitivity.network, measure), "whole network")
        log = scale.log and row == 1
        figure.add_trace(_path(sensitivity.layers, which, measure, log), row=row, col=1)
        for kind in KINDS:
            figure.add_trace(_points(sensitivity, kind, which, measure, log), row=row, col=1)
        if line is not None and sensitivity.layers:
            name = f"{words} {number(line, measure)}"
            figure.add_trace(_level(_drawn(line, log), len(sensitivity.layers), name), row=row, col=1)
    if selected:
        _mark(figure, sensitivity.layers, selected)
    figure.update_yaxes(title={"text": scale.title, "font": {"size": 12}}, zeroline=False, automargin=True)
    if scale.log:
        alone = [_drawn(_value(layer.alone, measure), log=True) for layer in sensitivity.layers]
        figure.update_yaxes(**log_axis([*alone, floor]), row=1, col=1)
    figure.update_xaxes(**depth_axis([layer.cost.name for layer in sensitivity.layers]), row=2, col=1)
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
        figure.add_annotation(text=_bar_text(layer, sensitivity), font_size=12, **place)
    if (floor := sensitivity.floor.floor) is not None:
        figure.add_vline(x=floor, line={"color": GREY, "dash": "dash", "width": 1.5})
        figure.add_annotation(
            x=floor, y=1, yref="paper", yanchor="bottom", text="noise floor", showarrow=False, font_size=11
        )
    largest = max((layer.alone.cam or 0.0 for layer in layers), default=0.0)
    figure.update_xaxes(
        title={"text": "map drift, 1 − CC, with only this layer quantized", "font": {"size": 12}},
        range=[0, 1.35 * max(largest, sensitivity.floor.floor or 0.0, _LEAST)],
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
    title = {"text": "map drift, 1 − CC", "font": {"size": 12}}
    figure.update_xaxes(title=title, rangemode="tozero", fixedrange=True, zeroline=False)
    figure.update_yaxes(**rows_axis([f"{html.escape(name)}: <b>{number(drift.cam)}</b>" for name, drift, _ in rows]))
    figure.update_layout(**frame(40 * len(rows) + 60, 8), showlegend=False, bargap=0.35)
    return figure


def _scale(measure: str) -> _Scale:
    if measure not in _SCALES:
        raise UsageError(f"Measure {measure!r} is unknown; use one of {', '.join(_SCALES)}.")
    return _SCALES[measure]


def _value(drift: Drift, measure: str) -> float | None:
    value: float | None = getattr(drift, measure)
    return value


def _floor(floor: NoiseFloor, measure: str) -> float | None:
    """Return the noise floor in the units of a measure: the float twin that differs more."""
    if measure == "cam":
        return floor.floor
    values = [value for twin in (floor.grey, floor.shift) if (value := _value(twin, measure)) is not None]
    if not values:
        return None
    return min(values) if measure == "sqnr" else max(values)


def _drawn(value: float | None, log: bool) -> float | None:
    return value if value is None or not log else max(value, _LEAST)


def _path(layers: Sequence[LayerDrift], which: str, measure: str, log: bool) -> go.Scatter:
    """Return a thin line from point to point, which leads the eye from layer to layer."""
    return go.Scatter(
        x=[layer.depth for layer in layers],
        y=[_drawn(_value(getattr(layer, which), measure), log) for layer in layers],
        mode="lines",
        line={"color": GREY, "width": 0.7},
        opacity=0.6,
        hoverinfo="skip",
        showlegend=False,
    )


def _points(sensitivity: Sensitivity, kind: str, which: str, measure: str, log: bool) -> go.Scatter:
    words, colour, symbol = KINDS[kind]
    layers = [layer for layer in sensitivity.layers if layer.cost.kind == kind]
    return go.Scatter(
        x=[layer.depth for layer in layers],
        y=[_drawn(_value(getattr(layer, which), measure), log) for layer in layers],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9},
        name=words,
        legendgroup=kind,
        showlegend=which == "alone" and bool(layers),
        customdata=[layer.cost.name for layer in layers],
        hovertext=[_hover(layer, sensitivity) for layer in layers],
        hoverinfo="text",
        unselected={"marker": {"opacity": 0.75}},
    )


def _level(value: float | None, count: int, name: str) -> go.Scatter:
    return go.Scatter(
        x=[-0.7, count - 0.3],
        y=[value, value],
        mode="lines",
        line={"color": GREY, "dash": "dash" if name.startswith("noise") else "dot", "width": 1.8},
        name=name,
        hoverinfo="skip",
    )


def _mark(figure: go.Figure, layers: Sequence[LayerDrift], selected: str) -> None:
    for layer in layers:
        if layer.cost.name == selected:
            for row in (1, 2):
                line = {"color": COLOURS["quantized"], "width": 1.5}
                figure.add_vline(x=layer.depth, line=line, layer="below", row=row, col=1)


def _hover(layer: LayerDrift, sensitivity: Sensitivity) -> str:
    cost = layer.cost
    multiple = times(layer.alone.cam, sensitivity.floor.floor)
    return "<br>".join(
        [
            f"<b>{html.escape(cost.name)}</b>",
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
        width=0.72,  # told, or each trace would take its own from the gaps between its bars
        name=KINDS[kind][0],
        marker={"color": KINDS[kind][1], "line": {"width": 0}},
        customdata=[layer.cost.name for _, layer in chosen],
        hovertext=[_hover(layer, sensitivity) for _, layer in chosen],
        hoverinfo="text",
    )


def _bar_text(layer: LayerDrift, sensitivity: Sensitivity) -> str:
    multiple = times(layer.alone.cam, sensitivity.floor.floor)
    return f"{number(layer.alone.cam)}  ({multiple})" if multiple else number(layer.alone.cam)
