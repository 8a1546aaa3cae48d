"""Two maps to scores: SIM, CC and KLD in float64. Imports numpy only.

Throughout, ``p`` is the prediction and ``q`` the reference (the ground truth); only KLD tells them apart.
Definitions: Bylinskii et al., "What do different evaluation metrics tell us about saliency models?",
IEEE TPAMI 41(3), 2019, doi 10.1109/TPAMI.2018.2815601.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import Scores, UsageError

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

EPSILON = 2.2204e-16
"""The regularization of KLD in the MIT saliency benchmark's ``KLdiv.m``."""

CONSTANT_TOLERANCE = 1e-6
"""A map whose range is at most this fraction of its largest magnitude counts as constant."""

CONVENTIONS = {
    "sim": (
        "SIM = Σ min(P, Q) over maps shifted to a minimum of 0 only if they have negative values, then scaled "
        "to sum 1 (no min-max scaling first); from 0 to 1, higher is closer."
    ),
    "cc": "CC = Pearson's correlation of the two maps' values over all pixels; from -1 to 1, higher is closer.",
    "kld": (
        "KLD = Σ Q ln(ε + Q / (P + ε)) with Q the reference and ε = 2.2204e-16, over maps shifted to a minimum "
        "of 0 only if they have negative values, then scaled to sum 1; in nats, from 0 up, lower is closer."
    ),
}
"""For each score: formula, convention, range and direction, in one sentence."""

EXPLANATIONS = {
    "sim": "How much of the two maps' total weight lies in the same places: 1 is all of it, 0 is none.",
    "cc": "Whether the maps rise and fall together: 1 is perfectly, 0 is no relation, -1 is exactly opposed.",
    "kld": "How surprised the first map is by the second: 0 is not at all, and missed places count heavily.",
}
"""For each score: one line for a newcomer."""


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
    return _fault(_as_float(values))


def sim(p: Array, q: Array) -> float:
    """Similarity (histogram intersection): the sum of min(P, Q), both maps scaled to sum 1.

    A map with a negative minimum is first shifted to 0, as in pysaliency; any other map keeps its zero. The
    MIT benchmark's MATLAB code min-max scales both maps first, which gives other values wherever a map's
    minimum is above 0. Symmetric; 1 - SIM is a metric.

    Args:
        p: (h, w), any real dtype, finite.
        q: the same shape.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, or a map is not finite or has no positive mass after the shift.
    """
    p, q = _pair(p, q)
    return float(np.clip(np.minimum(_distribution(p), _distribution(q)).sum(), 0.0, 1.0))


def cc(p: Array, q: Array) -> float:
    """Pearson's linear correlation coefficient of the two maps' values.

    Symmetric, and unchanged when either map is scaled by a positive factor or shifted.

    Args:
        p: (h, w), any real dtype, finite.
        q: the same shape.

    Returns:
        A value in [-1, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, or a map is not finite or is constant (the coefficient is undefined).
    """
    p, q = _pair(p, q)
    for values in (p, q):
        if fault := _fault(values):
            raise UsageError(f"CC is undefined for a map that is {fault}; give maps that vary.")
    p, q = _deviations(p), _deviations(q)
    return float(np.clip(np.sum(p * q), -1.0, 1.0))  # no BLAS: its threads reorder the sum


def kld(p: Array, q: Array, *, epsilon: float = EPSILON) -> float:
    """Kullback-Leibler divergence of the prediction ``p`` from the reference ``q``, in nats.

    The sum of Q ln(epsilon + Q / (P + epsilon)), both maps scaled to sum 1 after a map with a negative minimum
    is shifted to 0 (the MIT benchmark's ``KLdiv.m`` with pysaliency's normalization; the former min-max scales
    the maps first). Not symmetric. With the default epsilon, reference mass m where the prediction is 0 adds
    m (36.04 + ln m).

    Args:
        p: prediction, (h, w), any real dtype, finite.
        q: reference, the same shape.
        epsilon: regularization, above 0.

    Returns:
        A value from 0 up; lower is closer. Rounding and epsilon can take the sum slightly below 0; it is then 0.

    Raises:
        UsageError: the shapes differ, a map is not finite or has no positive mass after the shift, or epsilon
            is not above 0.
    """
    if not 0.0 < epsilon < np.inf:
        raise UsageError(f"KLD's epsilon {epsilon!r} is not a finite number above 0.")
    p, q = _pair(p, q)
    p, q = _distribution(p), _distribution(q)
    return max(0.0, float(np.sum(q * np.log(epsilon + q / (p + epsilon)))))


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
    p, q = _pair(p, q)
    if _fault(p) or _fault(q):
        return Scores(None, None, None)
    return Scores(sim=sim(p, q), cc=cc(p, q), kld=kld(p, q))


def _as_float(values: Array) -> Float64:
    values = np.asarray(values)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "biuf":
        raise UsageError(
            f"A map of shape {values.shape} and type {values.dtype} cannot be scored; give a two-dimensional "
            "array of real numbers."
        )
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinity, which is then refused
        return values.astype(np.float64)


def _pair(p: Array, q: Array) -> tuple[Float64, Float64]:
    p, q = _as_float(p), _as_float(q)
    if p.shape != q.shape:
        raise UsageError(
            f"The maps' shapes {p.shape} and {q.shape} differ; resize one so that both have the same (h, w)."
        )
    return p, q


def _fault(values: Float64) -> str:
    if not np.isfinite(values).all():
        return "contains NaN or infinity"
    peak = np.abs(values).max()
    if peak == 0.0:
        return "all zero"
    scaled = _unit_peak(values)
    return "constant" if scaled.max() - scaled.min() <= CONSTANT_TOLERANCE else ""


def _unit_peak(values: Float64) -> Float64:
    """Scale the largest magnitude to 1, so that no later sum or square over- or underflows."""
    peak = np.abs(values).max()
    return values / peak if peak > 0.0 else values


def _distribution(values: Float64) -> Float64:
    if not np.isfinite(values).all():
        raise UsageError("A map that contains NaN or infinity cannot be scored; give finite values.")
    values = _unit_peak(values)
    low = values.min()
    values = values - low if low < 0.0 else values
    total = values.sum()
    if total == 0.0:
        raise UsageError(
            "A map without positive mass (all zero, or constant and negative) cannot be scored as a "
            "distribution; give a map that varies."
        )
    return np.asarray(values / total)


def _deviations(values: Float64) -> Float64:
    values = _unit_peak(values)
    values = values - values.mean()
    return np.asarray(values / np.sqrt(np.sum(values * values)))


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
