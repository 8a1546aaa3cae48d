"""Plotly figures whose marks are pictures or classes: what is selected in them names these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from quantviz.figures.data.charts import Axis
from quantviz.figures.data.pictures import ClassMatrix, ClassRow, PictureCloud
from quantviz.figures.data.style import COLOURS, GREY
from quantviz.figures.interactive.layout import bars, frame, log_scale, note, rows_axis, text, title

_LOOKS = ((False, "top-1 class kept", COLOURS["float"], "circle"), (True, "changed", COLOURS["quantized"], "x"))
_MOST_MARKS = 2_000  # drawn as SVG; more are drawn by WebGL


def cloud_figure(cloud: PictureCloud) -> go.Figure:
    """Return a dot for each picture, by confidence and drift; its custom data is the picture's place in the study."""
    scatter = go.Scatter if len(cloud.indices) <= _MOST_MARKS else go.Scattergl
    figure = go.Figure()
    for flipped, name, colour, symbol in _LOOKS:
        some = cloud.flipped == flipped
        if not some.any():
            continue
        marks = scatter(
            x=cloud.confidence[some],
            y=cloud.drift[some],
            customdata=cloud.indices[some],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.7},
            name=name,
            hovertemplate="picture %{customdata}: drift %{y:.4f}, confidence %{x:.0%}<extra></extra>",
        )
        figure.add_trace(marks)
    if cloud.floor is not None and cloud.floor > 0:
        figure.add_hline(cloud.floor, line={"color": GREY, "width": 1.5, "dash": "dash"})
        figure.add_annotation(
            x=0,
            xref="paper",
            y=math.log10(cloud.floor),
            text="noise floor",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            font={"size": 12},
        )
    figure.update_xaxes(title=title(cloud.x.title), tickformat=".0%", zeroline=False)
    figure.update_yaxes(title=title(cloud.y.title), **_log(cloud.y), zeroline=False, automargin=True)
    figure.update_layout(**frame(440), hovermode="closest", dragmode="lasso", clickmode="event+select")
    return figure


def drops_figure(rows: Sequence[ClassRow]) -> go.Figure:
    """Return a bar a class, from 0 to its drop of accuracy, with its 95 % interval; custom data is the class."""
    bar = go.Bar(
        x=[row.drop.value for row in rows],
        y=list(range(len(rows))),
        orientation="h",
        error_x=bars((row.drop for row in rows), 1.2, 3),
        marker={"color": COLOURS["quantized"]},
        customdata=[row.index for row in rows],
        hovertext=[note(row.note) for row in rows],
        hoverinfo="text",
    )
    figure = go.Figure(bar)
    figure.update_xaxes(
        title=title("drop of top-1 accuracy"), tickformat=".0%", zeroline=True, zerolinecolor=GREY, fixedrange=True
    )
    figure.update_yaxes(**rows_axis([text(row.name) for row in rows]))
    figure.update_layout(**frame(26 * len(rows) + 70, 8), showlegend=False, clickmode="event+select")
    return figure


def matrix_figure(matrix: ClassMatrix) -> go.Figure:
    """Return a square for each change of class, larger for more pictures; its custom data is the two classes."""
    most = max((count for _, _, count in matrix.marks), default=1)
    marks = go.Scatter(
        x=[column for _, column, _ in matrix.marks],
        y=[row for row, _, _ in matrix.marks],
        mode="markers+text",
        marker={
            "symbol": "square",
            "size": [14 + 12 * math.sqrt(count / most) for _, _, count in matrix.marks],
            "color": COLOURS["quantized"],
        },
        text=[str(count) if count > 1 else "" for _, _, count in matrix.marks],
        textfont={"size": 12, "color": "#FFFFFF"},
        customdata=[[matrix.rows[row][0], matrix.columns[column][0]] for row, column, _ in matrix.marks],
        hovertext=[
            note([f"{matrix.rows[row][1]} became {matrix.columns[column][1]}", _pictures(count)])
            for row, column, count in matrix.marks
        ],
        hoverinfo="text",
    )
    figure = go.Figure(marks)
    columns = len(matrix.columns)
    figure.update_xaxes(
        tickvals=list(range(columns)),
        ticktext=[text(_short(name)) for _, name in matrix.columns],
        range=[-0.7, columns - 0.3],
        tickangle=-45,
        title=title("the quantized network's top-1 class"),
        automargin=True,
        zeroline=False,
        fixedrange=True,
    )
    rows = rows_axis([text(_short(name)) for _, name in matrix.rows]) | {"showgrid": True}
    figure.update_yaxes(**rows, title=title("the float network's top-1 class"), zeroline=False)
    figure.update_layout(**frame(24 * len(matrix.rows) + 180, 8), showlegend=False, clickmode="event+select")
    return figure


def _log(axis: Axis) -> dict[str, Any]:
    return log_scale(axis)


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:20]}…"


def _pictures(count: int) -> str:
    return f"{count:,} picture" + "s" * (count != 1)
