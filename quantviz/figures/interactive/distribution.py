"""Plotly figure of how a score is spread over a study's pictures, as boxes or violins."""

from __future__ import annotations

import html
from typing import Final, Literal, get_args

import plotly.graph_objects as go

from quantviz.figures.data.distribution import Box, BoxGroup, DistributionChart, Spread, density
from quantviz.figures.data.style import GREY
from quantviz.figures.interactive.layout import frame, pale, text, title
from quantviz.specs import UsageError

DistributionKind = Literal["box", "violin"]

_KINDS: Final = get_args(DistributionKind)


def distribution_figure(chart: DistributionChart, kind: DistributionKind = "box") -> go.Figure:
    """Return how a score is spread over the pictures: a group for each network, in it a box or violin a bit-width.

    Boxes have dots for values beyond the whiskers (24 a box at most); violins are as wide as each other. The diamond
    is the mean; hovering over it shows the numbers. The figure's size does not depend on the number of pictures.

    Args:
        chart: what to show.
        kind: ``"box"`` or ``"violin"``.

    Raises:
        UsageError: the kind is unknown.
    """
    if kind not in _KINDS:
        raise UsageError(f"Kind {kind!r} is unknown; use one of {', '.join(_KINDS)}.")
    figure = go.Figure()
    for group in chart.groups:
        parts = _violins(group, chart.width) if kind == "violin" else _boxes(group, chart.width)
        figure.add_traces([trace.update(legendgroup=group.name, name=group.name) for trace in (*parts, _means(group))])
    figure.update_xaxes(
        tickvals=list(range(len(chart.networks))),
        ticktext=[text(name, "<br>") for name in chart.networks],
        range=[-0.5, max(len(chart.networks), 1) - 0.5],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        automargin=True,
    )
    figure.update_yaxes(title=title(", ".join(chart.titles)), zeroline=False, automargin=True)
    figure.update_layout(**frame(460), hovermode="closest")
    return figure


def _means(group: BoxGroup) -> go.Scatter:
    """Return the diamonds at the means."""
    return go.Scatter(
        x=[box.x for box in group.boxes],
        y=[box.spread.mean for box in group.boxes],
        mode="markers",
        marker={"symbol": "diamond", "size": 7, "color": "#FFFFFF", "line": {"color": "#000000", "width": 1}},
        hovertext=[_hover(group.name, box.spread) for box in group.boxes],
        hoverinfo="text",
        showlegend=False,
    )


def _boxes(group: BoxGroup, width: float) -> list[go.Box | go.Scatter]:
    """Return all boxes of a bit-width as one trace, and the dots beyond their whiskers as another."""
    spreads = [box.spread for box in group.boxes]
    boxes = go.Box(
        x=[box.x for box in group.boxes],
        q1=[spread.quartiles[0] for spread in spreads],
        median=[spread.quartiles[1] for spread in spreads],
        q3=[spread.quartiles[2] for spread in spreads],
        lowerfence=[spread.whiskers[0] for spread in spreads],
        upperfence=[spread.whiskers[1] for spread in spreads],
        width=width,
        fillcolor=pale(group.colour),
        line={"color": group.colour, "width": 1.5},
        hoverinfo="skip",
    )
    dots = go.Scatter(
        x=[box.x for box in group.boxes for _ in box.spread.outliers],
        y=[float(value) for spread in spreads for value in spread.outliers],
        mode="markers",
        marker={"size": 4, "color": group.colour, "opacity": 0.55, "line": {"color": GREY, "width": 0}},
        hovertemplate=f"{html.escape(group.name)}: %{{y:.4f}}<extra></extra>",
        showlegend=False,
    )
    return [boxes, dots]


def _violins(group: BoxGroup, width: float) -> list[go.Scatter]:
    """Return all violins of a bit-width as one trace, their outlines parted by gaps, and their quartiles as another."""
    x: list[float | None] = []
    y: list[float | None] = []
    for box in group.boxes:
        places, heights = density(box.values)
        half = heights * width / 2
        x += [*(box.x + half).round(4).tolist(), *(box.x - half)[::-1].round(4).tolist(), None]
        y += [*places.round(6).tolist(), *places[::-1].round(6).tolist(), None]
    line = {"color": group.colour, "width": 1.5}
    outlines = go.Scatter(
        x=x, y=y, mode="lines", fill="toself", fillcolor=pale(group.colour), line=line, hoverinfo="skip"
    )
    return [outlines, _quartiles(group.boxes, width)]


def _quartiles(boxes: tuple[Box, ...], width: float) -> go.Scatter:
    """Return the quartiles of violins as upright lines with a dash across at the median."""
    x: list[float | None] = []
    y: list[float | None] = []
    for box in boxes:
        first, median, third = box.spread.quartiles
        x += [box.x, box.x, None, box.x - width / 8, box.x + width / 8, None]
        y += [first, third, None, median, median, None]
    return go.Scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 2}, hoverinfo="skip", showlegend=False)


def _hover(name: str, spread: Spread) -> str:
    first, median, third = spread.quartiles
    return "<br>".join(
        [
            f"<b>{html.escape(name)}</b>, {spread.n:,} pictures",
            f"mean {spread.mean:.4f}, sd {spread.sd:.4f}",
            f"median {median:.4f}, middle half {first:.4f} to {third:.4f}",
            f"whiskers {spread.whiskers[0]:.4f} to {spread.whiskers[1]:.4f}, {spread.beyond:,} beyond",
        ]
    )
