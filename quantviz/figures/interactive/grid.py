"""Plotly figure of one picture under several models and bit-widths, as the paper's Fig. 3."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from quantviz.figures.data.panels import explained
from quantviz.figures.data.words import network_name, number, percent, wrapped
from quantviz.figures.interactive.layout import CLEAR, data_uri, text
from quantviz.figures.interactive.overlay import mixed, viridis
from quantviz.specs import RGB, Comparison, Heatmap

_SIDE: Final = 176  # pixels of a tile that are sent; on the page it is about as large
_TEXT = 0.3  # of a tile's height, for the words below it
_GAP = 0.05
_DESIGN_WIDTH = 1100
_OPACITY = 0.55


def grid_figure(rows: Sequence[Sequence[Comparison]]) -> go.Figure:
    """Return one picture under several networks: a row for each model; image, saliency, float map, each bit-width.

    Maps lie over the picture in grey, all on one scale from 0 to 1 (viridis). Below a float map stands the float
    network's top-1 class, below a quantized map its CC with the float map, and the class where it is another one. A map
    without evidence is replaced by the reason. Beside a simulated map stands the deployed one, where there is any.

    Args:
        rows: for each model its comparisons of the one picture, at the same bit-widths in the same order.
    """
    settings = [name for comparison in rows[0] for name in _names(comparison)]
    salient = all(row[0].saliency is not None for row in rows)
    columns = ["image", *(["saliency"] if salient else []), "float", *settings]
    figure = go.Figure()
    figure.add_trace(go.Scatter(x=[None], y=[None], hoverinfo="skip", showlegend=False))
    step = 1 + _TEXT
    for at, row in enumerate(rows):
        _add_row(figure, row, at * step, salient)
    ticks = {"tickvals": [place + 0.5 for place in range(len(columns))], "ticktext": [f"<b>{c}</b>" for c in columns]}
    common: dict[str, Any] = {"showgrid": False, "zeroline": False, "fixedrange": True, "ticks": ""}
    figure.update_xaxes(**common, **ticks, side="top", range=[0, len(columns)], constrain="domain")
    figure.update_yaxes(
        **common,
        tickvals=[at * step + 0.5 for at in range(len(rows))],
        ticktext=[text(network_name(row[0].model, not row[0].weights.trained), "<br>") for row in rows],
        tickangle=-90,
        range=[len(rows) * step, 0],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
    )
    tile = min((_DESIGN_WIDTH - 40) / len(columns), 1.3 * _SIDE)
    figure.update_layout(
        height=round(tile * step * len(rows) + 44),
        margin={"l": 40, "r": 4, "t": 32, "b": 8},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
    )
    return figure


def _add_row(figure: go.Figure, row: Sequence[Comparison], top: float, salient: bool) -> None:
    """Draw a row's tiles and the words below them."""
    for column, (pixels, words) in enumerate(_tiles(row, salient)):
        place = {"x": column + _GAP / 2, "y": top, "sizex": 1 - _GAP, "sizey": 1.0}
        if isinstance(pixels, str):
            figure.add_annotation(**_words(column, top + 0.5, pixels, "middle"))
        else:
            figure.add_layout_image(
                **place, source=data_uri(pixels, "JPEG", quality=88), xref="x", yref="y", sizing="contain"
            )
        figure.add_annotation(**_words(column, top + 1, words, "top"))


def _tiles(row: Sequence[Comparison], salient: bool) -> list[tuple[RGB | str, str]]:
    """Return each tile of a row, or why there is none, with the words below it as HTML."""
    first = row[0]
    tiles: list[tuple[RGB | str, str]] = [(_small(first.crop), "")]
    if salient and first.saliency is not None:
        tiles.append((_overlay(first.crop, first.saliency.heatmap), "predicted" if first.saliency.predicted else ""))
    tiles.append((_overlay(first.crop, first.reference.heatmap), _lines(explained(first, first.reference))))
    for one in row:
        results = [(one.quantized, one.scores["quantized_v_float"].cc)]
        if one.deployed is not None:
            results.append((one.deployed.result, one.deployed.scores["deployed_v_float"].cc))
        for result, cc in results:
            top, words = result.predictions[0], "no CC" if cc is None else f"CC {number(cc)}"
            if top.index != first.reference.predictions[0].index:
                words += f"<br><b>{_lines(f'{top.label} {percent(top.probability)}', 1)}</b>"
            tiles.append((_overlay(one.crop, result.heatmap), words))
    return tiles


def _names(comparison: Comparison) -> list[str]:
    """Return what the quantized networks of a comparison are called."""
    label = comparison.quant.label
    return [label] if comparison.deployed is None else [f"{label} simulated", f"{label} deployed"]


def _lines(text: str, most: int = 2) -> str:
    return "<br>".join(map(html.escape, wrapped(text, 22, lines=most)))


def _words(column: int, y: float, text: str, anchor: str) -> dict[str, Any]:
    return {"x": column + 0.5, "y": y, "yanchor": anchor, "text": text, "showarrow": False, "font": {"size": 11}}


def _overlay(crop: RGB, heatmap: Heatmap) -> RGB | str:
    """Return a map over the picture in grey, uint8 (h, w, 3), or the reason why it carries no evidence as HTML."""
    if heatmap.degenerate:
        return _lines(f"no evidence: {heatmap.degenerate}", 4)
    return _small(mixed(crop, heatmap.values, viridis(), _OPACITY))


def _small(pixels: RGB) -> RGB:
    height, width = (round(length * _SIDE / max(pixels.shape[:2])) for length in pixels.shape[:2])
    shown: RGB = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    return shown
