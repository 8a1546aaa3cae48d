"""Two maps as distributions: SIM, CC and KLD in float64.

Throughout, ``p`` is the prediction and ``q`` the reference (the ground truth); only KLD tells them apart.
"""

from __future__ import annotations

import numpy as np

from quantviz.scores.checks import Array, Float64, distribution, pair, unit_peak, varied
from quantviz.specs import UsageError

EPSILON = 2.2204e-16
"""The regularization of KLD and of information gain in the MIT saliency benchmark's code."""


def sim(p: Array, q: Array) -> float:
    """Similarity (histogram intersection): the sum of min(P, Q), both maps scaled to sum 1.

    A map with a negative minimum is first shifted to 0, as in pysaliency; any other map keeps its zero. The
    MIT benchmark's MATLAB code min-max scales both maps first, which gives other values wherever a map's
    minimum is above 0; pysaliency takes an all-zero map for a uniform one. Symmetric; 1 - SIM is a metric.

    Convention:
        SIM = Σ min(P, Q) over maps shifted to a minimum of 0 only if they have negative values, then scaled to
        sum 1 (no min-max scaling first); from 0 to 1, higher is closer.

    In plain words:
        How much of the two maps' total weight lies in the same places: 1 is all of it, 0 is none.

    Source:
        M. J. Swain and D. H. Ballard, "Color indexing", IJCV 7(1), 1991, doi 10.1007/BF00130487; for saliency,
        Z. Bylinskii et al., "What do different evaluation metrics tell us about saliency models?", IEEE TPAMI
        41(3), 2019, doi 10.1109/TPAMI.2018.2815601.

    Cost:
        O(N) in the number of pixels N, a few passes.

    Degenerate maps:
        A constant map above 0 is the uniform distribution and has a value; an all-zero map and one with NaN or
        infinity have none.

    Args:
        p: (h, w), any real dtype, finite.
        q: the same shape.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, or a map is not finite or has no positive mass after the shift.
    """
    p, q = pair(p, q)
    return overlap(distribution(p), distribution(q))


def cc(p: Array, q: Array) -> float:
    """Pearson's linear correlation coefficient of the two maps' values.

    Symmetric, and unchanged when either map is scaled by a positive factor or shifted. pysaliency returns 0 for
    a constant prediction, where the coefficient is 0 / 0.

    Convention:
        CC = Pearson's correlation of the two maps' values over all pixels; from -1 to 1, higher is closer.

    In plain words:
        Whether the maps rise and fall together: 1 is perfectly, 0 is no relation, -1 is exactly opposed.

    Source:
        Z. Bylinskii et al., IEEE TPAMI 41(3), 2019, doi 10.1109/TPAMI.2018.2815601.

    Cost:
        O(N), a few passes.

    Degenerate maps:
        None of the three kinds has a value, because a map without variance correlates with nothing.

    Args:
        p: (h, w), any real dtype, finite.
        q: the same shape.

    Returns:
        A value in [-1, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, or a map is not finite or is constant (the coefficient is undefined).
    """
    p, q = pair(p, q)
    p, q = (deviations(varied(values, "CC")) for values in (p, q))
    return correlation(p, q)


def kld(p: Array, q: Array, *, epsilon: float = EPSILON) -> float:
    """Kullback-Leibler divergence of the prediction ``p`` from the reference ``q``, in nats.

    The sum of Q ln(epsilon + Q / (P + epsilon)), both maps scaled to sum 1 after a map with a negative minimum
    is shifted to 0 (the MIT benchmark's ``KLdiv.m`` with pysaliency's normalization; the former min-max scales
    the maps first). Not symmetric. With the default epsilon, reference mass m where the prediction is 0 adds
    m (36.04 + ln m). pysaliency's ``MIT_KLDiv`` is the same; its ``image_based_kl_divergence`` by default adds
    1e-20 to both maps instead.

    Convention:
        KLD = Σ Q ln(ε + Q / (P + ε)) with Q the reference and ε = 2.2204e-16, over maps shifted to a minimum of 0
        only if they have negative values, then scaled to sum 1; in nats, from 0 up, lower is closer.

    In plain words:
        How surprised the first map is by the second: 0 is not at all, and missed places count heavily.

    Source:
        S. Kullback and R. A. Leibler, Annals of Mathematical Statistics 22(1), 1951, doi
        10.1214/aoms/1177729694; as in the MIT saliency benchmark, Z. Bylinskii et al., IEEE TPAMI 41(3), 2019,
        doi 10.1109/TPAMI.2018.2815601.

    Cost:
        O(N), with one logarithm a pixel.

    Degenerate maps:
        A constant map above 0 is the uniform distribution and has a value; an all-zero map and one with NaN or
        infinity have none.

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
    p, q = pair(p, q)
    return divergence(distribution(p), distribution(q), epsilon)


def triangle_violation(sim_pq: float, sim_pt: float, sim_qt: float) -> float:
    """By how much three similarities break the triangle inequality that 1 - SIM obeys.

    1 - SIM is the total variation distance, a metric. So with d = 1 - SIM no distance exceeds the sum of the
    other two; for a float map p, a quantized map q and a ground truth t that means, among the three inequalities,
    SIM(q, t) <= SIM(p, t) + 1 - SIM(p, q). The inequality is linear: means over one set of images obey it as well.

    Args:
        sim_pq: SIM of the first and the second map, or its mean over images; in [0, 1].
        sim_pt: of the first map and the third.
        sim_qt: of the second map and the third.

    Returns:
        0.0 where the three are consistent, else the least error in SIM, summed over the three, that explains them.

    Raises:
        UsageError: a similarity is not a number from 0 to 1.
    """
    for value in (sim_pq, sim_pt, sim_qt):
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"The similarity {value!r} is not a number from 0 to 1.")
    distances = [1.0 - sim_pq, 1.0 - sim_pt, 1.0 - sim_qt]
    return max(0.0, 2.0 * max(distances) - sum(distances))


def overlap(p: Float64, q: Float64) -> float:
    """Return SIM of two distributions, as ``distribution`` gives them."""
    return float(np.clip(np.minimum(p, q).sum(), 0.0, 1.0))


def correlation(p: Float64, q: Float64) -> float:
    """Return CC of two maps, as ``deviations`` gives them."""
    return float(np.clip(np.sum(p * q), -1.0, 1.0))  # no BLAS: its threads reorder the sum


def divergence(p: Float64, q: Float64, epsilon: float = EPSILON) -> float:
    """Return KLD of two distributions, as ``distribution`` gives them."""
    return max(0.0, float(np.sum(q * np.log(epsilon + q / (p + epsilon)))))


def deviations(values: Float64) -> Float64:
    """Return a map that varies, shifted to mean 0 and scaled to a sum of squares of 1."""
    return unit_deviations(unit_peak(values))


def unit_deviations(values: Float64) -> Float64:
    """Return what ``deviations`` does, of what ``unit_peak`` gives of a map that varies."""
    values = values - values.mean()
    return np.asarray(values / np.sqrt(np.sum(values * values)))
