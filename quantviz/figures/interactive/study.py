"""Plotly figures of a study: scores against bits, accuracy against drift, and networks ranked by drift."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.data.charts import Axis, LineChart, Look, RankChart
from quantviz.figures.data.style import COLOURS, GREY
from quantviz.figures.interactive.layout import bars, frame, log_scale, note, rows_axis, text, title

_MOST_LABELS = 32


def drift_figure(chart: LineChart) -> go.Figure:
    """Return a score's mean against the bit-widths, a line for each network and protocol, with 95 % intervals.

    Solid lines and filled symbols are of the first protocol.
    """
    figure = go.Figure([*_lines(chart, 1.2, 3), *_protocol_keys(chart)])
    figure.update_xaxes(
        tickvals=[place for place, _ in chart.x.ticks],
        ticktext=[text(words) for _, words in chart.x.ticks],
        title=title(chart.x.title),
        range=[-0.4, max(len(chart.x.ticks), 1) - 0.6],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_yaxes(**_axis(chart.y), zeroline=False, automargin=True)
    _band(figure, chart)
    figure.update_layout(**frame(480, _top(chart)), hovermode="closest", clickmode="event+select")
    return figure


def accuracy_figure(chart: LineChart) -> go.Figure:
    """Return accuracy, or what stands for it, against mean map drift: a point for each cell, named by its bits.

    Points of one network and protocol are joined. Bars are 95 % intervals: upright ones of the rates, level ones of the
    mean drift. Dashed lines are the float networks' accuracies.
    """
    named = sum(len(series.points) for series in chart.series) <= _MOST_LABELS
    figure = go.Figure(_lines(chart, 0.8, 2))
    for trace, series in zip(figure.data, chart.series, strict=True):
        trace.update(
            error_x=bars((point.x for point in series.points), 1.2, 3),
            mode="lines+markers+text" if named else "lines+markers",
            text=[text(point.label) for point in series.points],
            textposition="top center",
            textfont_size=10,
            cliponaxis=False,
        )
    figure.add_traces(_protocol_keys(chart))
    for colour, height in chart.levels:
        line = {"color": colour, "width": 1.2, "dash": "dash"}
        level = {"y0": height, "y1": height, "x0": 0, "x1": 1, "xref": "paper"}
        figure.add_shape(type="line", line=line, layer="below", opacity=0.55, **level)
    figure.update_xaxes(**_axis(chart.x))
    figure.update_yaxes(**_axis(chart.y), zeroline=False, automargin=True)
    figure.update_layout(**frame(500, _top(chart)), hovermode="closest", clickmode="event+select")
    return figure


def ranking_figure(chart: RankChart) -> go.Figure:
    """Return networks ranked by mean map drift, the least on top, beside how often each has which rank.

    At the left the mean with its 95 % interval; at the right the part of the bootstrap samples of the pictures in
    which the network has the rank, so that a rank that other pictures might have changed is seen to be uncertain.
    """
    count = max(len(chart.rows), 1)
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        column_widths=[0.55, 0.45],
        horizontal_spacing=0.03,
        subplot_titles=(f"mean drift at {text(chart.setting)}", "how often it has which rank"),
    )
    dots = go.Scatter(
        x=[row.drift.value for row in chart.rows],
        y=list(range(len(chart.rows))),
        error_x=bars((row.drift for row in chart.rows), 1.2, 3),
        mode="markers",
        marker={"color": COLOURS["quantized"], "size": 10},
        hovertext=[note(row.note) for row in chart.rows],
        hoverinfo="text",
    )
    figure.add_trace(dots, row=1, col=1)
    figure.add_trace(_shares(chart), row=1, col=2)
    drift, rank = map(title, chart.titles)
    figure.update_xaxes(title=drift, rangemode="tozero", zeroline=False, fixedrange=True, row=1, col=1)
    ranks = {"tickvals": list(range(1, len(chart.rows) + 1)), "range": [0.5, count + 0.5]}
    figure.update_xaxes(**ranks, title=rank, showgrid=False, fixedrange=True, row=1, col=2)
    labels = [f"{text(row.name, '<br>')}: <b>{text(row.words)}</b>" for row in chart.rows]
    figure.update_yaxes(**rows_axis(labels), zeroline=False)
    figure.update_annotations(font_size=13)
    figure.update_layout(**frame(44 * count + 100, 36), showlegend=False)
    return figure


def _lines(chart: LineChart, thickness: float, width: int) -> list[go.Scatter]:
    """Return a trace for each series, the first one of a network with its entry of the legend.

    The upright error bars have a thickness and a width in pixels.
    """
    named = [series.network for series in chart.series]
    return [
        go.Scatter(
            x=[point.x.value for point in series.points],
            y=[point.y.value for point in series.points],
            error_y=bars((point.y for point in series.points), thickness, width),
            mode="lines+markers",
            hovertext=[note(point.note) for point in series.points],
            hoverinfo="text",
            customdata=[[series.network, point.label, series.protocol] for point in series.points],
            name=text(series.name),
            legendgroup=series.network,
            showlegend=series.network not in named[:place],
            **_look(series.look),
        )
        for place, series in enumerate(chart.series)
    ]


def _band(figure: go.Figure, chart: LineChart) -> None:
    """Shade what is no finding, from the bottom to its height, and name it in a corner that has no points."""
    if chart.band is None:
        return
    low = -20.0 if chart.y.exponents is None else 10 ** chart.y.exponents[0]
    figure.add_hrect(low, chart.band.top, fillcolor=GREY, opacity=0.22, line_width=0, layer="below")
    place = math.log10(chart.band.top) if chart.y.exponents is not None else chart.band.top
    figure.add_annotation(
        x=0.01,
        xref="paper",
        y=place,
        text=text(chart.band.name),
        showarrow=False,
        xanchor="left",
        yanchor="top",
        font={"size": 12},
    )


def _protocol_keys(chart: LineChart) -> list[go.Scatter]:
    """Return entries of the legend that tell the protocols' lines apart."""
    return [
        go.Scatter(x=[None], y=[None], mode="lines+markers", name=text(name), hoverinfo="skip", **_look(look))
        for name, look in chart.protocols
    ]


