"""A study's pictures and classes for paper, by matplotlib: as ``print.study``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantviz.figures.data.pictures import ClassMatrix, ClassRow, PictureCloud
from quantviz.figures.data.style import COLOURS, GREY
from quantviz.figures.print.page import SMALL, Form, study_page
from quantviz.study.specs.plan import StudyPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.16  # inches


def cloud_print(cloud: PictureCloud, plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return the file of a cell's pictures, by confidence and drift."""
    facts = {"shows": "drift of single pictures against confidence", "pictures_shown": len(cloud.indices)}
    return study_page(partial(draw_cloud, cloud=cloud), 3.2, form, plan, facts)


def drops_print(rows: Sequence[ClassRow], plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return the file of classes with their drop of accuracy."""
    facts = {"shows": "drop of top-1 accuracy by class, 95 % intervals by Newcombe's method 10"}
    return study_page(partial(draw_drops, rows=rows), 0.6 + _ROW * len(rows), form, plan, facts)


def matrix_print(matrix: ClassMatrix, plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return the file of which class became which."""
    facts = {"shows": "top-1 class of the float network by that of the quantized one, where they differ"}
    return study_page(partial(draw_matrix, matrix=matrix), 1.6 + _ROW * len(matrix.rows), form, plan, facts)


def draw_cloud(figure: Figure, cloud: PictureCloud) -> None:
    """Draw a dot for each picture."""
    axes: Axes = figure.subplots()
    for flipped, name, colour, marker in ((False, "class kept", "float", "o"), (True, "changed", "quantized", "x")):
        some = cloud.flipped == flipped
        axes.plot(
            cloud.confidence[some], cloud.drift[some], marker, color=COLOURS[colour], ms=2.5, alpha=0.7, label=name
        )
    if cloud.floor:
        axes.axhline(cloud.floor, color=GREY, linewidth=0.8, linestyle="--", label="noise floor")
    axes.set(xlabel=cloud.x.title, ylabel=cloud.y.title, yscale="log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    low, high = axes.get_ylim()
    ticks = {place: words for place, words in cloud.y.ticks if low <= place <= high}
    axes.yaxis.set_ticks(list(ticks), labels=list(ticks.values()))
    axes.yaxis.set_ticks([], minor=True)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)


def draw_drops(figure: Figure, rows: Sequence[ClassRow]) -> None:
    """Draw a bar for each class."""
    axes: Axes = figure.subplots()
    values = np.array([row.drop.value for row in rows])
    ends = [[row.drop.value - row.drop.low for row in rows], [row.drop.high - row.drop.value for row in rows]]
    error: dict[str, Any] = {"elinewidth": 0.7, "capsize": 1.5}
    axes.barh(range(len(rows)), values, 0.7, xerr=ends, color=COLOURS["quantized"], error_kw=error)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("drop of top-1 accuracy, with 95 % interval")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(visible=False, axis="y")


def draw_matrix(figure: Figure, matrix: ClassMatrix) -> None:
    """Draw a square for each change of class."""
    axes: Axes = figure.subplots()
    most = max((count for _, _, count in matrix.marks), default=1)
    for row, column, count in matrix.marks:
        axes.plot(column, row, "s", color=COLOURS["quantized"], ms=3 + 4 * (count / most) ** 0.5)
        if count > 1:
            axes.annotate(str(count), (column, row), (4, 0), textcoords="offset points", size=SMALL, va="center")
    axes.set_xticks(range(len(matrix.columns)), [name for _, name in matrix.columns], rotation=60, ha="right")
    axes.set_yticks(range(len(matrix.rows)), [name for _, name in matrix.rows])
    axes.set_ylim(len(matrix.rows) - 0.5, -0.5)
    axes.set(xlabel="the quantized network's top-1 class", ylabel="the float network's")
