"""An interactive chart on paper: its bars, points and lines by matplotlib, with its axes, legend and notes.

It reads a Plotly figure's traces and layout as they are, so that the file and the page show the same chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quantviz.figures.data.drawn import axis_of, domain_of, is_title, nearest_panel, panels_of, places_of, text_of
from quantviz.figures.data.style import GREY
from quantviz.figures.print.page import LINES, LOOKS, MARKERS, SMALL, WIDTH, Form, check_form, file_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS: Final = 110.0  # of the page to an inch of paper
_SYMBOLS: Final = {**MARKERS, "x": "x", "line-ns": "|"}
_STEPS: Final = {"hvh": "steps-mid", "hv": "steps-post", "vh": "steps-pre"}
_ANCHORS: Final = {name: name for name in ("left", "right", "top", "bottom")}
_DPI: Final = 300


def drawn_print(
    figure: Any, title: str, form: Form = "svg", caption: str = "", facts: Mapping[str, Any] | None = None
) -> bytes:
    """Return the file of a chart of bars, points and lines, 7 inches wide; the same chart gives the same bytes.

    Args:
        figure: of Plotly, with traces of the kinds ``bar`` and ``scatter``.
        title: of the chart, above it.
        form: of the file; a PNG has 300 dots an inch.
        caption: for the file's own description.
        facts: what more the description holds.

    Raises:
        UsageError: the form is unknown.
        ValueError: a trace is of another kind.
    """
    check_form(form)
    if other := [trace.type for trace in figure.data if trace.type not in ("bar", "scatter")]:
        raise ValueError(f"A trace of the kind {other[0]!r} has no printed form.")
    description = json.dumps({"shows": title, "caption": caption, **(facts or {})}, sort_keys=True)
    return file_bytes(partial(_sheet, figure, title), _DPI, form, looks=LOOKS, description=description)


def _sheet(figure: Any, title: str) -> Figure:
    from matplotlib.figure import Figure

    height = max((figure.layout.height or 400) / _PIXELS, 1.6)
    sheet = Figure(figsize=(WIDTH, height), dpi=_DPI, facecolor="white", layout="constrained")
    panels = panels_of(figure)
    columns = sorted({domain_of(figure, name) for name, _ in panels})
    rows = sorted({domain_of(figure, name) for _, name in panels}, reverse=True)
    weights: Any = {
        "width_ratios": [high - low for low, high in columns],
        "height_ratios": [high - low for low, high in rows],
    }
    grid: Any = sheet.subplots(len(rows), len(columns), squeeze=False, **weights)
    drawn: dict[tuple[int, int], Axes] = {}
    in_order: list[Axes] = []
    for name, other in panels:
        place = rows.index(domain_of(figure, other)), columns.index(domain_of(figure, name))
        if axis_of(figure, other).overlaying:  # a second scale over the same panel
            axes = drawn[place].twinx()
            axes.set_axis_off()
        else:
            axes = drawn[place] = grid[place]
        in_order.append(axes)
        _panel(figure, axes, name, other)
    for place in np.ndindex(len(rows), len(columns)):
        if place not in drawn:
            grid[place].set_axis_off()
    _notes(figure, sheet, panels, in_order)
    _legend(sheet)
    sheet.suptitle(title, x=0.01, ha="left", size=SMALL + 2, weight="bold")
    return sheet


def _panel(figure: Any, axes: Axes, name: str, other: str) -> None:
    """Draw what stands on a pair of axes."""
    for trace in figure.data:
        if (trace.xaxis or "x", trace.yaxis or "y") == (name, other):
            {"bar": _bars, "scatter": _marks}[trace.type](axes, trace, figure)
    for shape in figure.layout.shapes:
        _shape(axes, shape, name, other)
    for side, which in (("x", name), ("y", other)):
        _scale(axes, side, axis_of(figure, which), figure)


def _bars(axes: Axes, trace: Any, figure: Any) -> None:
    lying = trace.orientation == "h"
    lengths, places = (trace.x, trace.y) if lying else (trace.y, trace.x)
    colours = _colours(trace.marker.color, len(lengths))
    width = trace.width if isinstance(trace.width, int | float) else 1 - (figure.layout.bargap or 0.2)
    base = trace.base if trace.base is not None else 0
    edge = _colours(trace.marker.line.color, 1)[0] if trace.marker.line.width else "none"
    values = np.array(lengths, float)
    options: dict[str, Any] = {"color": colours, "edgecolor": edge, "linewidth": 0.6, "label": _label(trace)}
    if lying:
        axes.barh(places, values, width, base, **options)
    else:
        axes.bar(places, values, width, base, **options)
    _errors(axes, trace, "#333333")


def _marks(axes: Axes, trace: Any, figure: Any) -> None:
    places = places_of(trace)
    if not places:
        return
    x, y = (
        np.array([np.nan if value is None else value for value in column], float)
        for column in zip(*places, strict=True)
    )
    mode, colour = trace.mode or "lines", _colours(trace.line.color or trace.marker.color, 1)[0]
    options: dict[str, Any] = {"alpha": trace.opacity, "label": _label(trace)}
    if "lines" in mode:
        steps = _STEPS.get(trace.line.shape or "", "default")
        dash = LINES.get(trace.line.dash or "solid", "-")
        axes.plot(x, y, color=colour, ls=dash, lw=0.6 * (trace.line.width or 2), drawstyle=steps, **options)
        if trace.fill == "toself":
            axes.fill(x, y, color=_colours(trace.fillcolor, 1)[0], lw=0)
        options["label"] = "_nolegend_"
    if "markers" in mode:
        _errors(axes, trace, colour)
        _points(axes, trace, x, y, options)
    for at, words in enumerate(trace.text or () if "text" in mode else ()):
        axes.annotate(text_of(words), (x[at], y[at]), (3, 3), textcoords="offset points", size=SMALL)


def _points(axes: Axes, trace: Any, x: Any, y: Any, options: dict[str, Any]) -> None:
    symbol = str(trace.marker.symbol or "circle")
    shape = _SYMBOLS.get(symbol.removesuffix("-open"), "o")
    colours = _colours(trace.marker.color or trace.line.color, len(x))
    sizes = np.broadcast_to(np.asarray(trace.marker.size or 6, float), len(x)) ** 2 * 0.25
    widths = np.broadcast_to(np.asarray(trace.marker.line.width or 0, float), len(x)) * 0.5
    rings = _colours(trace.marker.line.color, len(x)) if trace.marker.line.color else colours
    if shape in "x|":
        axes.scatter(x, y, sizes, colours, marker=shape, linewidths=1.2, zorder=4, **options)
        return
    faces: Any = "none" if symbol.endswith("-open") else colours
    lines: Any = np.where(widths > 0, widths, 0.8) if symbol.endswith("-open") else widths
    axes.scatter(x, y, sizes, facecolors=faces, edgecolors=rings, marker=shape, linewidths=lines, zorder=4, **options)


def _errors(axes: Axes, trace: Any, colour: str) -> None:
    for name in ("x", "y"):
        error = trace[f"error_{name}"]
        if error.array is not None:
            ends = np.abs(np.array([error.array if error.arrayminus is None else error.arrayminus, error.array], float))
            bars: dict[str, Any] = {f"{name}err": ends}
            axes.errorbar(trace.x, trace.y, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2, zorder=3, **bars)


def _shape(axes: Axes, shape: Any, name: str, other: str) -> None:
    """Draw a line that ``add_vline`` or ``add_hline`` put into a panel."""
    style: dict[str, Any] = {"color": shape.line.color or GREY, "lw": 0.6 * (shape.line.width or 1), "zorder": 1}
    style["ls"] = LINES.get(shape.line.dash or "solid", "-")
    across, upright = (shape.xref or "x").split(" "), (shape.yref or "y").split(" ")
    if shape.x0 == shape.x1 and across == [name] and upright[0] in (other, "paper"):
        axes.axvline(shape.x0, **style)
    elif shape.y0 == shape.y1 and upright == [other] and across[0] in (name, "paper"):
        axes.axhline(shape.y0, **style)


def _scale(axes: Axes, side: str, axis: Any, figure: Any) -> None:
    """Give an axis its scale, range, ticks and title."""
    log = axis.type == "log"
    if log:
        getattr(axes, f"set_{side}scale")("log")
    if axis.tickvals is not None:
        words = [text_of(str(word)) for word in (axis.ticktext if axis.ticktext is not None else axis.tickvals)]
        turned: dict[str, Any] = {"rotation": 40, "ha": "right"} if axis.tickangle else {}
        getattr(axes, f"set_{side}ticks")(list(axis.tickvals), words, **turned)
        axes.minorticks_off()
    elif axis.tickformat and axis.tickformat.endswith("%"):
        getattr(axes, f"{side}axis").set_major_formatter(lambda value, _: f"{100 * value:g} %")
    if axis.range:
        getattr(axes, f"set_{side}lim")(*(10.0**end if log else end for end in axis.range))
    elif axis.rangemode == "tozero":
        getattr(axes, f"set_{side}lim")(**{"left" if side == "x" else "bottom": 0})
    if axis.title.text:
        getattr(axes, f"set_{side}label")(text_of(axis.title.text))
    if axis.showticklabels is False or (axis.matches and axis.anchor and not axis.title.text and side == "y"):
        hidden: dict[str, Any] = {"labelbottom" if side == "x" else "labelleft": False}
        axes.tick_params(**hidden)
    axes.grid(visible=axis.showgrid is not False, axis=side)  # type: ignore[arg-type]


def _notes(figure: Any, sheet: Figure, panels: Sequence[tuple[str, str]], drawn: Sequence[Axes]) -> None:
    """Write what stands in the chart beside marks, above panels, and below all of them."""
    for note in figure.layout.annotations:
        across, upright = (note.xref or "x").split(" "), (note.yref or "y").split(" ")
        words = text_of(note.text or "")
        if is_title(note):
            drawn[nearest_panel(figure, note)].set_title(words, loc="left")
        elif across == upright == ["paper"]:
            sheet.supxlabel(words, size=SMALL + 1)
        else:
            at = next((place for place, pair in enumerate(panels) if across[0] in (pair[0], "paper")), 0)
            places = ["data" if ref[0] != "paper" and len(ref) == 1 else "axes fraction" for ref in (across, upright)]
            options: dict[str, Any] = {
                "xytext": (0.7 * (note.xshift or 0), 0.7 * (note.yshift or 0)),
                "textcoords": "offset points",
                "ha": _ANCHORS.get(note.xanchor, "center"),
                "va": _ANCHORS.get(note.yanchor, "center"),
                "size": SMALL,
            }
            drawn[at].annotate(words, (note.x, note.y), xycoords=(places[0], places[1]), **options)


def _legend(sheet: Figure) -> None:
    found: dict[str, Any] = {}
    for axes in sheet.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        columns = min(len(found), 5)
        sheet.legend(found.values(), found.keys(), loc="outside upper right", ncols=columns, frameon=False)


def _label(trace: Any) -> str:
    return text_of(trace.name) if trace.name and trace.showlegend is not False else "_nolegend_"


def _colours(colours: Any, count: int) -> list[Any]:
    """Return colours as matplotlib has them, one a mark."""
    if colours is None or isinstance(colours, str):
        return [_colour(colours or GREY)] * count
    return [_colour(str(colour)) for colour in colours]


def _colour(colour: str) -> Any:
    if match := re.fullmatch(r"rgba?\(([^)]*)\)", colour):
        parts = [float(part) for part in match[1].split(",")]
        return (*(part / 255 for part in parts[:3]), *parts[3:])
    return colour
