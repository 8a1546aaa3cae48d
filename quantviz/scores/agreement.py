"""The three scores that quantviz puts first: how alike two maps of one image are, in numbers and in words."""

from __future__ import annotations

from quantviz.scores.checks import Array, degenerate, pair
from quantviz.scores.distribution import cc, kld, sim
from quantviz.scores.registry import METRICS
from quantviz.specs import Scores

CONVENTIONS = {name: METRICS[name].convention for name in ("sim", "cc", "kld")}
"""For each score: formula, convention, range and direction, in one sentence."""

EXPLANATIONS = {name: METRICS[name].explanation for name in CONVENTIONS}
"""For each score: one line for a newcomer."""


def compare(p: Array, q: Array) -> Scores:
    """Score a prediction against a reference.

    Args:
        p: prediction, (h, w), any real dtype.
        q: reference, the same shape.

    Returns:
        SIM, CC and KLD; ``Scores(None, None, None)`` where either map is degenerate (see ``degenerate``).

    Raises:
        UsageError: the shapes differ, or a map is not a two-dimensional array of real numbers.
    """
    p, q = pair(p, q)
    if degenerate(p) or degenerate(q):
        return Scores(None, None, None)
    return Scores(sim=sim(p, q), cc=cc(p, q), kld=kld(p, q))


def verdict(cc: float) -> str:
    """Say in words how alike two maps of one image are; the words and limits are quantviz's own.

    Args:
        cc: Pearson's correlation of the maps.

    Returns:
        What completes "the quantized model looks ...": from 0.99, 0.95 and 0.8 on, and below.
    """
    for least, words in ((0.99, "at the same places"), (0.95, "at nearly the same places"), (0.8, "partly elsewhere")):
        if cc >= least:
            return words
    return "elsewhere"
