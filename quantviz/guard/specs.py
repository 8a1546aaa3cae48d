"""The values that a check is spoken of in: limits, verdicts, the report, and a release's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Cell = tuple[str, str, str]
"""(model, variant, protocol), as in ``StudyPlan.cells``."""

Against = Literal["float", "baseline"]


class Outcome(StrEnum):
    """What a check, or one limit of it, comes to."""

    HOLDS = "holds"
    BROKEN = "broken"
    UNDECIDED = "undecided"


EXIT_STATUS: Final[Mapping[Outcome, int]] = {Outcome.HOLDS: 0, Outcome.BROKEN: 1, Outcome.UNDECIDED: 3}
"""Exit status of ``quantviz check``; 2 is wrong use."""

CONFIDENCE: Final = 0.95
WORST_PART: Final = 0.05
"""The part of all pictures that may drift more than ``worst_picture``, unless a check file gives another."""

FEWEST_PICTURES: Final = 20
"""Below so many pictures no mean is decided: bootstrap intervals of so few run too narrow."""


@dataclass(frozen=True, slots=True)
class LimitKind:
    """A kind of limit.

    Attributes:
        name: its key in check files.
        title: what is limited, for a reader.
        unit: ``"drift"``, ``"noise"`` (over signal, a ratio of squares), ``"part"`` (of the pictures, 0 to 1),
            ``"times"`` or ``"bytes"``.
        least: True where the value may not fall below the limit; else it may not exceed it.
        labels: True where pictures need labels.
    """

    name: str
    title: str
    unit: Literal["drift", "noise", "part", "times", "bytes"]
    least: bool = False
    labels: bool = False


LIMITS: Final[Mapping[str, LimitKind]] = {
    kind.name: kind
    for kind in (
        LimitKind("mean_drift", "mean drift", "drift"),
        LimitKind("drift_over_floor", "mean drift over the noise floor", "times"),
        LimitKind("probability", "mean change of the top-1 probability", "part"),
        LimitKind("logit_noise", "noise of the logits", "noise"),
        LimitKind("flips", "top-1 classes changed", "part"),
        LimitKind("accuracy", "top-1 accuracy", "part", least=True, labels=True),
        LimitKind("accuracy_drop", "drop of accuracy", "part", labels=True),
        LimitKind("worst_class_drop", "drop of the worst class", "part", labels=True),
        LimitKind("worst_picture", "pictures that drift too far", "part"),
        LimitKind("size", "size", "bytes"),
    )
}
"""Limits on a quantized network beside its float network: the keys of ``[limits]``."""

CHANGES: Final[Mapping[str, LimitKind]] = {
    kind.name: kind
    for kind in (
        LimitKind("mean_drift", "rise of mean drift", "drift"),
        LimitKind("drift_over_baseline", "mean drift over the baseline's", "times"),
        LimitKind("probability_over_baseline", "mean change of the top-1 probability over the baseline's", "times"),
        LimitKind("logit_noise_over_baseline", "noise of the logits over the baseline's", "times"),
        LimitKind("flips", "rise of top-1 classes changed", "part"),
        LimitKind("accuracy", "drop of accuracy", "part", labels=True),
        LimitKind("worst_class_drop", "drop of the worst class", "part", labels=True),
        LimitKind("size", "growth of size", "part"),
    )
}
"""Limits on the change since the baseline, picture by picture: the keys of ``[change]``."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a check file.

    Attributes:
        name: a key of ``LIMITS``, or of ``CHANGES`` where it is against the baseline.
        value: the limit, in the kind's unit; of ``worst_picture`` the drift that a picture should not exceed.
        against: ``"float"``, or ``"baseline"``: the change since then is limited.
        part: of ``worst_picture``: the part of all pictures that may exceed it.
        line: of the check file, from 1; None where it is not from a file.
    """

    name: str
    value: float
    against: Against = "float"
    part: float = WORST_PART
    line: int | None = None

    @property
    def kind(self) -> LimitKind:
        """What is limited."""
        return (CHANGES if self.against == "baseline" else LIMITS)[self.name]

    @property
    def bound(self) -> float:
        """What the estimate is held against: the value, of ``worst_picture`` the part."""
        return self.part if self.name == "worst_picture" else self.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one limit comes to for one quantized network.

    Attributes:
        cell: the quantized network.
        limit: the limit.
        outcome: what it comes to.
        estimate: the value measured; None where nothing could be measured.
        low: lower confidence bound, by which a limit from above is broken; None where nothing bounds it.
        high: upper confidence bound, by which it holds. Of a limit from below the two change places.
        n: pictures judged.
        needed: how many pictures would decide it if they were like these; None where it is decided, or where no number
            would, since the estimate is the limit itself.
        method: how the bounds were made, in a few words.
        note: what else a reader must know: the worst class, the worst picture, "" for nothing.
    """

    cell: Cell
    limit: Limit
    outcome: Outcome
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    needed: int | None
    method: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class WorstPicture:
    """A picture whose maps drift most.

    Attributes:
        cell: the quantized network.
        index: the picture's place in the study's plan.
        path: relative to the folder of pictures.
        drift: 1 - CC of the two maps.
        flipped: the top-1 class changed.
    """

    cell: Cell
    index: int
    path: str
    drift: float
    flipped: bool | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check came to.

    Attributes:
        outcome: broken where any limit is; else undecided where any is; else it holds.
        verdicts: by quantized network, in the order of the check file.
        confidence: of the check as a whole.
        family: limits that can be broken by chance, among which the chance of a false failure is shared.
        pictures: of the study.
        left_out: pictures without a result of the float network.
        study: folder of the study.
        check: name of the check file, or "".
        baseline: name of the baseline file, or "".
        paired: pictures that both the study and the baseline have; None without a baseline.
        worst: the pictures that drift most, of each network the worst first.
        seconds: that the check took, with what it ran.
        notes: sentences for the reader.
    """

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    confidence: float
    family: int
    pictures: int
    left_out: int
    study: str
    check: str = ""
    baseline: str = ""
    paired: int | None = None
    worst: tuple[WorstPicture, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 holds, 1 broken, 3 undecided."""
        return EXIT_STATUS[self.outcome]


Column = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What is measured of one quantized network, picture by picture; all columns float64 (n,), NaN where unknown.

    Attributes:
        cell: the quantized network.
        pictures: sha256 of each picture's file, in hex.
        drift: 1 - CC of the two maps; 1 where the quantized map has lost the evidence that the float map has.
        flipped: 1 where the top-1 class changed, else 0; 1 where the quantized network gave no result.
        float_correct: 1 where the float network's top-1 is the label, else 0.
        correct: the same of the quantized network.
        label: class index.
        probability: how far the quantized network's top-1 softmax probability lies from the float network's, 0 to 1; 1
            where the quantized network gave no result.
        logit_noise: noise over signal of the logits, as ``study.logits`` measures it; NaN throughout where it
            was not asked for.
        floor: name of a change that nobody sees -> drift of the float network's own map under it; {} where it was not
            measured.
        size: bytes of the stored network, or None where it was not asked for.
    """

    cell: Cell
    pictures: tuple[str, ...]
    drift: Column
    flipped: Column
    float_correct: Column
    correct: Column
    label: Column
    probability: Column
    logit_noise: Column
    floor: Mapping[str, Column] = field(default_factory=dict)
    size: int | None = None
