"""One-sided confidence bounds by which limits are decided, and how many pictures would decide them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quantviz import statistics
from quantviz.guard.specs import FEWEST_PICTURES, Column

MOST_PICTURES = 10_000_000
"""More pictures than this are not asked for: the value lies at the limit."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The chances of error that are allowed.

    Attributes:
        holds: that a limit is said to hold though it does not. It is not shared: that all limits hold may be said at
            this level where each does (an intersection-union test, Berger 1982, doi 10.1080/00401706.1982.10487790).
        broken: that a limit is said to be broken though it holds; the whole check's level divided by the number of
            limits (Bonferroni), so that the chance of even one false failure stays within the level whatever they have
            to do with each other.
    """

    holds: float
    broken: float

    def shared(self, count: int) -> Levels:
        """Return the levels of a limit that several questions decide, a class each: one is enough to break it."""
        return Levels(self.holds, self.broken / max(count, 1))


def levels_of(confidence: float, family: int) -> Levels:
    """Return the levels of each of so many limits that are judged together."""
    alpha = round(1 - confidence, 12)
    return Levels(alpha, alpha / max(family, 1))


@dataclass(frozen=True, slots=True)
class Bounds:
    """A value with the bounds that decide whether it stays at or below a limit.

    Attributes:
        estimate: the value; None without pictures.
        low: above the limit, it is broken; None where nothing bounds it.
        high: at most the limit, it holds.
        n: pictures.
        method: in a few words.
        needed: function from a limit to the number of pictures that would decide it if they were like these.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    needed: Callable[[float], int | None]


def mean_bounds(values: Column, levels: Levels) -> Bounds:
    """Bound the mean of values, float64 (n,) without NaN.

    Both a bootstrap (BCa) and Student's t bound are computed, and the more cautious one counts on either side: the t
    bound is too short where few values decide the mean, and the bootstrap of few values is too short altogether. Values
    that are all equal have themselves as bounds.
    """
    count = len(values)
    mean = float(values.mean()) if count else None
    if mean is None or count < FEWEST_PICTURES:
        return Bounds(mean, None, None, count, "too few pictures", lambda _: FEWEST_PICTURES)
    low, high = (_mean_bound(values, level, side) for level, side in ((levels.broken, -1), (levels.holds, 1)))
    spread = float(values.std(ddof=1))

    def needed(limit: float) -> int | None:
        gap = abs(limit - mean)
        level = levels.holds if mean <= limit else levels.broken
        return _counted(math.ceil((_normal(level) * spread / gap) ** 2)) if gap > 0 else None

    return Bounds(mean, low, high, count, "BCa bootstrap and Student's t, the wider", needed)


def part_bounds(count: int, total: int, levels: Levels) -> Bounds:
    """Bound a part of the pictures by Clopper and Pearson's exact bounds (1934, doi 10.1093/biomet/26.4.404)."""

    def needed(limit: float) -> int | None:
        part = count / total
        if part <= limit:
            return _least(lambda n: statistics.exact_high(math.ceil(part * n), n, levels.holds) <= limit)
        return _least(lambda n: statistics.exact_low(math.floor(part * n), n, levels.broken) > limit)

    method = "exact (Clopper and Pearson)"
    if not total:
        return Bounds(None, None, None, 0, method, lambda _: None)
    low, high = statistics.exact_low(count, total, levels.broken), statistics.exact_high(count, total, levels.holds)
    return Bounds(count / total, low, high, total, method, needed)


def rise_bounds(more: int, fewer: int, total: int, levels: Levels) -> Bounds:
    """Bound the rise of a part between two networks that saw the same pictures.

    The rise is more / n - fewer / n, with the pictures that only the second network counts, and those that only the
    first does. Its bounds are the exact bounds of the two parts, each at half of the level (Bonferroni): never too
    short, at the price of some pictures.

    Args:
        more: pictures that are counted now and were not.
        fewer: pictures that were counted and are not now.
        total: pictures, n.
        levels: chances of error.
    """

    def high(n: int, ups: int, downs: int) -> float:
        half = levels.holds / 2
        return statistics.exact_high(ups, n, half) - statistics.exact_low(downs, n, half)

    def low(n: int, ups: int, downs: int) -> float:
        half = levels.broken / 2
        return statistics.exact_low(ups, n, half) - statistics.exact_high(downs, n, half)

    def needed(limit: float) -> int | None:
        up, down = more / total, fewer / total
        if up - down <= limit:
            return _least(lambda n: high(n, math.ceil(up * n), math.floor(down * n)) <= limit)
        return _least(lambda n: low(n, math.floor(up * n), math.ceil(down * n)) > limit)

    method = "exact, by the two directions"
    if not total:
        return Bounds(None, None, None, 0, method, lambda _: None)
    return Bounds((more - fewer) / total, low(total, more, fewer), high(total, more, fewer), total, method, needed)


def _mean_bound(values: Column, level: float, side: int) -> float:
    from scipy import stats  # here, because it takes a second to import

    summed = statistics.summary(values, confidence=1 - 2 * level)
    assert summed.interval is not None
    assert summed.mean is not None
    assert summed.sd is not None
    student = summed.mean + side * float(stats.t.isf(level, summed.n - 1)) * summed.sd / math.sqrt(summed.n)
    return max(student, summed.interval.high) if side > 0 else min(student, summed.interval.low)


def _normal(level: float) -> float:
    from scipy import stats

    return float(stats.norm.isf(level))


def _counted(count: int) -> int | None:
    return max(count, FEWEST_PICTURES) if count <= MOST_PICTURES else None


def _least(decides: Callable[[int], bool]) -> int | None:
    """Return about the least number of pictures that decides, found by doubling and halving; None beyond the most."""
    high = 1
    while not decides(high):
        high *= 2
        if high > MOST_PICTURES:
            return None
    low = high // 2
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def counts(more: Column, fewer: Column) -> tuple[int, int, int]:
    """Return how many of the pictures with both flags have only the first, only the second, and how many there are."""
    known = ~np.isnan(more) & ~np.isnan(fewer)
    return (
        int(((more == 1) & (fewer == 0) & known).sum()),
        int(((fewer == 1) & (more == 0) & known).sum()),
        int(known.sum()),
    )
