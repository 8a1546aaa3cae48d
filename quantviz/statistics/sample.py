"""From untrusted values to a clean sample, and from a sample to its mean's confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quantviz.specs import UsageError
from quantviz.statistics.results import Interval

Float64 = npt.NDArray[np.float64]
Values = npt.ArrayLike | Sequence[float | None]

RESAMPLES = 9_999
"""Bootstrap resamples, SciPy's default."""

FEWEST = 5
"""Fewest values that get an interval: the bootstrap of two values covers half of the time, not 95 %."""

FEW = 20
"""Below this many values a note warns: at n = 10 nominal 95 % covered 91 % (normal) and 84 % (log-normal)."""

MOST = 5_000
"""Most values that are resampled; beyond, the mean is as good as normal and BCa's jackknife, O(n²), is slow."""

GRID_BITS = 38
"""Values are told apart down to 2^-38 (about 4e-12) of the largest: coarser than rounding, finer than any score.
Without it a - b makes tiny false signs and breaks ties, which rank tests and the bootstrap take for evidence. Sums of
up to 2^13 such values are exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Finite values in an order that does not depend on the order they came in.

    Attributes:
        unit: float64 (n,), the values divided by ``scale``, sorted; so that no square over- or underflows.
        scale: a power of two, so that dividing by it is exact.
        excluded: values left out.
        infinite: those among them that are infinite.
    """

    unit: Float64
    scale: float
    excluded: int
    infinite: int

    @property
    def n(self) -> int:
        """Number of values."""
        return self.unit.size

    @property
    def constant(self) -> bool:
        """True when all values are equal."""
        return bool(self.n and np.ptp(self.unit) == 0)

    @property
    def mean(self) -> float | None:
        """Mean of ``unit``; an exactly rounded sum, so that it mirrors and permutes exactly."""
        if self.constant:
            return float(self.unit[0])
        return math.fsum(self.unit) / self.n if self.n else None

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


def sample(values: Float64) -> Sample:
    """Keep the finite ``values``, float64 (n,), and count the others."""
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0))
    return _sorted(_snapped(finite, largest), values.size, int(np.isinf(values).sum()))


def differences(a: Float64, b: Float64) -> Sample:
    """Return a - b, both float64 (n,), over the pairs where both are finite, free of rounding noise."""
    undefined = np.isnan(a) | np.isnan(b)
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf, and finite values too far apart
        d = a - b
    finite = np.isfinite(d)
    largest = float(max(np.abs(a[finite]).max(initial=0), np.abs(b[finite]).max(initial=0)))
    return _sorted(_snapped(d[finite], largest), a.size, int((~finite & ~undefined).sum()))


def _snapped(values: Float64, largest: float) -> Float64:
    """Round to a grid of 2^-38 of ``largest``; values that differ by one step of it become equal."""
    grid = math.ldexp(1.0, max(math.frexp(largest)[1] - GRID_BITS, -1074))
    with np.errstate(over="ignore"):
        snapped = np.clip(np.rint(values / grid) * grid, -np.finfo(float).max, np.finfo(float).max)
    if snapped.size and np.ptp(snapped / 2) <= grid / 2:  # halved: the range of huge values would overflow
        snapped[:] = snapped[np.argmin(np.abs(snapped))]
    return snapped


def _sorted(values: Float64, given: int, infinite: int) -> Sample:
    largest = float(np.abs(values).max(initial=0))
    scale = math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest else 1.0
    unit = values / scale
    # The bootstrap draws by position. Sorted by magnitude, and equal magnitudes by the mean's direction, it gives the
    # same interval for shuffled images and the mirrored one for swapped precisions.
    direction = math.copysign(1.0, math.fsum(unit))
    unit = unit[np.lexsort((unit * direction, np.abs(unit)))]
    return Sample(unit, scale, given - values.size, infinite)


def mean_intervals(data: Sample, confidences: tuple[float, ...], seed: int) -> list[Interval | None]:
    """Return confidence intervals of the mean, one for each confidence, all from the same resamples.

    BCa's ends are the quantiles Φ(z0 + (z0 + z)/(1 - â(z0 + z))) of the resampled means: z = ±Φ⁻¹((1 + confidence)/2),
    z0 the bias correction, â the acceleration from the jackknife (Efron 1987, doi 10.1080/01621459.1987.10478410).
    Resampling differences is resampling pairs.
    """
    if data.n < FEWEST:
        return [None for _ in confidences]
    if data.constant:
        ends = [(float(data.unit[0]),) * 2 for _ in confidences]
    else:
        ends = _student(data, confidences) if data.n > MOST else _bca(data, confidences, seed)
    method: Literal["BCa", "percentile", "Student t"] = (
        "percentile" if data.constant else "Student t" if data.n > MOST else "BCa"
    )
    return [
        Interval(low * data.scale + 0.0, high * data.scale + 0.0, confidence, method)
        for (low, high), confidence in zip(ends, confidences, strict=True)
    ]


def _bca(data: Sample, confidences: tuple[float, ...], seed: int) -> list[tuple[float, float]]:
    from scipy import stats  # here, because it takes a second to import

    # Taken from one of the values, a spread far below the mean does not drown in the rounding of resampled means; and
    # as all stays on the grid, sums are exact, so that resamples that tie with the sample's mean count as ties.
    base = float(data.unit[0])
    found = None
    ends = []
    for confidence in confidences:
        found = stats.bootstrap(
            (data.unit - base,),
            np.mean,
            n_resamples=0 if found else RESAMPLES,
            bootstrap_result=found,
            batch=max(1, 2**18 // data.n),  # some MB; the default holds all resamples at once
            confidence_level=confidence,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
        low, high = found.confidence_interval
        ends.append((base + float(low), base + float(high)))
    return ends


def _student(data: Sample, confidences: tuple[float, ...]) -> list[tuple[float, float]]:
    from scipy import stats

    error = (data.sd or 0.0) / math.sqrt(data.n)
    found = (stats.t.interval(level, data.n - 1, loc=data.mean, scale=error) for level in confidences)
    return [(float(low), float(high)) for low, high in found]


def notes_on(data: Sample) -> tuple[str, ...]:
    """Return what a reader must know about the interval, a sentence each."""
    notes = []
    if data.excluded:
        undefined = data.excluded - data.infinite
        notes.append(f"Left out: {undefined} without a value and {data.infinite} infinite.")
    if data.n < FEWEST:
        notes.append(f"Fewer than {FEWEST} values ({data.n}) allow no bootstrap interval.")
    elif data.constant:
        notes.append("All values are equal: BCa is undefined, and the percentile interval is that one value.")
    elif data.n < FEW:
        notes.append(f"Fewer than {FEW} values ({data.n}): bootstrap intervals run too narrow.")
    elif data.n > MOST:
        notes.append(f"More than {MOST} values ({data.n}): the interval is Student's t, not resampled.")
    return tuple(notes)
