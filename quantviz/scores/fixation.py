"""A map against fixations: NSS, three AUCs, and information gain.

Throughout, ``values`` is the map and ``points`` are the fixations, x before y, in pixels of the map. Every fixation
counts, as in pysaliency, however many of them share a pixel. The MIT benchmark's MATLAB code counts a fixated pixel
once, which favours the outskirts and depends on the resolution; without shared pixels the two agree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quantviz.scores.baselines import centre_gaussian
from quantviz.scores.checks import Array, Float64, Undefined, as_float, distribution, levels, pair, unit_peak, varied
from quantviz.scores.distribution import EPSILON
from quantviz.specs import UsageError


def nss(values: Array, points: Array) -> float:
    """Normalized scanpath saliency: the mean z-score of the map at the fixations.

    Unchanged when the map is scaled by a positive factor or shifted. The standard deviation is the population's, as
    in pysaliency; the MIT benchmark's MATLAB code divides by N - 1, which makes its values smaller by the
    factor sqrt((N - 1) / N). pysaliency returns 0 for a constant map, where the z-score is 0 / 0.

    Convention:
        NSS = mean over the fixations of (P - mean P) / std P, with the population standard deviation over all
        pixels; 0 is chance, higher is closer.

    In plain words:
        By how many standard deviations the map is above its average where people looked: 0 is chance.

    Source:
        R. J. Peters, A. Iyer, L. Itti and C. Koch, "Components of bottom-up gaze allocation in natural images",
        Vision Research 45(18), 2005, doi 10.1016/j.visres.2005.03.019.

    Cost:
        O(N) for N pixels.

    Degenerate maps:
        None of the three kinds has a value, because a map without variance has no z-score.

    Args:
        values: (h, w), any real dtype.
        points: (n, 2), x in [0, w) and y in [0, h).

    Returns:
        A value that chance puts at 0; higher is closer.

    Raises:
        UsageError: the points are none, or not in the map, or the map is degenerate.
    """
    values = unit_peak(varied(values, "NSS"))
    fixated = _pixels(points, values.shape)
    deviations = values - values.mean()
    return float(deviations[fixated].mean() / np.sqrt(np.mean(deviations * deviations)))


def auc_judd(values: Array, points: Array) -> float:
    """Area under the ROC curve of fixations against all other pixels, with the fixated values as thresholds.

    Unchanged by any increasing transform of the map. The MIT benchmark's ``AUC_Judd.m`` adds random jitter of 1e-7 to
    separate ties; here ties stay ties (values at a threshold count as above it, for both kinds of pixels), so that
    the result is deterministic. That is pysaliency's ``AUC_Judd`` with ``jitter=False``. Straight lines between the
    thresholds make it larger than the exact area, by at most 1 / (2 n) for n fixations of different values.

    Convention:
        AUC-Judd = area, by trapezoids, under (false alarms, hits) at the thresholds θ that are the map's values at
        fixations, with hits the share of fixations ≥ θ and false alarms the share of the other pixels ≥ θ,
        without jitter; from 0 to 1, 0.5 is chance, higher is closer.

    In plain words:
        How often the map is higher where people looked than elsewhere in the image: 1 is always, 0.5 is chance.

    Source:
        T. Judd, K. Ehinger, F. Durand and A. Torralba, "Learning to predict where humans look", ICCV 2009, doi
        10.1109/ICCV.2009.5459462.

    Cost:
        O(N log N), sorting the pixels.

    Degenerate maps:
        A constant or all-zero map has 0.5, because it tells no pixel from another; one with NaN or infinity has none.

    Args:
        values: (h, w), any real dtype.
        points: (n, 2), x in [0, w) and y in [0, h).

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the points are none, or not in the map, or in every pixel, or the map is not finite.
    """
    values = levels(values)
    fixated = _pixels(points, values.shape)
    others = np.ones(values.shape, np.bool_)
    others[fixated] = False
    if not others.any():
        raise Undefined("AUC-Judd is undefined where every pixel is fixated; give fewer.", "every pixel is fixated")
    thresholds = np.unique(values[fixated])[::-1]
    hits, false_alarms = (_shares_above(group, thresholds) for group in (values[fixated], values[others]))
    return float(np.trapezoid(hits, false_alarms))


def auc_borji(values: Array, points: Array) -> float:
    """Area under the ROC curve of fixations against pixels drawn uniformly from the whole map.

    Unchanged by any increasing transform of the map. The MIT benchmark's ``AUC_Borji.m`` draws 100 random sets of
    pixels and uses thresholds in steps of 0.1; this is the value that it estimates, the expectation over the draws
    with every value as a threshold, and so needs no seed. That is pysaliency's ``AUC`` with
    ``nonfixations="uniform"``.

    Convention:
        AUC-Borji = probability that P at a random fixation exceeds P at a random pixel of the whole map, ties
        counting half (the exact expectation, not 100 random splits); from 0 to 1, 0.5 is chance, higher is closer.

    In plain words:
        How often the map is higher at a place where someone looked than at a random place: 0.5 is chance.

    Source:
        A. Borji, H. R. Tavakoli, D. N. Sihite and L. Itti, "Analysis of scores, datasets, and models in visual
        saliency prediction", ICCV 2013, pages 921-928.

    Cost:
        O(N log N), sorting the pixels.

    Degenerate maps:
        A constant or all-zero map has 0.5, because it tells no pixel from another; one with NaN or infinity has none.

    Args:
        values: (h, w), any real dtype.
        points: (n, 2), x in [0, w) and y in [0, h).

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the points are none, or not in the map, or the map is not finite.
    """
    values = levels(values)
    return _chance_above(values[_pixels(points, values.shape)], values.ravel())


def auc_shuffled(values: Array, points: Array, others: Array | None = None) -> float:
    """Area under the ROC curve of fixations against those in other images.

    It discounts the centre bias, which both sets share. Unchanged by any increasing transform of the map. The MIT
    benchmark's ``AUC_shuffled.m`` draws 100 random subsets of the other images' fixations and uses thresholds in
    steps of 0.1; this is the expectation over the draws with every value as a threshold, pysaliency's ``sAUC``.

    Convention:
        Shuffled AUC = probability that P at a random fixation exceeds P at a random fixation of other images,
        ties counting half (every one of them, not 100 random subsets); from 0 to 1, 0.5 is chance, higher is closer.

    In plain words:
        Whether the map is higher where people looked in this image than where they look in any image: 0.5 is chance.

    Source:
        B. W. Tatler, R. J. Baddeley and I. D. Gilchrist, "Visual correlates of fixation selection", Vision Research
        45(5), 2005, doi 10.1016/j.visres.2004.09.017.

    Cost:
        O(m log m) for m fixations of other images.

    Degenerate maps:
        A constant or all-zero map has 0.5, because it tells no pixel from another; one with NaN or infinity has none.

    Args:
        values: (h, w), any real dtype.
        points: (n, 2), x in [0, w) and y in [0, h).
        others: (m, 2), fixations of other images scaled to this map's pixels; without them there is no
            value.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: either points are none, or not in the map, or the map is not finite.
    """
    values = levels(values)
    positives = values[_pixels(points, values.shape)]
    if others is None:
        raise Undefined(
            "Shuffled AUC is undefined without fixations of other images; pass them as `others`.",
            "it needs the fixations of other images",
        )
    return _chance_above(positives, values[_pixels(others, values.shape)])


def information_gain(values: Array, points: Array, baseline: Array | None = None) -> float:
    """Information gain over a baseline: bits per fixation by which the map predicts better.

    The MIT benchmark's ``InfoGain.m`` min-max scales both maps first; pysaliency uses no epsilon, which matters by
    less than 1e-6 where P and B are above 1e-9. A fixation where the map is 0 gains -52 - log2(B) bits.

    Convention:
        IG = mean over the fixations of log2(ε + P) - log2(ε + B), with ε = 2.2204e-16, P the map and B the
        baseline, a centre Gaussian of sigma a quarter of each side unless another is given, both scaled to sum 1; in
        bits, 0 is the baseline, higher is closer.

    In plain words:
        How many bits better the map predicts where people looked than a blob at the centre does: below 0 is worse.

    Source:
        M. Kümmerer, T. S. A. Wallis and M. Bethge, "Information-theoretic model comparison unifies saliency metrics",
        PNAS 112(52), 2015, doi 10.1073/pnas.1510393112.

    Cost:
        O(N).

    Degenerate maps:
        A constant map above 0 is the uniform distribution and has a value; an all-zero map and one with NaN or
        infinity have none.

    Args:
        values: (h, w), any real dtype.
        points: (n, 2), x in [0, w) and y in [0, h).
        baseline: (h, w), any real dtype, or None for ``centre_gaussian``.

    Returns:
        Bits per fixation; higher is closer.

    Raises:
        UsageError: the points are none or not in the map, or a map is not finite, has no mass or another shape.
    """
    values = as_float(values)
    values, prior = pair(values, centre_gaussian(values.shape) if baseline is None else baseline)
    fixated = _pixels(points, values.shape)
    gains = np.log2(EPSILON + distribution(values)[fixated]) - np.log2(EPSILON + distribution(prior)[fixated])
    return float(gains.mean())


def _pixels(points: Array, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return (rows, columns) of the pixels that hold the points."""
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf":
        raise UsageError(f"Fixations of shape {points.shape} are not (n, 2); give x and y of each.")
    if not len(points):
        raise Undefined("There are no fixations to score with; give at least one.", "there are no fixations")
    (height, width), (x, y) = shape, points.astype(np.float64).T
    outside = ~((x >= 0) & (x < width) & (y >= 0) & (y < height))
    if outside.any():
        first = points[outside][0]
        raise UsageError(
            f"The fixation at x = {first[0]:g}, y = {first[1]:g} is not in the map of width {width} and height "
            f"{height}; leave it out or scale it."
        )
    return y.astype(np.intp), x.astype(np.intp)


def _shares_above(group: Float64, thresholds: Float64) -> Float64:
    """Return the share of ``group`` at or above each falling threshold, from 0 to 1 with both ends added."""
    above = group.size - np.searchsorted(np.sort(group), thresholds, side="left")
    return np.concatenate([[0.0], above / group.size, [1.0]])


def _chance_above(positives: Float64, negatives: Float64) -> float:
    """Return the probability that a positive exceeds a negative, ties counting half (Mann and Whitney's U)."""
    negatives = np.sort(negatives)
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")
    return float(np.mean((below + up_to) / 2) / negatives.size)
