"""What the rows of a study sum up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from quantviz.study.specs.plan import StudyPlan

NORMAL: Final = "normal, mean ± 1.96 sd / √n"
"""Method of the interval of a published mean, of which only the standard deviation is known."""

WILSON: Final = "Wilson score"
"""Method of a rate's interval (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over pictures.

    Attributes:
        n: pictures with a value.
        mean: None when n is 0.
        sd: standard deviation, n - 1 in the denominator; None when n < 2.
        low: lower end of the mean's 95 % confidence interval; None where n is too small.
        high: upper end.
        method: how the interval was made, ``NORMAL`` or a method of ``statistics.Interval``; None without interval.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """A part of the pictures.

    Attributes:
        n: pictures judged.
        count: those of which it is true.
        low: lower end of the part's 95 % confidence interval; None when n is 0.
        high: upper end.
        method: how the interval was made, ``WILSON``; None without interval.
    """

    n: int
    count: int
    low: float | None
    high: float | None
    method: str | None = None

    @property
    def value(self) -> float | None:
        """The part, in [0, 1]; None when n is 0."""
        return self.count / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class SaliencyTest:
    """Whether the quantized map agrees with a reference otherwise than the float map does, picture by picture.

    The reference is the saliency, or the user's ground truth.

    Attributes:
        change: of the score, quantized - float.
        p: Wilcoxon's signed-rank test, uncorrected; None without pictures.
        p_adjusted: after Holm's correction over all tests of the study.
        rank_biserial: effect size, [-1, 1].
        margin: largest mean change that does not matter, stated beforehand.
        equivalent: the mean change lies within the margin; None where it cannot be judged.
        words: the same in plain sentences.
    """

    change: Estimate
    p: float | None
    p_adjusted: float | None
    rank_biserial: float | None
    margin: float
    equivalent: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class DriftSplit:
    """Drift of a part of the pictures.

    Attributes:
        by: ``"flipped"``, ``"confidence"`` (thirds by the float top-1 probability) or ``"correct"`` (the float top-1).
        group: ``"flipped"``, ``"kept"``; ``"low"``, ``"middle"``, ``"high"``; ``"correct"``, ``"wrong"``.
        drift: 1 - CC of the quantized and the float map.
    """

    by: str
    group: str
    drift: Estimate


@dataclass(frozen=True, slots=True)
class PropertyThird:
    """What quantization does to a third of the pictures by one of their properties.

    The thirds are parted by the 1/3 and the 2/3 quantile of the property over the pictures of the cell that have it
    (linear between values); equal values stay together, so that thirds may differ in size and the middle one be absent.

    Attributes:
        by: ``"brightness"`` (mean luma of the crop that the network sees, Rec. 601, in [0, 1]), ``"object_share"``
            (share of the crop's pixels inside the ground truth's boxes or mask), or ``"confidence"`` (the float top-1
            probability).
        group: ``"low"``, ``"middle"`` or ``"high"``.
        above: all values are above it; None of the low third.
        up_to: no value is above it; None of the high third.
        pictures: that are in it.
        drift: 1 - CC of the quantized and the float map.
        flips: pictures whose top-1 class changed.
    """

    by: str
    group: str
    above: float | None
    up_to: float | None
    pictures: int
    drift: Estimate
    flips: Rate


@dataclass(frozen=True, slots=True)
class SimulationCheck:
    """How the simulated network agrees with the deployed one that it stands for.

    Attributes:
        scores: metric -> mean agreement of the simulated with the deployed map.
        worst: metric -> its least value over the pictures, of KLD the greatest; None without pictures.
        flips: pictures whose top-1 class by the deployed network is not that by the simulated one.
    """

    scores: Mapping[str, Estimate]
    worst: Mapping[str, float | None]
    flips: Rate


