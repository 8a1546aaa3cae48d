"""Plotly figures for the page. Colours of text and paper are left to the page's theme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from quantviz.figures.data.panels import Maps, Panel, class_labels, explained, grey, model_names, model_results, panels
from quantviz.figures.data.style import COLOURS
from quantviz.figures.data.words import percent, wrapped
from quantviz.figures.interactive.layout import CLEAR, data_uri, rows_axis, text, title
from quantviz.figures.interactive.overlay import DIVERGING
from quantviz.specs import CamResult, Comparison, NetworkMap, UsageError

_GAP = 0.012  # between panels, as a part of the figure's width
_GRID = 112  # samples a side of a map that are sent to the browser; the picture is sent whole
_DESIGN_WIDTH = 1100  # width in pixels at which panels fill the figure's height
_NARROWEST = 512  # width in pixels of the plot on a page of 900 with its sidebar: titles fit their panels from there on
_TITLE_CHARACTERS, _TITLE_LINES = 24, 4
_MANY_PANELS = 6
_BAR_HEIGHT = 0.36  # of a row, where it holds two bars


def maps_figure(comparison: Maps, *, opacity: float, name: str = "") -> go.Figure:
    """Return the picture and its maps side by side, zoomed together.

    Panels: original, saliency where there is one, float, quantized, deployed where there is one, and the difference
    quantized - float; of one network's map: original, saliency, map. The maps share one scale, 0 to 1; the difference
    has its own, symmetric about 0, whose limit is in the panel's title. Hovering shows a pixel's column and row,
    counted from the upper left from 0, and its value. A map without evidence is replaced by the reason. The figure is
    about half a megabyte of JSON for 224 x 224 pixels.

    Args:
        comparison: what to show.
        opacity: of the maps over the picture, in [0, 1].
        name: what the quantized model is called, "" for its bit-widths.

    Raises:
        UsageError: the opacity is out of range.
    """
    if not 0 <= opacity <= 1:
        raise UsageError(f"Opacity {opacity!r} is not a number from 0 to 1.")
    shown = panels(comparison, name)
    height, width = comparison.crop.shape[:2]
    edges = _edges(len(shown))
    titles = _titles(comparison, shown, name)
    lines = max(words.count("<br>") for words in titles) + 1
    figure = go.Figure()
    for number, panel in enumerate(shown, start=1):
        if panel.values is not None:
            figure.add_trace(_heat(panel, number, opacity))
    figure.update_layout(
        images=_backgrounds(comparison, len(shown)),
        annotations=[
            *(_note(words, at, len(shown), 1) | {"yanchor": "bottom"} for at, words in enumerate(titles, start=1)),
            *(_problem(panel, at, len(shown)) for at, panel in enumerate(shown, start=1) if panel.problem),
        ],
        coloraxis=_shared_scale(shown, edges),
        **_difference_scale(shown, edges),
        height=math.ceil(_DESIGN_WIDTH * (edges[0][1] - edges[0][0]) * height / width) + 16 * lines + 62,
        margin={"l": 4, "r": 4, "t": 16 * lines + 8, "b": 54},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        uirevision=comparison.sample.id,  # keeps the zoom while opacity or bit-widths change
        **_axes(edges, height, width),
    )
    return figure


def predictions_figure(comparison: Comparison) -> go.Figure:
    """Return the models' top-5 as bars side by side, the float model's first and in its order.

    A class that a model does not have among its top-5 is shown as "below top-5": its probability is not known here.
    """
    results = model_results(comparison)
    height = 2 * _BAR_HEIGHT / len(results)
    labels = class_labels(comparison)
    rows = {index: row for row, index in enumerate(labels)}
    figure = go.Figure()
    for side, (which, result) in enumerate(results.items()):
        shift = (side - (len(results) - 1) / 2) * height
        figure.add_trace(_bars(result, rows, (shift, height), model_names(comparison)[which], COLOURS[which]))
        known = {entry.index for entry in result.predictions}
        for index in labels.keys() - known:
            figure.add_annotation(
                x=0, y=rows[index] + shift, text="<i>below top-5</i>", font_size=11, showarrow=False, xanchor="left"
            )
    figure.update_layout(_bars_layout(comparison, list(labels.values())))
    return figure


def _edges(count: int) -> list[tuple[float, float]]:
    """Return the left and right edge of each panel in parts of the plot's width."""
    step = (1 + _GAP) / count
    return [(number * step, number * step + step - _GAP) for number in range(count)]


