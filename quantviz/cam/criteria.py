"""What the faithfulness metrics are, in words; without torch, so that a page can show it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class FaithfulnessMetric:
    """One faithfulness metric in words; ``faithfulness`` computes it.

    Attributes:
        name: short and unique, its key in what ``faithfulness`` returns.
        title: as the field writes it.
        family: ``"faithfulness"``.
        low: least possible value.
        high: greatest possible value.
        higher_is_better: direction: True if a higher score means a more faithful map.
        convention: one sentence: formula and choices.
        explanation: one plain sentence for a newcomer.
        source: paper, with its DOI.
        cost: complexity and what dominates it.
        degenerate: what becomes of a map that carries no evidence.
    """

    name: str
    title: str
    family: str
    low: float
    high: float
    higher_is_better: bool
    convention: str
    explanation: str
    source: str
    cost: str
    degenerate: str


_RISE = (
    'V. Petsiuk, A. Das and K. Saenko, "RISE: Randomized input sampling for explanation of black-box models", '
    "BMVC 2018, doi 10.48550/arXiv.1806.07421."
)
_WITHOUT_ORDER = "None of the kinds has a value, because a map without a range gives the pixels no order."

_METRICS = (
    FaithfulnessMetric(
        name="deletion",
        title="Deletion",
        family="faithfulness",
        low=0.0,
        high=1.0,
        higher_is_better=False,
        convention=(
            "Deletion = area, by the trapezoidal rule over the fraction of deleted pixels, under the softmax "
            "probability of the explained class, pixels set to the preprocessing's mean colour (zero in the normalized "
            "input) from the most relevant on in 16 equal steps, ties in a seeded random order; from 0 to 1, lower is "
            "better."
        ),
        explanation=(
            "The model's mean confidence while the pixels that the map marks are taken away first: low if it needed "
            "them."
        ),
        source=_RISE,
        cost="17 forward passes.",
        degenerate=_WITHOUT_ORDER,
    ),
    FaithfulnessMetric(
        name="insertion",
        title="Insertion",
        family="faithfulness",
        low=0.0,
        high=1.0,
        higher_is_better=True,
        convention=(
            "Insertion = area, by the trapezoidal rule over the fraction of inserted pixels, under the softmax "
            "probability of the explained class, the image's pixels put onto its Gaussian blur (standard deviation "
            "1/20 of the shorter side, edges repeated) from the most relevant on in 16 equal steps, ties in a seeded "
            "random order; from 0 to 1, higher is better."
        ),
        explanation=(
            "The model's mean confidence while the pixels that the map marks are shown to it first: high if they "
            "suffice."
        ),
        source=_RISE,
        cost="17 forward passes.",
        degenerate=_WITHOUT_ORDER,
    ),
    FaithfulnessMetric(
        name="road",
        title="ROAD",
        family="faithfulness",
        low=-0.5,
        high=0.5,
        higher_is_better=True,
        convention=(
            "ROAD = mean over 10, 20, ..., 90 % of pixels kept of (p_LeRF - p_MoRF) / 2, p being the softmax "
            "probability of the explained class after noisy linear imputation (noise 0.01 in the normalized input, "
            "seeded) of the least (LeRF) or the most (MoRF) relevant pixels, ties in a seeded random order; from -0.5 "
            "to 0.5, higher is better."
        ),
        explanation=(
            "Whether smoothing over what the map marks hurts the model more than smoothing over the rest: above 0 it "
            "does."
        ),
        source=(
            'Y. Rong, T. Leemann, V. Borisov, G. Kasneci and E. Kasneci, "A consistent and efficient evaluation '
            'strategy for attribution methods", ICML 2022, doi 10.48550/arXiv.2202.00449; ROADCombined of '
            "pytorch-grad-cam."
        ),
        cost=(
            "18 forward passes and 18 sparse linear systems with an unknown for each removed pixel, which dominate for "
            "a small network."
        ),
        degenerate=_WITHOUT_ORDER,
    ),
)

FAITHFULNESS: Mapping[str, FaithfulnessMetric] = MappingProxyType({metric.name: metric for metric in _METRICS})
"""Every faithfulness metric by its name, in reading order."""
