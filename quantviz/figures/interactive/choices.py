"""Plotly figures of what can be chosen: bits of single layers, the front of a search, and the protocol's switches."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.layer_style import GREY, KINDS, depth_axis, frame, log_axis, number, rows_axis
from quantviz.figures.panels import COLOURS, wrapped
from quantviz.layerwise.specs import Attribution, Candidate, Drift, SearchResult
from quantviz.specs import DEVIATIONS, LayerBits, LayerCost

FOUND: Final = "#CC79A7"
"""What a search found: reddish purple of Okabe and Ito (2008)."""

_FLOAT_BITS = 32
_LEAST = 1e-6
_KIB, _MIB = 1 << 10, 1 << 20


def bits_figure(bits: Sequence[LayerBits], costs: Sequence[LayerCost] = ()) -> go.Figure:
    """Return each layer's bits over depth: weights as bars, the layer's input as a stepped line.

    A tensor that stays in float has 32 bits. Hovering tells the name and, where the costs are known, the kind and
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
        title={"text": "bits", "font": {"size": 12}},
        range=[0, largest * 1.08],
        dtick=2 if largest <= 16 else 8,
        fixedrange=True,
    )
    figure.update_layout(**frame(280), bargap=0.15)
    return figure


def front_figure(result: SearchResult) -> go.Figure:
    """Return map drift over stored size: what the search found, its front, and uniform bit-widths.

    Filled marks are the images that the search did not see, open ones those that it did; drift is on a logarithmic
    axis, where what is 10⁻⁶ or less is drawn at 10⁻⁶. Where images have labels, a second panel shows the accuracy on
    the unseen ones. A candidate's ``customdata`` is its name.

    Args:
        result: what to show.
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
    figure.update_yaxes(**log_axis([*drifts, result.max_drift]), title=_small("map drift, 1 − CC"), row=1, col=1)
    figure.update_xaxes(title=_small(f"size in {'MiB' if unit == _MIB else 'KiB'}"), row=2 if labelled else 1, col=1)
    figure.update_xaxes(zeroline=False)
    figure.update_yaxes(zeroline=False, automargin=True)
    figure.update_layout(**frame(620 if labelled else 440, 84), hovermode="closest")
    return figure


def attribution_figure(attribution: Attribution) -> go.Figure:
    """Return the way from the calibrated protocol's mean CC to the paper's, one switch's share after the other.

    The switches stand in order of their share, the greatest loss first. The numbers are those of
    ``shown_shares``, which add up. Hovering tells what a switch does, and the mean CC with it alone.

    Args:
        attribution: what to show.
    """
    shares = shown_shares(attribution)
    first, last = round(attribution.calibrated, 3), round(attribution.paper, 3)
    levels = [first]
    for share in shares.values():
        levels.append(levels[-1] + share)
    lowest, highest = min([*levels, last]), max([*levels, last])
    start = 0.0 if 0 <= lowest < 0.4 else math.floor(20 * (lowest - 0.05)) / 20
    figure = go.Figure()
    figure.add_trace(_total(0, first, start, "calibrated protocol", COLOURS["float"]))
    for row, (name, share) in enumerate(shares.items(), start=1):
        figure.add_trace(_share_bar(row, levels[row - 1], share, name, attribution))
    figure.add_trace(_total(len(shares) + 1, last, start, "the paper's protocol", COLOURS["quantized"]))
    for row, level in enumerate(levels):
        line = {"color": GREY, "width": 1}
        figure.add_shape(type="line", x0=level, x1=level, y0=row - 0.34, y1=row + 1.34, line=line, layer="below")
    room = 0.12 * (highest - start)
    figure.update_xaxes(
        title=_small("mean CC of quantized v float" + ("" if start == 0 else f" (the axis starts at {start:g})")),
        range=[start, highest + room],
        fixedrange=True,
        zeroline=False,
    )
    texts = ["calibrated", *(name.replace("_", " ") for name in shares), "paper"]
    figure.update_yaxes(**rows_axis([f"<b>{text}</b>" if text in ("calibrated", "paper") else text for text in texts]))
    figure.update_layout(**frame(36 * len(texts) + 70, 8), showlegend=False, barmode="overlay")
    return figure


def shown_shares(attribution: Attribution) -> dict[str, float]:
    """Return each switch's share with three decimals, the greatest loss first.

    They add up to the difference of the two mean CCs with three decimals: where rounding alone would not do, the shares
    with the largest remainders are rounded the other way.
    """
    names = sorted(attribution.share, key=lambda name: attribution.share[name])
    total = round(attribution.paper, 3) - round(attribution.calibrated, 3)
    return dict(zip(names, _adding_up([attribution.share[name] for name in names], total), strict=True))


def _adding_up(values: Sequence[float], total: float, decimals: int = 3) -> list[float]:
    """Return the values rounded so that they add up to a total that has these decimals (largest remainders)."""
    unit = 10**decimals
    parts = [round(value * unit) for value in values]
    missing = round(total * unit) - sum(parts)
    step = 1 if missing > 0 else -1
    # First those that rounding moved furthest the other way.
    order = sorted(range(len(parts)), key=lambda place: step * (parts[place] - values[place] * unit))
    for turn in range(abs(missing) if parts else 0):
        parts[order[turn % len(parts)]] += step
    return [part / unit for part in parts]


def _small(text: str) -> dict[str, Any]:
    return {"text": text, "font": {"size": 12}}


def _bits_hover(bits: LayerBits, cost: LayerCost | None) -> str:
    weight, act = (f"{width} bits" if width else "float" for width in (bits.weight_bits, bits.act_bits))
    lines = [f"<b>{html.escape(bits.name)}</b>", f"weights {weight}, input {act}"]
    if cost is not None:
        lines.append(f"{KINDS[cost.kind][0]}, {cost.weights:,} weights")
    return "<br>".join(lines)


def _add_front(figure: go.Figure, result: SearchResult, unit: int) -> None:
    mixed = {"colour": KINDS["linear"][1], "symbol": "circle", "line": "solid"}
    uniform = {"colour": KINDS["depthwise"][1], "symbol": "square", "line": "dot"}
    for group, candidates, look in (("mixed", result.front, mixed), ("uniform", result.uniform, uniform)):
        for seen in (False, True):
            points = [
                (one, drift)
                for one in candidates
                if (drift := _drawn(one.searched if seen else one.held_out)) is not None
            ]
            if not points:
                continue
            labels = group == "uniform" and (not seen or all(one.held_out is None for one in candidates))
            trace = _candidates(points, unit, f"{group}, {'searched' if seen else 'unseen'} images", look, result)
            if labels:
                trace.update(mode="lines+markers+text", text=[one.name for one, _ in points])
            trace.update(marker_symbol=f"{look['symbol']}{'-open' if seen else ''}", opacity=0.55 if seen else 1)
            figure.add_trace(trace, row=1, col=1)
    _add_found(figure, result, unit)
    sizes = [one.cost.bytes / unit for one in (*result.front, *result.uniform)]
    if sizes and result.max_drift > 0:
        line = {"color": GREY, "dash": "dash", "width": 1.5}
        ends, name = [min(sizes), max(sizes)], f"drift allowed, {result.max_drift:g}"
        level = [max(result.max_drift, _LEAST)] * 2
        figure.add_trace(
            go.Scatter(x=ends, y=level, mode="lines", line=line, name=name, hoverinfo="skip"), row=1, col=1
        )


def _drawn(drift: Drift | None) -> float | None:
    """Return where a map drift stands on the logarithmic axis."""
    return None if drift is None or drift.cam is None else max(drift.cam, _LEAST)


def _candidates(
    points: Sequence[tuple[Candidate, float]], unit: int, name: str, look: dict[str, str], result: SearchResult
) -> go.Scatter:
    return go.Scatter(
        x=[one.cost.bytes / unit for one, _ in points],
        y=[drift for _, drift in points],
        mode="lines+markers",
        line={"color": look["colour"], "width": 1.5, "dash": look["line"]},
        marker={"color": look["colour"], "size": 9},
        textposition="top right",
        textfont={"size": 11},
        cliponaxis=False,
        name=name,
        customdata=[one.name for one, _ in points],
        hovertext=[_candidate_hover(one, result) for one, _ in points],
        hoverinfo="text",
    )


def _add_found(figure: go.Figure, result: SearchResult, unit: int) -> None:
    found = result.found
    drift = None if found is None else _drawn(found.held_out or found.searched)
    if found is None or drift is None:
        return
    figure.add_trace(
        go.Scatter(
            x=[found.cost.bytes / unit],
            y=[drift],
            mode="markers",
            marker={"symbol": "star", "size": 18, "color": FOUND, "line": {"color": GREY, "width": 1}},
            name="found",
            customdata=[found.name],
            hovertext=[_candidate_hover(found, result)],
            hoverinfo="text",
        ),
        row=1,
        col=1,
    )


def _add_accuracy(figure: go.Figure, result: SearchResult, unit: int) -> None:
    groups: tuple[tuple[Sequence[Candidate], str, str], ...] = (
        (result.front, KINDS["linear"][1], "circle"),
        (result.uniform, KINDS["depthwise"][1], "square"),
        ((result.found,) if result.found else (), FOUND, "star"),
    )
    for candidates, colour, symbol in groups:
        points = [(one, value) for one in candidates if (value := _accuracy(one)) is not None]
        figure.add_trace(
            go.Scatter(
                x=[one.cost.bytes / unit for one, _ in points],
                y=[value for _, value in points],
                mode="markers" if symbol == "star" else "lines+markers",
                line={"color": colour, "width": 1.5, "dash": "dot" if symbol == "square" else "solid"},
                marker={"color": colour, "symbol": symbol, "size": 18 if symbol == "star" else 9},
                showlegend=False,
                cliponaxis=False,
                customdata=[one.name for one, _ in points],
                hovertext=[_candidate_hover(one, result) for one, _ in points],
                hoverinfo="text",
            ),
            row=2,
            col=1,
        )
    figure.add_hline(
        y=result.float_accuracy,
        line={"color": GREY, "dash": "dash", "width": 1.5},
        annotation_text=f"float {result.float_accuracy:.0%}",
        annotation_position="top left",
        row=2,
        col=1,
    )
    figure.update_yaxes(title=_small("accuracy, unseen images"), tickformat=".0%", rangemode="tozero", row=2, col=1)


def _accuracy(one: Candidate) -> float | None:
    return None if one.held_out is None else one.held_out.accuracy


def _candidate_hover(one: Candidate, result: SearchResult) -> str:
    lines = [f"<b>{html.escape(one.name)}</b>", f"{one.cost.bytes / _MIB:.3f} MiB, {one.cost.bops / 1e9:.2f} GBOPs"]
    for words, drift, images in (
        ("unseen", one.held_out, len(result.held_out)),
        ("searched", one.searched, len(result.searched)),
    ):
        if drift is not None:
            text = f"{words}: drift {number(drift.cam)}, {drift.flips * images:.0f} of {images} labels flipped"
            lines.append(text if drift.accuracy is None else f"{text}, accuracy {drift.accuracy:.0%}")
    return "<br>".join(lines)


def _total(row: int, value: float, start: float, words: str, colour: str) -> go.Bar:
    return go.Bar(
        x=[value - start],
        base=[start],
        y=[row],
        orientation="h",
        width=0.68,
        marker={"color": colour, "line": {"width": 0}},
        text=[f"<b>{value:.3f}</b>"],
        textposition="outside",
        textfont={"size": 12},
        cliponaxis=False,
        hovertemplate=f"{words}: {value:.3f}<extra></extra>",
    )


def _share_bar(row: int, level: float, share: float, name: str, attribution: Attribution) -> go.Bar:
    told = "<br>".join(html.escape(line) for line in wrapped(DEVIATIONS.get(name, ""), 60, lines=6))
    alone = attribution.alone.get(name)
    only = "" if alone is None else f"<br>mean CC with it alone: {alone:.3f}"
    return go.Bar(
        x=[share],
        base=[level],
        y=[row],
        orientation="h",
        width=0.68,
        marker={"color": KINDS["depthwise" if share < 0 else "linear"][1], "line": {"width": 0}},
        text=[f"{share:+.3f}".replace("-", "−")],
        textposition="outside",
        textfont={"size": 12},
        cliponaxis=False,
        customdata=[name],
        hovertext=[f"<b>{name.replace('_', ' ')}</b>: {share:+.4f}{only}<br>{told}"],
        hoverinfo="text",
    )