def _look(look: Look) -> dict[str, Any]:
    symbol = look.symbol if look.filled else f"{look.symbol}-open"
    return {
        "line": {"color": look.colour, "width": 1.8, "dash": look.dash},
        "marker": {"color": look.colour, "symbol": symbol, "size": 9},
    }


def _axis(axis: Axis) -> dict[str, Any]:
    """Return an axis of numbers."""
    scale = log_scale(axis) if axis.exponents else {}
    parts = {"tickformat": ".0%", "rangemode": "tozero"} if axis.percent else {}
    return {"title": title(axis.title), **scale, **parts}


def _top(chart: LineChart) -> int:
    """Return the margin that the legend needs, in pixels, in a narrow page."""
    return 36 + 20 * (-(-len(chart.networks + chart.protocols) // 4))


def _shares(chart: RankChart) -> go.Heatmap:
    """Return how often each network has which rank; what is too small to show is left blank, on white and on black."""
    count = len(chart.rows)
    return go.Heatmap(
        x=list(range(1, count + 1)),
        y=list(range(count)),
        z=[
            [share if words else None for share, words in zip(row.shares, row.texts, strict=True)] for row in chart.rows
        ],
        text=[row.texts for row in chart.rows],
        texttemplate="%{text}",
        textfont={"size": 12, "color": "#111111"},  # left to Plotly, it is grey on the middle of the scale
        colorscale=[[0, "#E8F1F8"], [1, "#3D9BD6"]],
        zmin=0,
        zmax=1,
        xgap=3,
        ygap=3,
        showscale=False,
        hovertemplate="rank %{x}: %{text} of the bootstrap samples<extra></extra>",
    )
