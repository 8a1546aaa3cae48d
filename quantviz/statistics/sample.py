"""From untrusted values to a clean sample, and from a sample to its mean's confidence interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import UsageError
from quantviz.statistics.results import ALL_EQUAL, LIMIT, Interval

Float64 = npt.NDArray[np.float64]
Values = npt.ArrayLike | Sequence[float | None]

RESAMPLES = 9_999
"""Bootstrap resamples, SciPy's default."""

FEWEST = 5
"""Fewest values that get an interval: the bootstrap of two values covers half of the time, not 95 %."""

FEW = 20
"""Below this many values a note warns: at n = 10 nominal 95 % covered 91 % (normal) and 84 % (log-normal)."""

MOST = 1_000
"""Most values that are always resampled; beyond, the limit of many resamples is computed, see ``_expansion``."""

SKEWED = 0.5
"""Skewness / sqrt(n) above which more values than ``MOST`` are resampled all the same: one or two of them decide the
mean, and the expansion's ends are off by more than 0.03 of the interval's width."""

_DRAWS, _FEWEST_RESAMPLES = 10_000_000, 999  # what bounds the time where skewed samples are large

GRID_BITS = 38
"""Values count as different down to 2^-38 (about 4e-12) of the largest: coarser than rounding, finer than any score.
Without it a - b makes tiny false signs and breaks ties, which rank tests and the bootstrap take for evidence."""

_EXACT_SUM = 2**15  # so many values of 38 bits add up to 53 bits, which float64 holds exactly


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Finite values.

    Attributes:
        unit: float64 (n,), the values divided by ``scale``, so that no square over- or underflows; in an order that
            does not depend on the order they came in, unless ``sample`` was asked not to sort.
        scale: a power of two, so that dividing by it is exact.
        excluded: values left out.
        infinite: those among them that are infinite.
        mean: of ``unit``, its sum rounded once, so that it mirrors and permutes exactly; None without values.
        constant: all values are equal; False without values.
    """

    unit: Float64
    scale: float
    excluded: int
    infinite: int
    mean: float | None
    constant: bool

    @property
    def n(self) -> int:
        """Number of values."""
        return self.unit.size

    @property
    def sd(self) -> float | None:
        """Standard deviation of ``unit`` with n - 1."""
        if self.n < 2:
            return None
        return 0.0 if self.constant else float(np.std(self.unit, ddof=1))

    def rescaled(self, value: float | None) -> float | None:
        """Return ``value``, in the unit of ``unit``, in the unit of the scores."""
        return None if value is None else value * self.scale + 0.0  # + 0.0 turns -0.0 into 0.0


def column(values: Values, what: str) -> Float64:
    """Return ``values`` as float64 (n,), None as NaN.

    Raises:
        UsageError: they are not one-dimensional or not real numbers.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise UsageError(f"{what} is a ragged nest of lists; give one number an image, shape (n,).") from None
    if array.ndim != 1:
        raise UsageError(f"{what} has shape {array.shape}; give one number an image, shape (n,).")
    if array.dtype.kind == "O" and not any(isinstance(item, str | bytes | complex) for item in array):
        array = _from_objects(array, what)
    if array.size and array.dtype.kind not in "biuf":
        raise UsageError(f"{what} holds {array.dtype} values; give real numbers, with NaN or None where there is none.")
    return array.astype(np.float64)


def _from_objects(array: npt.NDArray[Any], what: str) -> Float64:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{what} holds something that is no number ({error}); use None for no value.") from None


def sample(values: Float64, *, ordered: bool = True) -> Sample:
    """Keep the finite ``values``, float64 (n,), and count the others; unordered, the sample cannot be resampled."""
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0))
    return _scaled(_snapped(finite, largest), values.size, int(np.isinf(values).sum()), ordered)


def differences(a: Float64, b: Float64) -> Sample:
    """Return a - b, both float64 (n,), over the pairs where both are finite, free of rounding noise."""
    undefined = np.isnan(a) | np.isnan(b)
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf, and finite values too far apart
        d = a - b
    finite = np.isfinite(d)
    largest = float(max(np.abs(a[finite]).max(initial=0), np.abs(b[finite]).max(initial=0)))
    return _scaled(_snapped(d[finite], largest), a.size, int((~finite & ~undefined).sum()), ordered=True)