def _axis_ids(number: int) -> tuple[str, str]:
    return ("x", "y") if number == 1 else (f"x{number}", f"y{number}")


def _axes(edges: Sequence[tuple[float, float]], height: int, width: int) -> dict[str, Any]:
    """Return the axes of all panels: without ticks, rows counted downwards, square pixels, one zoom."""
    common = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False, "constrain": "domain"}
    axes: dict[str, Any] = {}
    for number, edge in enumerate(edges, start=1):
        x, y = _axis_ids(number)
        shared = {} if number == 1 else {"matches": "x"}
        axes[f"xaxis{x[1:]}"] = common | shared | {"domain": edge, "anchor": y, "range": [-0.5, width - 0.5]}
        shared = {} if number == 1 else {"matches": "y"}
        axes[f"yaxis{y[1:]}"] = (
            common
            | shared
            # at the bottom, next to the colour bars, when the figure is narrower than its height was made for
            | {"constraintoward": "bottom", "anchor": x, "range": [height - 0.5, -0.5], "scaleanchor": x}
        )
    return axes


def _heat(panel: Panel, number: int, opacity: float) -> go.Heatmap:
    """Return a map's trace; maps are smooth, so every second or so pixel, interpolated, shows as much as all."""
    values = panel.values
    assert values is not None
    height, width = values.shape
    rows, columns = _sampled(height), _sampled(width)
    x, y = _axis_ids(number)
    difference = panel.kind == "difference"
    return go.Heatmap(
        z=values[np.ix_(rows, columns)],
        x=columns,
        y=rows,
        xaxis=x,
        yaxis=y,
        name=panel.name,
        opacity=opacity,
        zsmooth="best",
        coloraxis="coloraxis2" if difference else "coloraxis",
        hovertemplate=(
            f"x %{{x}}, y %{{y}}<br>{panel.kind if difference else panel.name} "
            f"%{{z:{'+.3f' if difference else '.2f'}}}<extra></extra>"
        ),
    )


def _sampled(side: int) -> npt.NDArray[np.int16]:
    """Return which pixels of a side are sent: evenly spaced ones, and the last, so that no edge stays bare."""
    return np.union1d(np.arange(0, side, math.ceil(side / _GRID)), side - 1).astype(np.int16)


def _backgrounds(comparison: Maps, count: int) -> list[dict[str, Any]]:
    """Return the picture for each panel: in colour where nothing lies over it, else in grey."""
    height, width = comparison.crop.shape[:2]
    # The grey copies lie under a map, where JPEG's losses do not show and its size counts once for each panel.
    colour = data_uri(comparison.crop, "PNG", optimize=True)
    luma = data_uri(grey(comparison.crop), "JPEG", optimize=True, quality=92)
    images = []
    for number in range(1, count + 1):
        x, y = _axis_ids(number)
        placed = {"x": -0.5, "y": -0.5, "sizex": width, "sizey": height, "xref": x, "yref": y}
        source = colour if number == 1 else luma
        images.append(placed | {"source": source, "layer": "below", "sizing": "stretch"})
    return images


def _titles(comparison: Maps, shown: Sequence[Panel], name: str) -> list[str]:
    second = {
        "original": comparison.sample.name,
        "saliency": comparison.saliency.source if comparison.saliency is not None else "",
        "difference": "" if isinstance(comparison, NetworkMap) else f"{name or comparison.quant.label} − float",
        **{panel.kind: explained(comparison, panel.result) for panel in shown if panel.result is not None},
    }
    width = _characters(len(shown))
    # A fixed budget of characters, on as many lines as the panel's width takes.
    most = min(_TITLE_LINES, math.ceil(2 * _TITLE_CHARACTERS / width))
    above = [wrapped(panel.name, width, lines=_TITLE_LINES) for panel in shown]
    below = [wrapped(second[panel.kind], width, lines=most) for panel in shown]
    lines = max(len(name) + len(rest) for name, rest in zip(above, below, strict=True))
    return [
        "<br>".join([f"<b>{'<br>'.join(map(html.escape, name))}</b>", *map(html.escape, rest)])
        + "<br> " * (lines - len(name) - len(rest))
        for name, rest in zip(above, below, strict=True)
    ]


