"""Confidence intervals of parts of a whole, and of the difference of two parts of the same things."""

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


def paired_difference(
    both: int, first: int, second: int, neither: int, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the difference of two proportions of the same things, and its interval.

    With p1 = (both + first)/n, p2 = (both + second)/n, their Wilson intervals (l1, u1) and (l2, u2), and phi the
    correlation of the two properties, the ends are d - sqrt(a² - 2 phi a b + b²) with a = p1 - l1, b = u2 - p2, and
    d + the same with a = u1 - p1, b = p2 - l2. Source: method 10 of Newcombe, "Improved confidence intervals for the
    difference between binomial proportions based on paired data", Statistics in Medicine 17(22), 1998.

    Args:
        both: how many have both properties.
        first: only the first.
        second: only the second.
        neither: none of them.
        confidence: of the interval, in (0, 1).

    Returns:
        d = p1 - p2 and the ends of its interval, within [-1, 1].

    Raises:
        UsageError: a count is below 0, or all are 0.
    """
    counts = both, first, second, neither
    if min(counts) < 0 or not (total := sum(counts)):
        raise UsageError(
            f"Counts {', '.join(map(str, counts))} are none of pairs; give 0 or more, and one pair at least."
        )
    parts = np.array([both + first, both + second], np.float64)
    low, high = wilson(parts, [total, total], confidence=confidence)
    shares = parts / total
    phi = _correlation(*counts)
    below, above = shares - low, high - shares
    difference = float(shares[0] - shares[1])
    down = below[0] ** 2 - 2 * phi * below[0] * above[1] + above[1] ** 2
    up = above[0] ** 2 - 2 * phi * above[0] * below[1] + below[1] ** 2
    ends = difference - float(np.sqrt(max(down, 0.0))), difference + float(np.sqrt(max(up, 0.0)))
    return difference, max(ends[0], -1.0), min(ends[1], 1.0)


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Return phi with Newcombe's correction for few pairs; 0 where a property has no spread."""
    squared = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not squared:
        return 0.0
    surplus = float(both * neither - first * second)
    if surplus > 0:
        surplus = max(surplus - (both + first + second + neither) / 2, 0.0)
    return surplus / float(np.sqrt(float(squared)))
