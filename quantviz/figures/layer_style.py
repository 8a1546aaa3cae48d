"""What the figures of layers share: kinds of layers, axes over depth, and numbers in words."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

KINDS: Final = {
    "conv": ("convolution", "#0072B2", "circle"),
    "depthwise": ("depthwise convolution", "#E69F00", "diamond"),
    "linear": ("linear", "#009E73", "square"),
}
"""Kind of layer -> words, colour (Okabe and Ito 2008) and marker, so that colour is never the only difference."""

GREY: Final = "#8A8A8A"
"""Lines that are read against, on white and on black."""

CLEAR: Final = "rgba(0,0,0,0)"
_TICKS = 22  # that fit side by side
_NAME_CHARACTERS = 34


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


def log_axis(values: Sequence[float | None]) -> dict[str, Any]:
    """Return a logarithmic axis that holds the values, its ticks written out: 0.01 and not a lone 2 or 5 between."""
    positive = [value for value in values if value is not None and value > 0] or [0.01, 1.0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    marks = [step * 10.0**power for power in range(-6, 2) for step in steps]
    room = 0.08 * (high - low) + 0.04
    return {
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": marks,
        "ticktext": [f"{mark:.6f}".rstrip("0").rstrip(".") for mark in marks],
        "minor": {"showgrid": False},
    }


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


def short(name: str, most: int = _NAME_CHARACTERS) -> str:
    """Return a dotted name with its first parts left out where it is long: the last ones tell layers apart."""
    if len(name) <= most:
        return name
    parts = name.split(".")
    while len(parts) > 1 and len(".".join(parts)) >= most:
        del parts[0]
    return f"…{'.'.join(parts)[1 - most :]}"


def number(value: float | None, measure: str = "cam") -> str:
    """Return a drift in words: CC and nats with the decimals that show it, SQNR in decibels, a dash for none."""
    if value is None:
        return "–"
    if measure == "sqnr":
        return f"{value:.1f} dB".replace("-", "−")
    if 0 < abs(value) < 0.00001:
        return "<0.00001"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.5f}"


def times(value: float | None, floor: float | None) -> str:
    """Return how many times the noise floor a drift is, ``"5.1 ×"``; "" where that cannot be told."""
    if value is None or not floor:
        return ""
    multiple = value / floor
    return f"{multiple:,.0f} ×" if multiple >= 10 else f"{multiple:.1f} ×"


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
