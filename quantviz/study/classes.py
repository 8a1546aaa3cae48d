"""What quantization does to single classes: which lose accuracy, and which class becomes which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantviz import statistics
from quantviz.study.filters import class_name
from quantviz.study.specs.table import Flags, StudyTable, Values

LEAST_PICTURES = 2
"""Pictures that a class needs for a drop of its own: of a single one there is nothing to estimate."""


@dataclass(frozen=True, slots=True)
class ClassDrop:
    """How the accuracy of one class changes in a cell of a study.

    Attributes:
        index: of the class.
        name: of the class.
        n: pictures of the class that both networks judged.
        float_correct: how many of them the float network gets right.
        quantized_correct: how many the quantized network does.
        drop: (float_correct - quantized_correct) / n, in [-1, 1].
        low: lower end of its 95 % interval (Newcombe 1998, method 10).
        high: upper end.
    """

    index: int
    name: str
    n: int
    float_correct: int
    quantized_correct: int
    drop: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Became:
    """A class of the float network that another one takes the place of.

    Attributes:
        before: index of the float network's top-1.
        after: index of the quantized network's.
        names: of the two.
        pictures: places in the plan of the pictures of which this is so.
    """

    before: int
    after: int
    names: tuple[str, str]
    pictures: tuple[int, ...]


def class_drops(table: StudyTable, row: int, chosen: Flags | None = None) -> tuple[ClassDrop, ...]:
    """Return how the accuracy of each labelled class changes, the greatest drop first.

    Args:
        table: the study.
        row: place of the cell in it.
        chosen: bool (cells, pictures), which count; None for all.

    Returns:
        The classes with ``LEAST_PICTURES`` or more pictures; () where there is none.
    """
    label, before, after = (table.columns[name][row] for name in ("label", "float_correct", "quantized_correct"))
    known = ~np.isnan(label + before + after) & (True if chosen is None else chosen[row])
    indices, pictures = np.unique(label[known].astype(np.intp), return_inverse=True)
    counts = np.zeros((len(indices), 2, 2), np.intp)
    np.add.at(counts, (pictures, before[known].astype(np.intp), after[known].astype(np.intp)), 1)
    name = _namer(table, row)
    drops = [
        _drop(int(index), name(float(index)), four)
        for index, four in zip(indices, counts, strict=True)
        if four.sum() >= LEAST_PICTURES
    ]
    return tuple(sorted(drops, key=lambda one: (-one.drop, -one.n, one.index)))


def became(table: StudyTable, row: int, chosen: Flags | None = None) -> tuple[Became, ...]:
    """Return which classes became which in a cell, the change of the most pictures first.

    Args:
        table: the study.
        row: place of the cell in it.
        chosen: bool (cells, pictures), which count; None for all.
    """
    before, after = (table.columns[name][row] for name in ("float_top1", "quantized_top1"))
    changed = ~np.isnan(before + after) & (before != after) & (True if chosen is None else chosen[row])
    places: dict[tuple[int, int], list[int]] = {}
    for place in np.flatnonzero(changed).tolist():
        places.setdefault((int(before[place]), int(after[place])), []).append(place)
    name = _namer(table, row)
    ordered = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Became(*pair, (name(pair[0]), name(pair[1])), tuple(found)) for pair, found in ordered)


def pictures_of(table: StudyTable, row: int, index: int, chosen: Flags | None = None) -> tuple[int, ...]:
    """Return the places of the pictures that are labelled as a class, those whose top-1 class changed first.

    Args:
        table: the study.
        row: place of the cell in it.
        index: of the class.
        chosen: bool (cells, pictures), which count; None for all.
    """
    there: npt.NDArray[np.intp] = np.flatnonzero(
        (table.columns["label"][row] == index) & (True if chosen is None else chosen[row])
    )
    flipped: Values = table.columns["flipped"][row][there]
    return tuple(there[np.argsort(-np.nan_to_num(flipped), kind="stable")].tolist())


def _drop(index: int, name: str, counts: npt.NDArray[np.intp]) -> ClassDrop:
    """Return a class's drop from its counts, (float correct, quantized correct)."""
    (neither, second), (first, both) = counts.tolist()
    drop, low, high = statistics.paired_difference(both, first, second, neither)
    return ClassDrop(index, name, both + first + second + neither, both + first, both + second, drop, low, high)


def _namer(table: StudyTable, row: int) -> Callable[[float], str]:
    weights = next(model.weights for model in table.plan.models if model.name == table.cells[row][0])
    return lambda index: class_name(index, weights.classes, weights.names)
