"""The benchmark as a picture, drawn by matplotlib's object interface."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from quantviz.bench.specs import SpeedReport, Timing
from quantviz.figures.data.style import COLOURS
from quantviz.figures.print.page import FONT, GRID, WIDTH, file_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _HEAD, _FOOT = 0.27, 0.35, 0.75  # inches
_LEFT, _RIGHT = 3.0, 0.55
_TEXT, _SMALL = 7.5, 6.5  # points
_GREY = "#767676"


def speed_png(report: SpeedReport, *, dpi: float = 200) -> bytes:
    """Return a PNG, 7 inches wide on white: each path's time in plain forward passes, a panel for each batch size.

    A bar goes from the plain forward to the median over the models, a dot is a model; the axis is logarithmic.

    Args:
        report: what was measured.
        dpi: dots an inch.
    """
    return file_bytes(partial(_sheet, report, dpi), dpi, looks={"font.family": FONT})


def _sheet(report: SpeedReport, dpi: float) -> Figure:
    from matplotlib.figure import Figure

    batches = sorted({timing.batch for timing in report.timings})
    groups = [_rows(report, batch) for batch in batches]
    top = height = sum(_HEAD + _FOOT + _ROW * len(rows) for rows in groups)
    sheet = Figure(figsize=(WIDTH, height), dpi=dpi, facecolor="white")
    for batch, rows in zip(batches, groups, strict=True):
        tall = _ROW * len(rows)
        top -= _HEAD + tall
        axes = sheet.add_axes((_LEFT / WIDTH, top / height, 1 - (_LEFT + _RIGHT) / WIDTH, tall / height))
        _draw(axes, rows, "one image at a time" if batch == 1 else f"{batch} images at a time")
        top -= _FOOT
    return sheet


def _rows(report: SpeedReport, batch: int) -> list[tuple[str, list[Timing]]]:
    """Return each path's title with its timings at a batch size."""
    rows = [
        (title, [timing for timing in report.timings if (timing.path, timing.batch) == (path, batch)])
        for path, title in report.paths.items()
    ]
    return [(title, timings) for title, timings in rows if timings]


def _draw(axes: Axes, rows: Sequence[tuple[str, list[Timing]]], title: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for place, (name, timings) in enumerate(rows):
        ratios = [timing.ratio for timing in timings]
        middle = statistics.median(ratios)
        ours = name.startswith("quantviz")
        # From 1: on a logarithmic axis only the way from a meaningful value has a length.
        axes.barh(place, middle - 1, left=1, height=0.62, color=COLOURS["float"] if ours else "#BBBBBB", zorder=2)
        axes.plot(ratios, [place] * len(ratios), "o", ms=2.6, mfc="white", mec="#333333", mew=0.6, zorder=3)
        axes.annotate(f"{middle:.2g}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=_SMALL)
    axes.axvline(1, color=_GREY, lw=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=_TEXT)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=_SMALL)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.6, zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"Time, {title}: bar = median over the models, dot = a model", fontsize=_TEXT, loc="left")
    axes.set_xlabel("plain forward passes of the same model (logarithmic)", fontsize=_SMALL)