def _snapped(values: Float64, largest: float) -> Float64:
    """Round to a grid of 2^-38 of ``largest``; values that differ by one step of it become equal."""
    grid = math.ldexp(1.0, max(math.frexp(largest)[1] - GRID_BITS, -1074))
    with np.errstate(over="ignore"):
        snapped = np.clip(np.rint(values / grid) * grid, -np.finfo(float).max, np.finfo(float).max)
    if snapped.size and np.ptp(snapped / 2) <= grid / 2:  # halved: the range of huge values would overflow
        snapped[:] = snapped[np.argmin(np.abs(snapped))]
    return snapped


def _scaled(values: Float64, given: int, infinite: int, ordered: bool) -> Sample:
    largest = float(np.abs(values).max(initial=0))
    scale = math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest else 1.0
    unit = values / scale
    total = float(unit.sum()) if unit.size <= _EXACT_SUM else math.fsum(unit)
    if ordered:
        # The bootstrap draws by position. Sorted by magnitude, and equal magnitudes by the mean's direction, it gives
        # the same interval for shuffled images and the mirrored one for swapped precisions.
        unit = unit[np.lexsort((unit * math.copysign(1.0, total), np.abs(unit)))]
    constant = bool(unit.size and np.ptp(unit) == 0)
    mean = None if not unit.size else float(unit[0]) if constant else total / unit.size
    return Sample(unit, scale, given - values.size, infinite, mean, constant)


def mean_intervals(
    data: Sample, confidences: tuple[float, ...], seed: int, resampled: bool = True
) -> list[Interval | None]:
    """Return confidence intervals of the mean, one for each confidence, all from the same resamples.

    BCa's ends are the quantiles Φ(z0 + (z0 + z)/(1 - â(z0 + z))) of the resampled means: z = ±Φ⁻¹((1 + confidence)/2),
    z0 the bias correction, â the acceleration from the jackknife (Efron 1987, doi 10.1080/01621459.1987.10478410).
    Resampling differences is resampling pairs. Beyond ``MOST`` values the quantiles and z0 come from the expansion of
    ``_expansion``, in O(n); for skewed samples among them from as many resamples as 10 million draws make, 999 or more.

    Args:
        data: the sample.
        confidences: each in (0, 1).
        seed: of the resamples.
        resampled: False: the expansion serves samples of every size.
    """
    if data.n < FEWEST:
        return [None for _ in confidences]
    if data.constant:
        ends, method = [(float(data.unit[0]),) * 2 for _ in confidences], ALL_EQUAL
    elif not resampled or _is_expanded(data):
        ends, method = _expansion(data, confidences), LIMIT
    else:
        ends, method = _bca(data, confidences, seed), f"BCa bootstrap, {_resamples(data.n):,} resamples"
    return [
        Interval(low * data.scale + 0.0, high * data.scale + 0.0, confidence, method)
        for (low, high), confidence in zip(ends, confidences, strict=True)
    ]


def _is_expanded(data: Sample) -> bool:
    """Tell whether a sample has too many values to be resampled, none of which decides the mean."""
    return data.n > MOST and not data.constant and abs(_moments(data)[1]) <= SKEWED


def _moments(data: Sample) -> tuple[float, float, float]:
    """Return of the bootstrap distribution of the mean its standard deviation, skewness and excess kurtosis.

    These are s/√n, g/√n and k/n, with the sample's own s (n in the denominator), skewness g and excess kurtosis k.
    """
    centred = data.unit - (data.mean or 0.0)
    squares = centred * centred
    variance = float(np.mean(squares))
    skewness = float(np.mean(squares * centred)) / variance**1.5
    kurtosis = float(np.mean(squares * squares)) / variance**2 - 3
    return math.sqrt(variance / data.n), skewness / math.sqrt(data.n), kurtosis / data.n


