"""The published Table 1 of arXiv 2403.09939, what a study reproduces of it, and what its numbers must obey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quantviz.study.specs.summary import NORMAL, Estimate

PUBLISHED_IMAGES: Final = 10_000
"""Pictures of ImageNet's validation set that the published means are over; which ones is not said."""

PRECISIONS: Final[Mapping[str, str]] = {"f32": "", "int16": "W16A16", "int8": "W8A8"}
"""What the paper calls a precision -> the label of the same bit-widths here; float has none."""


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """One cell of the published table.

    Attributes:
        precision: ``"f32"``, ``"int16"`` or ``"int8"``.
        comparison: as in ``COMPARISONS``; the paper's ground truth is a predicted saliency.
        metric: as in ``STUDY_METRICS``.
        model: name of the network: the paper's SqueezeNet is ``squeezenet1_1``, which its code loads.
        mean: over the pictures.
        sd: standard deviation over the pictures.
    """

    precision: str
    comparison: str
    metric: str
    model: str
    mean: float
    sd: float

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95 % interval, mean ± 1.96 sd / sqrt(n)."""
        half = 1.96 * self.sd / PUBLISHED_IMAGES**0.5
        return Estimate(PUBLISHED_IMAGES, self.mean, self.sd, self.mean - half, self.mean + half, NORMAL)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One number as it was published and as a study has it.

    Attributes:
        precision: ``"f32"``, ``"int16"`` or ``"int8"``.
        comparison: as in ``COMPARISONS``.
        metric: as in ``STUDY_METRICS``.
        model: one of the published models, or another model of the study.
        published: the cell; None where the paper does not have the model.
        found: protocol of the study -> its mean; without the protocols, models and bit-widths that it lacks.
    """

    precision: str
    comparison: str
    metric: str
    model: str
    published: PublishedCell | None
    found: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class TriangleCheck:
    """Whether three mean similarities can stand together: of a float map, a quantized map and a ground truth.

    1 - SIM is the total variation distance, a metric. So the mean SIM of quantized map and ground truth lies within
    1 - (d + e) and 1 - abs(d - e), where d = 1 - SIM(float, ground truth) and e = 1 - SIM(quantized, float).

    Attributes:
        source: ``"published"``, or the protocol of a study.
        model: architecture.
        setting: ``"int16"`` or ``"int8"``; of a study, the label of the bit-widths.
        n: pictures that the three means are over.
        float_v_truth: mean SIM of float map and ground truth, [0, 1].
        quantized_v_float: mean SIM of the two maps, [0, 1].
        quantized_v_truth: mean SIM of quantized map and ground truth, [0, 1].
        low: least value that the first two leave for the third.
        high: greatest one.
        excess: by how much the third lies outside; 0.0 within.
        tolerance: what rounding alone can explain of that.
        pictures_outside: single pictures that break the rule; None where only means are known.
        share: part of the pictures that, scored exactly 1.0 and the rest as the float maps, would give the third
            mean, [0, 1]; None for a study.
        share_sd: the standard deviation that such a mixture has; None for a study.
        sd: standard deviation of the third; None for a study.
    """

    source: str
    model: str
    setting: str
    n: int
    float_v_truth: float
    quantized_v_float: float
    quantized_v_truth: float
    low: float
    high: float
    excess: float
    tolerance: float
    pictures_outside: int | None = None
    share: float | None = None
    share_sd: float | None = None
    sd: float | None = None

    @property
    def holds(self) -> bool:
        """True where the three can stand together, rounding granted."""
        return self.excess <= self.tolerance and not self.pictures_outside
