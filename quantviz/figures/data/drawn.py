"""An interactive chart's traces read back: where they stand, and their numbers as CSV."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np

from quantviz.specs import csv_bytes


def drawn_csv(figure: Any) -> bytes:
    """Return the numbers of a chart, a line a mark: panel, series, label, then x and y with their ends.

    The ends are those of an interval, or of a bar that does not begin at zero. Where rows are named, the name is the
    label, and y is left out.

    Args:
        figure: of Plotly, with traces of the kinds ``bar`` and ``scatter``.
    """
    head = ["panel", "series", "label", "x", "x_low", "x_high", "y", "y_low", "y_high"]
    panels, titles = panels_of(figure), _titles(figure)
    rows: list[list[object]] = []
    for trace in figure.data:
        place = panels.index((trace.xaxis or "x", trace.yaxis or "y"))
        words, named = _labels(figure, trace)
        for at, (x, y) in enumerate(places_of(trace)):
            if x is None or y is None or not (np.isfinite(x) and np.isfinite(y)):
                continue
            base = None if trace.type != "bar" or trace.base is None else float(trace.base[at])
            across = [x, *_ends(x, trace.error_x, at)] if base is None else [None, base, base + x]
            upright = [None] * 3 if named else [y, *_ends(y, trace.error_y, at)]
            rows.append([titles.get(place, place + 1), text_of(trace.name or ""), words[at], *across, *upright])
    return csv_bytes([head, *rows])


def text_of(words: str) -> str:
    """Return HTML of a chart as text; line breaks stay."""
    return html.unescape(re.sub(r"<[^>]*>", "", words.replace("<br>", "\n")))


def panels_of(figure: Any) -> list[tuple[str, str]]:
    """Return the pairs of axes that traces stand on, in their order."""
    pairs = dict.fromkeys((trace.xaxis or "x", trace.yaxis or "y") for trace in figure.data)
    return sorted(pairs, key=lambda pair: [int(name[1:] or 1) for name in reversed(pair)])


def axis_of(figure: Any, name: str) -> Any:
    """Return the axis of a trace's name for it, ``"x2"``."""
    return figure.layout[f"{name[0]}axis{name[1:]}"]


def domain_of(figure: Any, name: str) -> tuple[float, float]:
    """Return from where to where an axis goes, in parts of the figure; an axis over another has that one's."""
    axis = axis_of(figure, name)
    low, high = axis_of(figure, axis.overlaying).domain or (0, 1) if axis.overlaying else axis.domain or (0, 1)
    return round(low, 3), round(high, 3)


def nearest_panel(figure: Any, note: Any) -> int:
    """Return which of ``panels_of`` a title of a panel, placed on the paper, belongs to."""

    def distance(pair: tuple[str, str]) -> float:
        (left, right), (_, top) = domain_of(figure, pair[0]), domain_of(figure, pair[1])
        return float(abs((left + right) / 2 - note.x) + abs(top - note.y))

    panels = panels_of(figure)
    return min(range(len(panels)), key=lambda place: distance(panels[place]))


def is_title(note: Any) -> bool:
    """Return whether a note of a chart is the title of a panel."""
    return (note.xref, note.yref, note.yanchor) == ("paper", "paper", "bottom")


def _titles(figure: Any) -> dict[int, str]:
    """Return place of a panel -> its title."""
    return {nearest_panel(figure, note): text_of(note.text) for note in figure.layout.annotations if is_title(note)}


def _labels(figure: Any, trace: Any) -> tuple[list[str], bool]:
    """Return what names each mark of a trace, and whether that is its row."""
    axis, places = axis_of(figure, trace.yaxis or "y"), places_of(trace)
    if axis.tickvals is not None and axis.ticktext is not None and axis.type != "log":
        words = [text_of(str(word)) for word in axis.ticktext]
        ticks = np.asarray(axis.tickvals, float)
        return [words[int(np.abs(ticks - y).argmin())] if y is not None else "" for _, y in places], True
    data = trace.customdata
    if data is None:
        return [""] * len(places), False
    return [str(entry if isinstance(entry, str) else entry[0]) for entry in data], False


def places_of(trace: Any) -> list[tuple[Any, Any]]:
    """Return (x, y) of each mark of a trace."""
    x, y = (() if column is None else list(column) for column in (trace.x, trace.y))
    return list(zip(x, y, strict=False))


def _ends(value: float, error: Any, at: int) -> list[float | None]:
    if error.array is None:
        return [None, None]
    below = error.array if error.arrayminus is None else error.arrayminus
    return [value - abs(float(below[at])), value + abs(float(error.array[at]))]
