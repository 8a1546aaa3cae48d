"""Single pictures of a study's cell, and what becomes of its classes, as both are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from quantviz.figures.data.charts import Axis, Span
from quantviz.figures.data.study import LEAST, log_axis

MOST_CLASSES: Final = 24
"""Rows of a chart of classes; beyond, no name could be read."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureCloud:
    """The pictures of a cell: confidence of the float network across, drift of the map upright.

    Attributes:
        indices: (n,) places in the study.
        confidence: float64 (n,), softmax probability of the float network's top-1.
        drift: float64 (n,), 1 - CC, at least ``LEAST``.
        flipped: bool (n,), whose top-1 class changed.
        x: axis of the confidence.
        y: axis of the drift.
        floor: drift of a change that nobody sees, or None.
    """

    indices: npt.NDArray[np.intp]
    confidence: npt.NDArray[np.float64]
    drift: npt.NDArray[np.float64]
    flipped: npt.NDArray[np.bool_]
    x: Axis
    y: Axis
    floor: float | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class in a chart: its index, its name, its drop of accuracy with the interval, and lines of its numbers."""

    index: int
    name: str
    drop: Span
    note: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassMatrix:
    """Which class became which: rows are the float network's classes, columns the quantized network's.

    Attributes:
        rows: (index, name), those first that become the first column.
        columns: (index, name), the one that gets most pictures first.
        marks: (place of the row, place of the column, pictures).
        left_out: pictures whose change is not shown, since there are too many classes.
    """

    rows: tuple[tuple[int, str], ...]
    columns: tuple[tuple[int, str], ...]
    marks: tuple[tuple[int, int, int], ...]
    left_out: int


def picture_cloud(
    confidence: npt.NDArray[np.float64],
    drift: npt.NDArray[np.float64],
    flipped: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.bool_],
    floor: float | None = None,
) -> PictureCloud:
    """Return the pictures of a cell that have a drift.

    Args:
        confidence: float64 (n,), NaN where there is none; likewise the others.
        drift: float64 (n,), 1 - CC.
        flipped: float64 (n,), 0 or 1.
        chosen: bool (n,), which are shown.
        floor: drift of a change that nobody sees, or None.
    """
    places = np.flatnonzero(chosen & np.isfinite(drift) & np.isfinite(confidence))
    drawn = np.maximum(drift[places], LEAST)
    ends = [float(drawn.min()), float(drawn.max())] if len(drawn) else []
    return PictureCloud(
        places,
        confidence[places],
        drawn,
        flipped[places] == 1,
        Axis("the float network's confidence in its top-1 class", percent=True),
        log_axis(ends, "map drift, 1 − CC"),
        floor,
    )


def class_matrix(changes: Sequence[tuple[tuple[int, str], tuple[int, str], int]]) -> ClassMatrix:
    """Return the matrix of some changes of class: the classes that get most pictures, and those that they come from.

    Args:
        changes: ((index, name) before, (index, name) after, pictures), the most pictures first.
    """
    gained: dict[tuple[int, str], int] = {}
    for _, after, count in changes:
        gained[after] = gained.get(after, 0) + count
    across = sorted(gained, key=lambda one: (-gained[one], one))[:MOST_CLASSES]
    lost: dict[tuple[int, str], int] = {}
    for before, after, count in changes:
        if after in across:
            lost[before] = lost.get(before, 0) + count
    first = {before: across.index(after) for before, after, _ in reversed(changes) if after in across}
    down = sorted(
        sorted(lost, key=lambda one: (-lost[one], first[one], one))[:MOST_CLASSES], key=lambda one: first[one]
    )
    kept = [one for one in changes if one[0] in down and one[1] in across]
    across = [after for after in across if any(after == one[1] for one in kept)]
    marks = tuple((down.index(before), across.index(after), count) for before, after, count in kept)
    total = sum(count for _, _, count in changes)
    return ClassMatrix(tuple(down), tuple(across), marks, total - sum(count for _, _, count in kept))
