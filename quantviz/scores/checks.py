"""What every metric does to a map before it scores it: checks, and the scalings of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import UsageError

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

CONSTANT_TOLERANCE = 1e-6
"""A map whose range is at most this fraction of its largest magnitude counts as constant."""


class Undefined(UsageError):
    """A metric has no value for this map and ground truth, although both are well-formed.

    Attributes:
        reason: the same in a few words, fit to stand in a table where the value would: ``"the map is constant"``.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def degenerate(values: Array) -> str:
    """Tell why a map carries no evidence, or return ``""`` when it does.

    Args:
        values: (h, w), any real dtype.

    Returns:
        ``"contains NaN or infinity"``, ``"all zero"``, ``"constant"`` (its range is at most
        ``CONSTANT_TOLERANCE`` of its largest magnitude) or ``""``.

    Raises:
        UsageError: ``values`` is not a non-empty, two-dimensional array of real numbers.
    """
    values = as_float(values)
    return fault_of(values, unit_peak(values))


def fault_of(values: Float64, scaled: Float64) -> str:
    """Return what ``degenerate`` does, of a map whose ``unit_peak`` is known."""
    if not np.isfinite(values).all():
        return "contains NaN or infinity"
    if not values.any():
        return "all zero"
    return "constant" if scaled.max() - scaled.min() <= CONSTANT_TOLERANCE else ""


def clause(fault: str, what: str = "the map") -> str:
    """Make a clause of what ``degenerate`` returns: ``"the map is constant"``."""
    return f"{what} {fault}" if fault.startswith("contains") else f"{what} is {fault}"


def as_float(values: Array) -> Float64:
    """Return a map in float64.

    Raises:
        UsageError: it is not a non-empty, two-dimensional array of real numbers.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "biuf":
        raise UsageError(
            f"A map of shape {values.shape} and type {values.dtype} cannot be scored; give a two-dimensional "
            "array of real numbers."
        )
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinity, which is then refused
        return values.astype(np.float64, order="C")  # one order in memory, so that sums give the same bits


def pair(p: Array, q: Array) -> tuple[Float64, Float64]:
    """Return two maps in float64.

    Raises:
        UsageError: one is not a map, or their shapes differ.
    """
    p, q = as_float(p), as_float(q)
    check_shapes(p, q)
    return p, q


def check_shapes(p: Float64, q: Float64) -> None:
    """Refuse maps of two shapes.

    Raises:
        UsageError: their shapes differ.
    """
    if p.shape != q.shape:
        raise UsageError(
            f"The maps' shapes {p.shape} and {q.shape} differ; resize one so that both have the same (h, w)."
        )


def as_mask(mask: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a binary mask (h, w) as booleans.

    Raises:
        UsageError: its shape is not ``shape``, or it holds anything but 0 and 1.
        Undefined: it is empty.
    """
    values = as_float(mask)
    if values.shape != shape:
        raise UsageError(f"The mask's shape {values.shape} differs from the map's, {tuple(shape)}; resize the mask.")
    strange = values[(values != 0.0) & (values != 1.0)]
    if strange.size:
        raise UsageError(f"The mask holds {strange[0]:g}; give 1 for the object and 0 for everything else.")
    if not values.any():
        raise Undefined("The mask is empty, so it cannot be scored with; give one with an object.", "the mask is empty")
    return np.asarray(values == 1.0)


def finite(values: Array) -> Float64:
    """Return a map in float64; raise ``Undefined`` if it holds NaN or infinity."""
    values = as_float(values)
    if not np.isfinite(values).all():
        raise Undefined(
            "A map that contains NaN or infinity cannot be scored; give finite values.",
            "the map contains NaN or infinity",
        )
    return values


def varied(values: Array, name: str) -> Float64:
    """Return a map in float64; raise ``Undefined``, naming the metric ``name``, if it does not vary."""
    if fault := degenerate(values):
        raise Undefined(f"{name} is undefined where {clause(fault)}; give maps that vary.", clause(fault))
    return as_float(values)


def levels(values: Array) -> Float64:
    """Return a map of which only the order of the values counts.

    A constant one becomes zeros, because what is left of its variation is rounding.

    Raises:
        Undefined: it holds NaN or infinity.
    """
    values = finite(values)
    return np.zeros_like(values) if degenerate(values) else values


def unit_peak(values: Float64) -> Float64:
    """Scale the largest magnitude to 1, so that no later sum or square over- or underflows."""
    peak = np.abs(values).max()
    with np.errstate(invalid="ignore"):  # of an infinite map, which nothing is made of
        return values / peak if peak > 0.0 else values


def unit_range(values: Float64) -> Float64:
    """Min-max scale a map that varies to [0, 1]."""
    values = unit_peak(values)
    values = values - values.min()
    return np.asarray(values / values.max())


def distribution(values: Float64) -> Float64:
    """Scale a map to sum 1, after a shift to a minimum of 0 if it has negative values.

    Raises:
        Undefined: it holds NaN or infinity, or has no positive mass after the shift.
    """
    return unit_sum(unit_peak(finite(values)))


def unit_sum(values: Float64) -> Float64:
    """Return what ``distribution`` does, of what ``unit_peak`` gives of a finite map."""
    low = values.min()
    values = values - low if low < 0.0 else values
    total = values.sum()
    if total == 0.0:
        raise Undefined(
            "A map without positive mass (all zero, or constant and negative) cannot be scored as a "
            "distribution; give a map that varies.",
            "the map is constant and negative" if low < 0.0 else "the map is all zero",
        )
    return np.asarray(values / total)
