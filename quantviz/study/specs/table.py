"""The rows of a finished study as arrays, for figures and for summing up parts of the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import Estimate

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class StudyTable:
    """A finished study by cell and picture; a cell is one model at one bit-width under one protocol.

    Attributes:
        plan: what the study was decided by; its pictures are the arrays' second axis, in its order.
        cells: (model, setting, protocol) of each row of the arrays: ``StudyPlan.cells``.
        columns: name of a numeric column or flag of ``StudyRow`` -> float64 (cells, pictures), read-only, NaN where
            there is none. Flags are 0 and 1. ``float_degenerate``, ``quantized_degenerate``, ``saliency_degenerate``
            and ``error`` are flags here: 1 where the row gives a reason.
        reasons: ``"error"``, ``"truth_error"`` -> each sentence of that column -> how many pictures have it.
    """

    plan: StudyPlan
    cells: tuple[tuple[str, str, str], ...]
    columns: Mapping[str, Values]
    reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedModel:
    """A model's place among others, by the mean drift of its maps.

    Attributes:
        model: architecture.
        drift: 1 - CC of the quantized and the float map, over the pictures on which every model has one.
        shares: for each rank from the first on, the part of the bootstrap samples in which the model has it.
    """

    model: str
    drift: Estimate
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models by the mean drift of their maps, the least first, at one bit-width under one protocol.

    Attributes:
        setting: the label of the bit-width.
        protocol: as in ``StudyPlan``.
        pictures: on which every model has a drift; the bootstrap draws from them, the same ones for every model.
        resamples: bootstrap samples.
        models: in the order of their mean drift; empty where no picture is shared.
    """

    setting: str
    protocol: str
    pictures: int
    resamples: int
    models: tuple[RankedModel, ...]
