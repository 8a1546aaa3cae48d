"""Two maps as orders of pixels: Spearman's correlation and the overlap of the highest pixels.

Any increasing transform of either map leaves both metrics as they are.
"""

from __future__ import annotations

import numpy as np

from quantviz.scores.checks import Array, Float64, levels, pair, varied
from quantviz.scores.distribution import cc
from quantviz.specs import UsageError

TOP_FRACTION = 0.2
"""Share of the pixels that ``top_k_iou`` compares."""


def spearman(p: Array, q: Array) -> float:
    """Spearman's rank correlation coefficient: Pearson's correlation of the two maps' ranks.

    Symmetric. The same as ``scipy.stats.spearmanr``, whose ranks it uses; summed in a fixed order, so that the
    same maps give the same bits.

    Convention:
        Spearman's ρ = Pearson's correlation of the pixels' ranks, tied pixels sharing the average of their ranks;
        from -1 to 1, higher is closer.

    In plain words:
        Whether the maps put the pixels in the same order, whatever the values: 1 is the same order, -1 the reverse.

    Source:
        C. Spearman, "The proof and measurement of association between two things", American Journal of Psychology
        15(1), 1904, doi 10.2307/1412159; scipy.stats.rankdata.

    Cost:
        O(N log N), sorting both maps.

    Degenerate maps:
        None of the three kinds has a value, because a map without variance correlates with nothing.

    Args:
        p: (h, w), any real dtype, finite.
        q: the same shape.

    Returns:
        A value in [-1, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, or a map is not finite or is constant.
    """
    from scipy.stats import rankdata  # here, because it takes a second to import

    p, q = pair(p, q)
    return cc(*(rankdata(varied(values, "Spearman's correlation")).reshape(values.shape) for values in (p, q)))


def top_k_iou(p: Array, q: Array, *, fraction: float = TOP_FRACTION) -> float:
    """Intersection over union of the two maps' highest pixels.

    Symmetric. Pixels that tie for the last of the k places share what is left of them equally, each as a part of
    a member, and IoU is sum min / sum max of the memberships. That needs no order among equals, so that flipping both
    maps changes nothing; without ties it is the ordinary IoU of two sets of k pixels.

    Convention:
        Top-k IoU = Σ min(a, b) / Σ max(a, b) with a and b the memberships of the k = 20 % highest pixels (rounded,
        at least 1), pixels that tie for the last places sharing them equally; from 0 to 1, chance is 0.11, higher is
        closer.

    In plain words:
        How much the hottest fifth of one map overlaps the hottest fifth of the other: 1 is the same pixels.

    Source:
        P. Jaccard, "The distribution of the flora in the alpine zone", New Phytologist 11(2), 1912, doi
        10.1111/j.1469-8137.1912.tb05611.x; the rule for ties is quantviz's own.

    Cost:
        O(N), a partial sort of both maps.

    Degenerate maps:
        A constant or all-zero map has the value that chance gives, because all its pixels share the places; one with
        NaN or infinity has none.

    Args:
        p: (h, w), any real dtype, finite.
        q: the same shape.
        fraction: share of the pixels, above 0 and at most 1.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, a map is not finite, or the fraction is not above 0 and at most 1.
    """
    if not 0.0 < fraction <= 1.0:
        raise UsageError(f"The fraction {fraction!r} of highest pixels is not above 0 and at most 1.")
    p, q = pair(p, q)
    places = max(1, int(np.floor(fraction * p.size + 0.5)))
    a, b = (_membership(levels(values), places) for values in (p, q))
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def _membership(values: Float64, places: int) -> Float64:
    last = np.partition(values, values.size - places, axis=None)[values.size - places]
    above, tied = values > last, values == last
    return np.asarray(above + tied * ((places - above.sum()) / tied.sum()))
