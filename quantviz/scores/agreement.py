"""The three scores that quantviz puts first: how alike two maps of one image are, in numbers and in words."""

from __future__ import annotations

from functools import cached_property

from quantviz.scores.checks import Array, Float64, as_float, check_shapes, fault_of, unit_peak, unit_sum
from quantviz.scores.distribution import correlation, divergence, overlap, unit_deviations
from quantviz.scores.registry import METRICS
from quantviz.specs import Scores

CONVENTIONS = {name: METRICS[name].convention for name in ("sim", "cc", "kld")}
"""For each score: formula, convention, range and direction, in one sentence."""

EXPLANATIONS = {name: METRICS[name].explanation for name in CONVENTIONS}
"""For each score: one line for a newcomer."""


class ReadyMap:
    """A map to be compared with several others: what the scores make of it alone is made once.

    Args:
        values: (h, w), any real dtype; they must not change.

    Raises:
        UsageError: it is not a two-dimensional array of real numbers.
    """

    def __init__(self, values: Array) -> None:
        self.values = as_float(values)

    @cached_property
    def degenerate(self) -> str:
        """Why the map carries no evidence, or ``""``."""
        return fault_of(self.values, self._scaled)

    @cached_property
    def distribution(self) -> Float64:
        """The map with a sum of 1, as SIM and KLD take it."""
        return unit_sum(self._scaled)

    @cached_property
    def deviations(self) -> Float64:
        """The map with mean 0 and a sum of squares of 1, as CC takes it."""
        return unit_deviations(self._scaled)

    @cached_property
    def _scaled(self) -> Float64:
        return unit_peak(self.values)


def compare(p: Array | ReadyMap, q: Array | ReadyMap) -> Scores:
    """Score a prediction against a reference.

    Args:
        p: prediction, (h, w), any real dtype.
        q: reference, the same shape.

    Returns:
        SIM, CC and KLD; ``Scores(None, None, None)`` where either map is degenerate (see ``degenerate``).

    Raises:
        UsageError: the shapes differ, or a map is not a two-dimensional array of real numbers.
    """
    p, q = (values if isinstance(values, ReadyMap) else ReadyMap(values) for values in (p, q))
    check_shapes(p.values, q.values)
    if p.degenerate or q.degenerate:
        return Scores(None, None, None)
    return Scores(
        sim=overlap(p.distribution, q.distribution),
        cc=correlation(p.deviations, q.deviations),
        kld=divergence(p.distribution, q.distribution),
    )
