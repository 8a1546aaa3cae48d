"""Ground truth, metrics and their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quantviz.specs.basics import FloatMap, frozen

TruthKind = Literal["map", "mask", "fixations", "boxes"]


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """What a map is scored against, in the pixels that the network saw.

    Attributes:
        kind: ``"map"``: a density; ``"mask"``: a binary object mask; ``"fixations"``: points; ``"boxes"``.
        shape: (H, W) of the grid that it is on.
        values: float32 (H, W) in any range for a map; 0, 1, or NaN (left out of the scores) for a mask; else None;
            read-only.
        points: float64 (n, 2) for fixations, else None: x in [0, W), y in [0, H), the centre of pixel
            (row, column) being (column + 0.5, row + 0.5); read-only.
        boxes: float64 (n, 4) for boxes, else None: x0, y0, x1, y1 with x0 < x1 and y0 < y1, pixel edges; read-only.
        source: the method's or the file's name, always shown.
        predicted: True for a computed prediction, which is never called human.
        notes: what was left out or changed on the way to the crop (points outside it, say).
    """

    kind: TruthKind
    shape: tuple[int, int]
    source: str
    predicted: bool
    values: FloatMap | None = None
    points: npt.NDArray[np.float64] | None = None
    boxes: npt.NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("values", "points", "boxes"):
            array = getattr(self, name)
            if array is not None:
                object.__setattr__(self, name, frozen(array))


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's value, or why there is none.

    Attributes:
        value: the score, or None where it is not defined.
        reason: why it is not defined (a degenerate map, a truth that holds nothing), or "".
    """

    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, told from everything else.

    Attributes:
        name: short and unique, as users type it: ``"auc_judd"``.
        title: as the field writes it: ``"AUC-Judd"``.
        family: ``"distribution"``, ``"rank"``, ``"structure"``, ``"salient object"``, ``"localisation"`` or
            ``"faithfulness"``.
        truths: the kinds of ground truth that it takes.
        low: least possible value, or None.
        high: greatest possible value, or None.
        higher_is_closer: direction.
        convention: one sentence: formula and choices.
        explanation: one plain sentence for a newcomer.
        source: paper or benchmark.
        cost: complexity and what dominates it.
        compute: (map (H, W), ground truth) -> Score.
    """

    name: str
    title: str
    family: str
    truths: frozenset[TruthKind]
    low: float | None
    high: float | None
    higher_is_closer: bool
    convention: str
    explanation: str
    source: str
    cost: str
    compute: Callable[[npt.NDArray[Any], GroundTruth], Score]


@dataclass(frozen=True, slots=True, eq=False)
class MetricTable:
    """Several maps scored against one reference.

    Attributes:
        reference: what the maps are scored against, for display.
        kind: the kind of ground truth that the reference is.
        predicted: True where the reference is a computed prediction.
        columns: subject (``"quantized"``, ``"float"``, or a baseline's name) -> metric's name -> its score.
        absent: baseline -> why it is not there.
        notes: of the reference: what was left out or changed.
    """

    reference: str
    kind: TruthKind
    predicted: bool
    columns: Mapping[str, Mapping[str, Score]]
    absent: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def remarks(self) -> tuple[str, ...]:
        """Return what a reader must know beside the numbers: notes, absent baselines, and why values are missing."""
        missing: dict[tuple[str, str], list[str]] = {}
        for subject, column in self.columns.items():
            for name, score in column.items():
                if score.reason:
                    missing.setdefault((subject, score.reason), []).append(name)
        return (
            *self.notes,
            *(f"{name}: {reason}" for name, reason in self.absent.items()),
            *(f"{subject} has no {', '.join(names)}: {reason}" for (subject, reason), names in missing.items()),
        )
