"""Paired differences and single samples."""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np

from quantviz.specs import UsageError
from quantviz.statistics.results import Equivalence, Interval, PairedResult, SignedRank, Summary
from quantviz.statistics.sample import Float64, Sample, Values, column, differences, mean_intervals, notes_on, sample

EXACT_UP_TO = 50
"""Most differences other than zero that get an exact signed-rank p-value."""


def paired(a: Values, b: Values, *, margin: float, confidence: float = 0.95, seed: int = 0) -> PairedResult:
    """Compare two precisions image by image; the fields of the result state formulas, assumptions and sources.

    Swapping a and b mirrors the result (at a mean of exactly 0 the interval within Monte Carlo error only); shuffling
    the pairs, or adding one number to both, leaves it. Differences below 4e-12 of the largest score count as rounding.

    Args:
        a: (n,) real scores, one an image; NaN or None where there is none.
        b: (n,) of the same images in the same order.
        margin: largest mean difference that does not matter, above 0, in the unit of the scores; set before looking.
        confidence: in (0.5, 1).
        seed: of the bootstrap, 0 or more.

    Returns:
        Always a result, None in it where few or equal pairs leave something undefined. O(n · 9,999) up to 1,000 pairs
        (0.1 s), O(n log n) beyond.

    Raises:
        UsageError: an argument is out of range, or a and b do not pair up.
    """
    alpha = _alpha(confidence, seed)
    margin = _margin(margin)
    first, second = column(a, "a"), column(b, "b")
    if first.size != second.size:
        raise UsageError(f"a and b hold {first.size} and {second.size} values; give one of each for every image.")
    data = differences(first, second)
    interval, narrow = mean_intervals(data, (confidence, 1 - 2 * alpha), seed)
    test, correlation = _signed_rank(data.unit)
    return PairedResult(
        n=data.n,
        excluded=data.excluded,
        infinite=data.infinite,
        mean=data.rescaled(data.mean),
        median=data.rescaled(float(np.median(data.unit)) if data.n else None),
        sd=data.rescaled(data.sd),
        confidence=confidence,
        interval=interval,
        signed_rank=test,
        rank_biserial=correlation,
        d_z=data.mean / data.sd if data.mean is not None and data.sd else None,
        equivalence=_equivalence(data, margin, alpha, narrow),
        notes=notes_on(data),
    )


def summary(values: Values, *, confidence: float = 0.95, seed: int = 0, resampled: bool = True) -> Summary:
    """Describe one sample of scores.

    Do not judge a difference by whether two summaries' intervals overlap: the pairing is lost. Use ``paired``.

    Args:
        values: (n,) real scores; NaN or None where there is none.
        confidence: of the mean's BCa bootstrap interval (Efron 1987, doi 10.1080/01621459.1987.10478410), (0.5, 1).
        seed: of the bootstrap, 0 or more.
        resampled: False: the interval is BCa's limit of many resamples whatever the number of values, in O(n).

    Returns:
        Always a result; what too few values leave undefined is None.

    Raises:
        UsageError: an argument is out of range, or the values are not one-dimensional real numbers.
    """
    _alpha(confidence, seed)
    data = sample(column(values, "values"), ordered=resampled)
    return Summary(
        n=data.n,
        excluded=data.excluded,
        infinite=data.infinite,
        mean=data.rescaled(data.mean),
        sd=data.rescaled(data.sd),
        interval=mean_intervals(data, (confidence,), seed, resampled)[0],
        notes=notes_on(data),
    )


def _alpha(confidence: float, seed: int) -> float:
    if not (isinstance(confidence, float | np.floating) and 0.5 < confidence < 1):
        raise UsageError(f"Confidence {confidence!r} is not between 0.5 and 1; use 0.95, for instance.")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"Seed {seed!r} is not a whole number from 0 up.")
    return round(1 - float(confidence), 12)  # 1 - 0.95 is a little more than 0.05 in binary


