"""Plotly figures of chosen bits: those of single layers, and the front of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.data.study import LEAST, log_axis
from quantviz.figures.data.style import COLOURS, GREY, KINDS, PURPLE
from quantviz.figures.data.words import number
from quantviz.figures.interactive.layout import depth_axis, frame, log_scale, note, title
from quantviz.layerwise.specs import Candidate, Drift, SearchResult
from quantviz.specs import LayerBits, LayerCost

_FLOAT_BITS = 32
_KIB, _MIB = 1 << 10, 1 << 20
_MIXED, _UNIFORM = KINDS["linear"][1], KINDS["depthwise"][1]
_STAR = {"symbol": "star", "size": 18, "color": PURPLE}

_Points = list[tuple[Candidate, float]]


def bits_figure(bits: Sequence[LayerBits], costs: Sequence[LayerCost] = ()) -> go.Figure:
    """Return each layer's bits over depth: weights as bars, the layer's input as a stepped line.

    A tensor that stays in float has 32 bits. Hovering shows the name and, where the costs are known, the kind and
    the number of weights.

    Args:
        bits: of every layer; in any order where the costs are known, else in order of execution.
        costs: of the layers, in order of execution.
    """
    known = {cost.name: cost for cost in costs}
    places = {cost.name: place for place, cost in enumerate(costs)}
    ordered = sorted(bits, key=lambda layer: places.get(layer.name, len(places)))
    names, x = [layer.name for layer in ordered], list(range(len(bits)))
    weights = [layer.weight_bits or _FLOAT_BITS for layer in ordered]
    acts = [layer.act_bits or _FLOAT_BITS for layer in ordered]
    bars = go.Bar(
        x=x,
        y=weights,
        name="weights",
        marker={"color": COLOURS["float"], "line": {"width": 0}},
        customdata=names,
        hovertext=[_bits_hover(layer, known.get(layer.name)) for layer in ordered],
        hoverinfo="text",
    )
    line = {"color": COLOURS["quantized"], "width": 2, "shape": "hvh"}
    steps = go.Scatter(x=x, y=acts, mode="lines", line=line, name="input of the layer", hoverinfo="skip")
    largest = max([*weights, *acts, 8])
    figure = go.Figure([bars, steps])
    figure.update_xaxes(**depth_axis(names))
    figure.update_yaxes(
        title=title("bits"),
        range=[0, largest * 1.08],
        dtick=2 if largest <= 16 else 8,
        fixedrange=True,
    )
    figure.update_layout(**frame(280), bargap=0.15)
    return figure


def front_figure(result: SearchResult) -> go.Figure:
    """Return map drift over stored size: what the search found, its front, and uniform bit-widths.

    Filled symbols are the images that the search did not see, open ones those that it did; drift is on a logarithmic
    axis, where what is 10⁻⁶ or less is drawn at 10⁻⁶. Where images have labels, a second panel shows the accuracy on
    the unseen ones. A candidate's ``customdata`` is its name.
    """
    everyone = [*result.front, *result.uniform]
    labelled = result.float_accuracy is not None
    # One row where there is no accuracy; the second axis would be empty.
    figure = make_subplots(rows=2 if labelled else 1, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    unit = _MIB if max((one.cost.bytes for one in everyone), default=0) >= 2 * _MIB else _KIB
    _add_front(figure, result, unit)
    if labelled:
        _add_accuracy(figure, result, unit)
    drifts = [_drawn(drift) for one in everyone for drift in (one.searched, one.held_out)]
    figure.update_yaxes(
        **log_scale(log_axis([*drifts, result.max_drift])), title=title("map drift, 1 − CC"), row=1, col=1
    )
    figure.update_xaxes(title=title(f"size in {'MiB' if unit == _MIB else 'KiB'}"), row=2 if labelled else 1, col=1)
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, automargin=True)
    figure.update_layout(**frame(620 if labelled else 440, 84), hovermode="closest")
    return figure


def _bits_hover(bits: LayerBits, cost: LayerCost | None) -> str:
    weight, act = (f"{width} bits" if width else "float" for width in (bits.weight_bits, bits.act_bits))
    kind = [] if cost is None else [f"{KINDS[cost.kind][0]}, {cost.weights:,} weights"]
    return note([bits.name, f"weights {weight}, input {act}", *kind])


def _add_front(figure: go.Figure, result: SearchResult, unit: int) -> None:
    looks = {"mixed": (_MIXED, "circle", "solid"), "uniform": (_UNIFORM, "square", "dot")}
    for group, candidates in (("mixed", result.front), ("uniform", result.uniform)):
        colour, symbol, dash = looks[group]
        for seen in (False, True):
            points = _points(candidates, [_drawn(one.searched if seen else one.held_out) for one in candidates])
            if not points:
                continue
            labels = group == "uniform" and (not seen or all(one.held_out is None for one in candidates))
            trace = _candidates(points, unit, result, colour, dash)
            trace.update(
                name=f"{group}, {'searched' if seen else 'unseen'} images",
                mode="lines+markers+text" if labels else "lines+markers",
                text=[one.name for one, _ in points] if labels else None,
                textposition="top right",
                textfont_size=11,
                marker_symbol=f"{symbol}{'-open' if seen else ''}",
                opacity=0.55 if seen else 1,
            )
            figure.add_trace(trace, row=1, col=1)
    best = result.found
    if best is not None and (star := _points([best], [_drawn(best.held_out or best.searched)])):
        trace = _candidates(star, unit, result, PURPLE)
        marker = _STAR | {"line": {"color": GREY, "width": 1}}
        figure.add_trace(trace.update(name="found", mode="markers", marker=marker), row=1, col=1)
    sizes = [one.cost.bytes / unit for one in (*result.front, *result.uniform)]
    if sizes and result.max_drift > 0:
        line = {"color": GREY, "dash": "dash", "width": 1.5}
        ends, name = [min(sizes), max(sizes)], f"drift allowed, {result.max_drift:g}"
        level = [max(result.max_drift, LEAST)] * 2
        figure.add_trace(
            go.Scatter(x=ends, y=level, mode="lines", line=line, name=name, hoverinfo="skip"), row=1, col=1
        )


def _drawn(drift: Drift | None) -> float | None:
    """Return where a map drift stands on the logarithmic axis."""
    return None if drift is None or drift.cam is None else max(drift.cam, LEAST)


def _points(candidates: Sequence[Candidate], heights: Sequence[float | None]) -> _Points:
    """Return the candidates that have a height, with it."""
    return [(one, y) for one, y in zip(candidates, heights, strict=True) if y is not None]


def _candidates(points: _Points, unit: int, result: SearchResult, colour: str, dash: str = "solid") -> go.Scatter:
    return go.Scatter(
        x=[one.cost.bytes / unit for one, _ in points],
        y=[height for _, height in points],
        mode="lines+markers",
        line={"color": colour, "width": 1.5, "dash": dash},
        marker={"color": colour, "size": 9},
        cliponaxis=False,
        customdata=[one.name for one, _ in points],
        hovertext=[_candidate_hover(one, result) for one, _ in points],
        hoverinfo="text",
    )


def _add_accuracy(figure: go.Figure, result: SearchResult, unit: int) -> None:
    groups: tuple[tuple[Sequence[Candidate], str, str, dict[str, Any]], ...] = (
        (result.front, _MIXED, "solid", {"marker_symbol": "circle"}),
        (result.uniform, _UNIFORM, "dot", {"marker_symbol": "square"}),
        ((result.found,) if result.found else (), PURPLE, "solid", {"mode": "markers", "marker": _STAR}),
    )
    for candidates, colour, dash, look in groups:
        heights = [None if one.held_out is None else one.held_out.accuracy for one in candidates]
        trace = _candidates(_points(candidates, heights), unit, result, colour, dash)
        figure.add_trace(trace.update(showlegend=False, **look), row=2, col=1)
    figure.add_hline(
        y=result.float_accuracy,
        line={"color": GREY, "dash": "dash", "width": 1.5},
        annotation_text=f"float {result.float_accuracy:.0%}",
        annotation_position="top left",
        row=2,
        col=1,
    )
    figure.update_yaxes(title=title("accuracy, unseen images"), tickformat=".0%", rangemode="tozero", row=2, col=1)


def _candidate_hover(one: Candidate, result: SearchResult) -> str:
    lines = [one.name, f"{one.cost.bytes / _MIB:.3f} MiB, {one.cost.bops / 1e9:.2f} GBOPs"]
    for words, drift, images in (
        ("unseen", one.held_out, len(result.held_out)),
        ("searched", one.searched, len(result.searched)),
    ):
        if drift is not None:
            text = f"{words}: drift {number(drift.cam)}, {drift.flips * images:.0f} of {images} labels flipped"
            lines.append(text if drift.accuracy is None else f"{text}, accuracy {drift.accuracy:.0%}")
    return note(lines)