def _expansion(data: Sample, confidences: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return BCa's ends for infinitely many resamples, to O(n^-3/2) of the standard error.

    With the standard deviation σ, skewness g and excess kurtosis k of the resampled means, their quantile at Φ(w) is
    the mean + σ (w + g(w² - 1)/6 + k(w³ - 3w)/24 - g²(2w³ - 5w)/36) (Cornish and Fisher 1938, doi 10.2307/1400905),
    the part of them below the mean is 1/2 + g/(6√(2π)), and â = g/6 (Hall 1992, The Bootstrap and Edgeworth Expansion,
    3.10). No resample's mean is outside the sample's range, so that the ends are kept within it.

    Measured on 1,500 to 10,000 normal, skewed, tied and mostly-zero values, the ends are within 0.04 of the interval's
    width of those from 9,999 resamples, whose own standard error is 0.005 to 0.02 of it; at skewness below 0.2 within
    0.01. Student's t is off by 0.1 at skewness 0.2 and by 0.2 at 0.4. On 920 samples of 8 to 200 pictures' scores of
    the shipped study they are within 0.01 at the median and 0.09 at most; mean ± 1.96 sd/√n is off by up to 0.46.
    """
    from scipy.special import ndtri

    spread, skewness, kurtosis = _moments(data)
    bias = float(ndtri(0.5 + skewness / (6 * math.sqrt(2 * math.pi))))
    ends = []
    for confidence in confidences:
        z = _both(bias, confidence)
        w = bias + z / (1 - skewness / 6 * z)
        straight = w + skewness * (w * w - 1) / 6
        curved = kurtosis * (w**3 - 3 * w) / 24 - skewness**2 * (2 * w**3 - 5 * w) / 36
        low, high = ((data.mean or 0.0) + spread * (straight + curved)).clip(data.unit.min(), data.unit.max())
        ends.append((float(low), float(high)))
    return ends


def _bca(data: Sample, confidences: tuple[float, ...], seed: int) -> list[tuple[float, float]]:
    from scipy.special import ndtr, ndtri

    # Taken from one of the values, a spread far below the mean does not drown in the rounding of resampled means; and
    # as all stays on the grid, sums are exact, so that resamples that tie with the sample's mean count as ties.
    base = float(data.unit[0])
    values = data.unit - base
    mean = float(np.mean(values))
    means = _resampled(values, seed)
    bias = float(ndtri((np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * means.size)))
    # The jackknife's values are (mean - value)/(n - 1) from their own mean: its acceleration is the sample's skewness.
    acceleration = _moments(data)[1] / 6
    ends = []
    for confidence in confidences:
        z = _both(bias, confidence)
        low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
        ends.append((base + float(low), base + float(high)))
    return ends


def _both(bias: float, confidence: float) -> Float64:
    from scipy.special import ndtri

    return bias + float(ndtri((1 + confidence) / 2)) * np.array([-1.0, 1.0])


def _resampled(values: Float64, seed: int) -> Float64:
    """Return the means of seeded resamples of ``values``, float64 (n,)."""
    n = values.size
    if n <= MOST:  # sums of so few values are exact in any order, so that a product of matrices gives the same
        return np.concatenate([often.astype(np.float64) @ values for often in _counts(n, seed)]) / n
    drawn = _drawn(n, _resamples(n), seed)
    return np.concatenate([np.take(values, places).mean(axis=1) for places in drawn])


def _resamples(n: int) -> int:
    return min(RESAMPLES, max(_FEWEST_RESAMPLES, _DRAWS // n))


@lru_cache(maxsize=16)
def _counts(n: int, seed: int) -> tuple[npt.NDArray[np.uint8], ...]:
    """Return how often each resample draws each of up to ``MOST`` values, (resamples, n) in parts, 10 MB or less.

    Kept, because a study has many samples of one size.
    """
    counts = []
    for places in _drawn(n, RESAMPLES, seed):
        rows = np.arange(len(places))[:, None]
        often = np.bincount((rows * n + places).ravel(), minlength=places.size)
        counts.append(often.reshape(places.shape).astype(np.uint8))
    return tuple(counts)


def _drawn(n: int, count: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the places that ``count`` resamples of n values draw, (resamples, n), some MB at a time."""
    random, step = np.random.default_rng(seed), max(1, 2**18 // n)
    for at in range(0, count, step):
        yield random.integers(0, n, (min(step, count - at), n))


def notes_on(data: Sample) -> tuple[str, ...]:
    """Return what a reader must know about the interval, a sentence each."""
    notes = []
    if data.excluded:
        undefined = data.excluded - data.infinite
        notes.append(f"Left out: {undefined} without a value and {data.infinite} infinite.")
    if data.n < FEWEST:
        notes.append(f"Fewer than {FEWEST} values ({data.n}) allow no bootstrap interval.")
    elif data.constant:
        notes.append("All values are equal: BCa is undefined, and the bootstrap's interval is that one value.")
    elif data.n < FEW:
        notes.append(f"Fewer than {FEW} values ({data.n}): bootstrap intervals run too narrow.")
    return tuple(notes)