def _margin(margin: float) -> float:
    real = isinstance(margin, int | float | np.integer | np.floating)
    if not (real and 0 < margin <= sys.float_info.max):
        raise UsageError(f"Margin {margin!r} is not a finite number above 0; state what difference does not matter.")
    return float(margin)


def _signed_rank(d: Float64) -> tuple[SignedRank | None, float | None]:
    """Return Wilcoxon's test and the rank-biserial correlation of ``d``, float64 (n,)."""
    from scipy import stats  # here, because it takes a second to import

    n, zeros = d.size, int((d == 0).sum())
    if n == 0:
        return None, None
    if zeros == n:
        return SignedRank(0.0, 1.0, zeros, "pratt", "all zero"), 0.0
    ranks = stats.rankdata(np.abs(d))
    plus, minus = float(ranks[d > 0].sum()), float(ranks[d < 0].sum())
    null: Literal["exact", "normal approximation"]
    if n - zeros <= EXACT_UP_TO:
        null, p = "exact", _exact(ranks[d != 0] - zeros, zeros, min(plus, minus))
    else:
        null, p = "normal approximation", float(stats.wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue)
    return SignedRank(min(plus, minus), p, zeros, "pratt", null), (plus - minus) / (n * (n + 1) / 2)


def _exact(ranks: Float64, zeros: int, statistic: float) -> float:
    """Return the two-sided p-value over all sign patterns of the m differences other than zero, each equally likely.

    SciPy enumerates 2^n patterns up to n = 13 where there are ties or zeros (seconds), and approximates beyond, which
    is poor where most differences are zero. Here patterns are counted by their number k of positive differences and
    the sum of their ranks, rank by rank, in O(m^4): Streitberg and Röhmel, "Exact distributions for permutation and
    rank tests", Statistical Software Newsletter 12(1), 1986. The zeros raise a sum by k · zeros.

    Args:
        ranks: float64 (m,), midranks of |d| among the differences other than zero, m <= 50.
        zeros: number of differences that are zero, ranked below.
        statistic: the smaller rank sum, zeros included in the ranking.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)  # doubled, midranks are whole numbers
    patterns = np.zeros((doubled.size + 1, int(doubled.sum()) + 1))  # float64 counts to 2^50 exactly
    patterns[0, 0] = 1
    for rank in doubled:
        patterns[1:, rank:] += patterns[:-1, :-rank].copy()
    sums = np.arange(patterns.shape[1]) + 2 * zeros * np.arange(patterns.shape[0])[:, None]
    return min(1.0, 2 * float(patterns[sums <= round(2 * statistic)].sum()) / 2.0**doubled.size)


def _equivalence(data: Sample, margin: float, alpha: float, interval: Interval | None) -> Equivalence:
    p, t_low, t_high = _tost(data, margin / data.scale)
    by_t = None if p is None else p <= alpha
    by_interval = None if interval is None else -margin < interval.low and interval.high < margin
    return Equivalence(
        margin=margin,
        alpha=alpha,
        p=p,
        t_low=t_low,
        t_high=t_high,
        df=data.n - 1 if data.n > 1 else None,
        interval=interval,
        by_t=by_t,
        by_interval=by_interval,
        equivalent=None if by_t is None or by_interval is None else by_t and by_interval,
        beyond=None if interval is None else interval.high < -margin or margin < interval.low,
    )


def _tost(data: Sample, margin: float) -> tuple[float | None, float | None, float | None]:
    """Return p, t against -margin and t against +margin, in the unit of ``data.unit``."""
    if data.n < 2:
        return None, None, None
    if data.constant:
        size = abs(float(data.unit[0]))
        return (0.0 if size < margin else 0.5 if size == margin else 1.0), None, None
    from statsmodels.stats.weightstats import ttost_paired  # here, because it takes a second to import

    margin = min(margin, 1e100)  # in units of the largest difference: t stays finite, and p is 0 either way
    p, low, high = ttost_paired(data.unit, np.zeros(data.n), -margin, margin)
    return float(p), float(low[0]), float(high[0])
