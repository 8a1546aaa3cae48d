"""Plotly figure of what each switch of the paper's protocol costs."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from quantviz.figures.data.attribution import shown_shares
from quantviz.figures.data.style import COLOURS, GREY, KINDS
from quantviz.figures.data.words import wrapped
from quantviz.figures.interactive.layout import frame, note, rows_axis, title
from quantviz.layerwise.specs import Attribution
from quantviz.specs import DEVIATIONS

_GAIN, _LOSS = KINDS["linear"][1], KINDS["depthwise"][1]


def attribution_figure(attribution: Attribution) -> go.Figure:
    """Return the way from the calibrated protocol's mean CC to the paper's, one switch's share after the other.

    The switches stand in order of their share, the greatest loss first. The numbers are those of ``shown_shares``,
    which add up. Hovering shows what a switch does, and the mean CC with it alone.
    """
    shares = shown_shares(attribution)
    first, last = round(attribution.calibrated, 3), round(attribution.paper, 3)
    levels = [first]
    for share in shares.values():
        levels.append(levels[-1] + share)
    lowest, highest = min([*levels, last]), max([*levels, last])
    start = 0.0 if 0 <= lowest < 0.4 else math.floor(20 * (lowest - 0.05)) / 20
    figure = go.Figure(_bar(0, start, first - start, COLOURS["float"], f"<b>{first:.3f}</b>"))
    figure.update_traces(hovertext=[f"calibrated protocol: {first:.3f}"])
    for row, (name, share) in enumerate(shares.items(), start=1):
        bar = _bar(row, levels[row - 1], share, _LOSS if share < 0 else _GAIN, f"{share:+.3f}".replace("-", "−"))
        figure.add_trace(bar.update(customdata=[name], hovertext=[_hover(name, share, attribution)]))
    bar = _bar(len(shares) + 1, start, last - start, COLOURS["quantized"], f"<b>{last:.3f}</b>")
    figure.add_trace(bar.update(hovertext=[f"the paper's protocol: {last:.3f}"]))
    for row, level in enumerate(levels):
        line = {"color": GREY, "width": 1}
        figure.add_shape(type="line", x0=level, x1=level, y0=row - 0.34, y1=row + 1.34, line=line, layer="below")
    words = "mean CC of quantized v float" + ("" if start == 0 else f" (the axis starts at {start:g})")
    ends = [start, highest + 0.12 * (highest - start)]
    figure.update_xaxes(title=title(words), range=ends, fixedrange=True, zeroline=False)
    names = [name.replace("_", " ") for name in shares]
    figure.update_yaxes(**rows_axis(["<b>calibrated</b>", *names, "<b>paper</b>"]))
    figure.update_layout(**frame(36 * (len(shares) + 2) + 70, 8), showlegend=False, barmode="overlay")
    return figure


def _bar(row: int, base: float, length: float, colour: str, words: str) -> go.Bar:
    """Return a level bar with words at its end."""
    return go.Bar(
        x=[length],
        base=[base],
        y=[row],
        orientation="h",
        width=0.68,
        marker={"color": colour, "line": {"width": 0}},
        text=[words],
        textposition="outside",
        textfont={"size": 12},
        cliponaxis=False,
        hoverinfo="text",
    )


def _hover(name: str, share: float, attribution: Attribution) -> str:
    alone = attribution.alone.get(name)
    only = [] if alone is None else [f"mean CC with it alone: {alone:.3f}"]
    words, _, rest = note([name.replace("_", " "), *only, *wrapped(DEVIATIONS.get(name, ""), 60, lines=6)]).partition(
        "</b>"
    )
    return f"{words}</b>: {share:+.4f}{rest}"