def _characters(count: int) -> int:
    """Return how many characters fit on a line over one of ``count`` panels where the page is narrow."""
    left, right = _edges(count)[0]
    return min(_TITLE_CHARACTERS, int(_NARROWEST * (right - left) / (0.53 * _title_size(count))))


def _title_size(count: int) -> int:
    """Return the titles' font size in pixels; a character is about 0.53 of it wide."""
    return 12 if count < _MANY_PANELS else 11


def _note(words: str, number: int, count: int, y: float) -> dict[str, Any]:
    """Return a text in the middle of a panel, at a height from 0 to 1."""
    axis_x, axis_y = _axis_ids(number)
    place = {"x": 0.5, "xref": f"{axis_x} domain", "y": y, "yref": f"{axis_y} domain"}
    return {"text": words, **place, "showarrow": False, "font_size": _title_size(count)}


def _problem(panel: Panel, number: int, count: int) -> dict[str, Any]:
    """Return the reason that stands in for a map; it lies on a picture, so it brings its own background."""
    reason = "<br>".join(map(html.escape, wrapped(panel.problem, min(20, _characters(count)), lines=6)))
    ground = {"font_color": "#FFFFFF", "bgcolor": "rgba(0,0,0,0.75)", "borderpad": 4}
    return _note(reason, number, count, 0.5) | ground


def _shared_scale(shown: Sequence[Panel], edges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    spans = [edge for panel, edge in zip(shown, edges, strict=True) if panel.kind not in ("original", "difference")]
    bar = _colour_bar(spans[0][0], spans[-1][1], {0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1: "1"})
    seen = any(panel.values is not None and panel.kind != "difference" for panel in shown)
    return {"cmin": 0, "cmax": 1, "colorscale": "Viridis", "colorbar": bar, "showscale": seen}


def _difference_scale(shown: Sequence[Panel], edges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the axis of the difference's colours; nothing where there is no difference."""
    if shown[-1].kind != "difference":
        return {}
    limit = shown[-1].limit
    bar = _colour_bar(*edges[-1], {-limit: f"−{limit:g}", 0: "0", limit: f"+{limit:g}"})
    seen = shown[-1].values is not None
    scale = {"cmin": -limit, "cmax": limit, "colorscale": DIVERGING, "colorbar": bar, "showscale": seen}
    return {"coloraxis2": scale}


def _colour_bar(left: float, right: float, ticks: dict[float, str]) -> dict[str, Any]:
    return {
        "orientation": "h",
        "x": (left + right) / 2,
        "len": right - left - 0.04,  # the outermost labels stay within the panels
        "y": 0,
        "yanchor": "top",
        "ypad": 8,
        "xpad": 0,
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
        "tickfont": {"size": 11},
    }


def _bars_layout(comparison: Comparison, labels: Sequence[str]) -> dict[str, Any]:
    results = model_results(comparison)
    largest = max(result.predictions[0].probability for result in results.values())
    return {
        "barmode": "overlay",  # bars are placed by hand, so that a missing one leaves its place free
        "height": (38 if len(results) == 2 else 50) * len(labels) + 68,
        "margin": {"l": 8, "r": 8, "t": 36, "b": 32},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "xaxis": {
            "range": [0, max(1.2 * largest, 0.1)],  # the text of the longest bar needs room
            "title": title("probability"),
            "showticklabels": False,  # each bar has its number beside it
            "showgrid": False,
            "fixedrange": True,
        },
        "yaxis": {**rows_axis([text("\n".join(wrapped(label, 20)), "<br>") for label in labels]), "zeroline": False},
    }


def _bars(result: CamResult, rows: dict[int, int], place: tuple[float, float], name: str, colour: str) -> go.Bar:
    """Return one model's bars; ``place`` is their distance from the row's middle, and their height."""
    entries, (shift, height) = result.predictions, place
    return go.Bar(
        x=[entry.probability for entry in entries],
        y=[rows[entry.index] + shift for entry in entries],
        width=height,
        orientation="h",
        name=name,
        marker={"color": colour, "line": {"width": 0}},
        text=[percent(entry.probability) for entry in entries],
        textposition="outside",
        textfont={"size": 11},
        cliponaxis=False,
        customdata=[[entry.index, html.escape(entry.label)] for entry in entries],
        hovertemplate=f"{name}<br>%{{customdata[1]}} (class %{{customdata[0]}})<br>%{{x:.2%}}<extra></extra>",
    )
