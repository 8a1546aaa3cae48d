"""Confidence intervals of parts of a whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quantviz.specs import UsageError
from quantviz.statistics.sample import Float64


def wilson(counts: npt.ArrayLike, totals: npt.ArrayLike, *, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Return Wilson's score intervals of proportions.

    The ends are (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n), with p = count / n and z the normal
    distribution's (1 + confidence)/2 quantile. Source: Wilson, "Probable inference, the law of succession, and
    statistical inference", JASA 22(158), 1927, doi 10.1080/01621459.1927.10502953.

    Args:
        counts: (k,) whole numbers, how many of each total have the property.
        totals: (k,) whole numbers n, 0 or more.
        confidence: of the intervals, in (0, 1).

    Returns:
        The lower and the upper ends, each float64 (k,) within [0, 1]; NaN where the total is 0.

    Raises:
        UsageError: a count is below 0 or above its total.
    """
    from statsmodels.stats.proportion import proportion_confint  # here, because it takes a second to import

    some, all_of = np.asarray(counts, np.float64), np.asarray(totals, np.float64)
    if wrong := np.flatnonzero(~((some >= 0) & (some <= all_of))).tolist():
        raise UsageError(f"Count {some[wrong[0]]:g} is not within 0 and its total, {all_of[wrong[0]]:g}.")
    low, high = np.full(some.shape, np.nan), np.full(some.shape, np.nan)
    known = all_of > 0
    low[known], high[known] = proportion_confint(some[known], all_of[known], alpha=1 - confidence, method="wilson")
    return low, high


def exact_low(count: int, total: int, level: float) -> float:
    """Return the exact lower confidence bound of a proportion; it lies above the true one with a chance up to level.

    It is the level quantile of the beta distribution with count and total - count + 1, and 0 where the count is 0.
    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26(4), 1934, doi 10.1093/biomet/26.4.404.

    Args:
        count: how many have the property.
        total: of how many, 1 or more.
        level: one-sided chance of error, in (0, 1).
    """
    from scipy.special import betaincinv  # here, as SciPy takes a while to import

    return float(betaincinv(count, total - count + 1, level)) if count else 0.0


def exact_high(count: int, total: int, level: float) -> float:
    """Return the exact upper confidence bound of a proportion; 1 where the count is the total.

    Args and source: as ``exact_low``.
    """
    return 1 - exact_low(total - count, total, level)
