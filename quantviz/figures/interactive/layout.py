"""Axes, frame and texts that Plotly figures share."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from PIL import Image

from quantviz.figures.data.charts import Axis, Span
from quantviz.figures.data.words import short
from quantviz.specs import RGB

CLEAR: Final = "rgba(0,0,0,0)"
"""Paper and plot: the page's own ground."""

_TICKS = 22  # that fit side by side


def depth_axis(names: Sequence[str]) -> dict[str, Any]:
    """Return an x axis of layers in order of execution, whose ticks stand under the middle of each block.

    Layers of one block share the first parts of their dotted names; as many parts are taken as fit, and of names that
    would stand too close to each other the later ones are left out.
    """
    ticks: list[tuple[float, str]] = []
    for middle, prefix in _blocks(names):
        if not ticks or middle - ticks[-1][0] >= len(names) / _TICKS:
            ticks.append((middle, prefix))
    return {
        "tickvals": [middle for middle, _ in ticks],
        "ticktext": [html.escape(short(prefix, 16)) for _, prefix in ticks],
        "range": [-0.7, len(names) - 0.3],
        "tickfont": {"size": 11},
        "tickangle": -40,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }


def rows_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Return a y axis of named rows, the first on top; the names are HTML."""
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": list(labels),
        "range": [len(labels) - 0.5, -0.5],
        "showgrid": False,
        "automargin": True,
        "fixedrange": True,
        "ticklabelstandoff": 6,
    }


def log_scale(axis: Axis) -> dict[str, Any]:
    """Return Plotly's settings of a logarithmic axis, without its title."""
    return {
        "type": "log",
        "range": list(axis.exponents or ()),
        "tickvals": [place for place, _ in axis.ticks],
        "ticktext": [words for _, words in axis.ticks],
        "minor": {"showgrid": False},
    }


def title(words: str) -> dict[str, Any]:
    """Return an axis title."""
    return {"text": text(words), "font": {"size": 12}}


def text(words: str, between: str = " ") -> str:
    """Return a text as HTML, with what stands in place of its line breaks."""
    return html.escape(words).replace("\n", between)


def note(lines: Sequence[str]) -> str:
    """Return what hovering shows, as HTML: the first line in bold."""
    first, *rest = map(text, lines)
    return "<br>".join([f"<b>{first}</b>", *rest])


def bars(spans: Iterable[Span], thickness: float, width: int) -> dict[str, Any]:
    """Return error bars that reach from the values to the ends of their intervals; lengths in pixels."""
    drawn = list(spans)
    up, down = [one.high - one.value for one in drawn], [one.value - one.low for one in drawn]
    look = {"thickness": thickness, "width": width}
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, **look}


def pale(colour: str, opacity: float = 0.35) -> str:
    """Return a colour ``"#RRGGBB"`` as a fill that lets the ground through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def data_uri(pixels: RGB, form: str, **options: Any) -> str:
    """Return a picture as an address that holds it; the options are Pillow's for the form."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def frame(height: int, top: int = 56) -> dict[str, Any]:
    """Return what all of these figures share: margins, legend, and a clear background.

    Args:
        height: of the figure, in pixels.
        top: margin above the first panel, in pixels: 56 is for a legend of one line, or of two in a narrow page.
    """
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": top, "b": 40},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "font": {"size": 12}},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
    }


def _blocks(names: Sequence[str]) -> list[tuple[float, str]]:
    """Return (middle, shared first parts) of runs of names: as many runs as fit side by side."""
    best: list[tuple[float, str]] = []
    for parts in range(1, 5):
        runs, start = [], 0
        for prefix, members in groupby(".".join(name.split(".")[:parts]) for name in names):
            count = len(list(members))
            runs.append((start + (count - 1) / 2, prefix))
            start += count
        if best and len(runs) > _TICKS:
            break
        best = runs
    return best