@dataclass(frozen=True, slots=True)
class MapTimes:
    """What one map takes on a machine, for a model at a bit-width.

    Attributes:
        model: architecture.
        setting: the label of the bit-width.
        machine: name of the processor, and the kind of its integer kernels.
        threads: that the networks ran in.
        milliseconds: ``"float"``, ``"simulated"``, ``"deployed"`` -> median over a few runs.
    """

    model: str
    setting: str
    machine: str
    threads: int
    milliseconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What quantization does to the pictures of one class.

    Attributes:
        index: of the class, as labels count it.
        name: of the class.
        float_accuracy: top-1 of the float network.
        accuracy: top-1 of the quantized network.
        flips: pictures whose top-1 class changed.
        drift: 1 - CC of the quantized and the float map; its interval is the bootstrap's limit, from 5 pictures on.
    """

    index: int
    name: str
    float_accuracy: Rate
    accuracy: Rate
    flips: Rate
    drift: Estimate

    @property
    def drop(self) -> float | None:
        """Accuracy that is lost, float - quantized; None without pictures."""
        before, after = self.float_accuracy.value, self.accuracy.value
        return None if before is None or after is None else before - after


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A top-1 class that quantization turns into another.

    Attributes:
        before: name of the float network's class.
        after: name of the quantized network's.
        pictures: paths of the pictures, as in the plan.
    """

    before: str
    after: str
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlipPrediction:
    """Whether drift tells the pictures whose top-1 class changed from the others.

    Attributes:
        auroc: chance that a changed picture drifts more than one that kept its class; 0.5 where drift tells nothing.
        low: lower end of the 95 % confidence interval; None where a group has fewer than 2 pictures.
        high: upper end.
        flipped: pictures whose class changed.
        kept: pictures that kept it.
        method: how the interval was made; None without interval.
    """

    auroc: float
    low: float | None
    high: float | None
    flipped: int
    kept: int
    method: str | None


@dataclass(frozen=True, slots=True)
class DatasetWide:
    """What a whole data set shows of one quantized network.

    Attributes:
        classes: those of the pictures' labels, the one that loses most accuracy first, then by drift.
        changes: of the top-1 class, the most frequent first.
        prediction: of changes by drift; None where every picture changed, or none.
    """

    classes: tuple[ClassRow, ...]
    changes: tuple[ClassChange, ...]
    prediction: FlipPrediction | None


@dataclass(frozen=True, slots=True)
class StudyCell:
    """One model at one bit-width under one protocol.

    Attributes:
        model: architecture.
        setting: the label of the bit-widths.
        protocol: as in ``StudyPlan``.
        images: pictures of the study.
        errors: those without a result.
        degenerate: ``"float"``, ``"quantized"``, ``"saliency"`` -> pictures whose map carries no evidence.
        scores: comparison of ``StudyPlan.comparisons`` -> metric -> its mean.
        tests: metric -> test of quantized v float agreement with the saliency; empty without a saliency.
        flips: pictures whose top-1 class changed.
        float_accuracy: top-1 of the float network; None without labels.
        accuracy: top-1 of the quantized network; None without labels.
        drift: 1 - CC of the quantized and the float map.
        splits: drift of parts of the pictures.
        terciles: the two float top-1 probabilities that part the thirds; None without results.
        truth_tests: metric -> test of quantized v float agreement with the user's ground truth; empty without one.
        simulation: of the deployed protocol's cells: how the simulation agrees with the deployed network; else None.
        wide: what the whole data set shows; None of chosen pictures.
        faithful: metric of ``FAITHFUL_METRICS`` -> ``"float"``, ``"quantized"`` and ``"change"`` (quantized less float,
            of the pictures that have both) -> its mean; {} where it was not measured.
        thirds: drift and changed classes by thirds of each property that is known of the pictures; older studies know
            the confidence alone.
    """

    model: str
    setting: str
    protocol: str
    images: int
    errors: int
    degenerate: Mapping[str, int]
    scores: Mapping[str, Mapping[str, Estimate]]
    tests: Mapping[str, SaliencyTest]
    flips: Rate
    float_accuracy: Rate | None
    accuracy: Rate | None
    drift: Estimate
    splits: tuple[DriftSplit, ...]
    terciles: tuple[float, float] | None
    truth_tests: Mapping[str, SaliencyTest] = field(default_factory=dict)
    simulation: SimulationCheck | None = None
    wide: DatasetWide | None = None
    faithful: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    thirds: tuple[PropertyThird, ...] = ()


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A finished study, summed up.

    Attributes:
        plan: what the study was decided by.
        cells: those of ``StudyPlan.cells``.
        reasons: sentence of an error -> how many pictures have it.
        truths: pictures with ground truth that can be used; None in a study without.
        truth_reasons: sentence that tells why a ground truth cannot be used -> how many pictures have it.
    """

    plan: StudyPlan
    cells: tuple[StudyCell, ...]
    reasons: Mapping[str, int]
    truths: int | None = None
    truth_reasons: Mapping[str, int] = field(default_factory=dict)
