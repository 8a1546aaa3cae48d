"""How well a score tells two groups apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from quantviz.specs import UsageError
from quantviz.statistics.sample import Values, column

DELONG: Final = "DeLong, on the logit's scale"
"""Method of an AUROC's interval."""

EXACT: Final = "exact, of fully parted groups"
"""Method of the interval of an AUROC of 0 or 1, where DeLong's variance is 0."""


@dataclass(frozen=True, slots=True)
class Auroc:
    """Area under the receiver operating characteristic: the chance that a score of the one group is above the other's.

    Attributes:
        value: in [0, 1], ties counting half; 0.5 where the score tells nothing.
        low: lower end of its confidence interval; None where a group has fewer than 2.
        high: upper end.
        positives: scores of the group that is to be told.
        negatives: scores of the other.
        method: how the interval was made; None without interval.
    """

    value: float
    low: float | None
    high: float | None
    positives: int
    negatives: int
    method: str | None


def auroc(scores: Values, positive: Values, *, confidence: float = 0.95) -> Auroc | None:
    """Return the AUROC of a score, with DeLong's interval; None where one of the groups is empty.

    With midranks the area is the Mann-Whitney statistic over the m positives and n negatives, and its variance
    S10 / m + S01 / n, from the placement values of each score among the other group: DeLong, DeLong and Clarke-Pearson,
    Biometrics 44(3), 1988, doi 10.2307/2531595, by midranks as Sun and Xu, 2014, doi 10.1109/LSP.2014.2337313. The
    interval is symmetric on the logit's scale, so that it stays within [0, 1]. Where the groups do not overlap the
    variance is 0; then the inner end is level ** (1 / min(m, n)), with level half of 1 - confidence: the exact bound of
    a chance that was never seen to fail in so many independent pairs.

    Args:
        scores: (k,) real; pairs with NaN or None in either are left out.
        positive: (k,) 1 or True where a score is of the group that is to be told, else 0.
        confidence: of the interval, in (0, 1).

    Raises:
        UsageError: the two differ in length.
    """
    values, flags = column(scores, "scores"), column(positive, "positive")
    if values.size != flags.size:
        raise UsageError(f"There are {values.size} scores and {flags.size} flags; give one of each for every image.")
    known = np.isfinite(values) & np.isfinite(flags)
    above, below = values[known & (flags != 0)], values[known & (flags == 0)]
    m, n = above.size, below.size
    if not (m and n):
        return None
    from scipy import stats  # here, because it takes a second to import

    ranks = stats.rankdata(np.concatenate([above, below]))
    first = (ranks[:m] - stats.rankdata(above)) / n  # part of the negatives below each positive
    second = 1 - (ranks[m:] - stats.rankdata(below)) / m
    area = float(first.mean())
    if min(m, n) < 2:
        return Auroc(area, None, None, m, n, None)
    level = (1 - confidence) / 2
    if area in (0.0, 1.0):
        inner = level ** (1 / min(m, n))
        low, high = (inner, 1.0) if area else (0.0, 1 - inner)
        return Auroc(area, low, high, m, n, EXACT)
    deviation = math.sqrt(float(first.var(ddof=1)) / m + float(second.var(ddof=1)) / n)
    reach = float(stats.norm.isf(level)) * deviation / (area * (1 - area))
    logit = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-end)) for end in (logit - reach, logit + reach))
    return Auroc(area, low, high, m, n, DELONG)
