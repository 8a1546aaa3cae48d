"""A map against a binary object mask: the salient object detection metrics, all by PySODMetrics.

Throughout, ``values`` is the map, which is min-max scaled to [0, 1] first, and ``mask`` is 1 on the object.
PySODMetrics does the same to 8-bit pictures; here nothing is rounded to 8 bits before the scaling, while the 256
thresholds 0/255, ..., 255/255 of the curves are the library's. All results are the library's own but for
two repairs, which the functions tell.
"""

from __future__ import annotations

import importlib
from typing import Any

from quantviz.scores.checks import Array, Float64, as_mask, unit_range, varied

BETA_SQUARED = 0.3
"""Weight of precision over recall in the F-measures but the weighted one."""


def f_beta_max(values: Array, mask: Array) -> float:
    """F-measure at the best of 256 thresholds.

    Convention:
        Fβ = (1 + β²) precision · recall / (β² precision + recall) with β² = 0.3, at whichever of the thresholds
        0/255, ..., 255/255 on the min-max scaled map makes it largest; from 0 to 1, higher is closer.

    In plain words:
        How well the map, cut at its best level, covers the object and nothing else: 1 is exactly.

    Source:
        R. Achanta, S. Hemami, F. Estrada and S. Süsstrunk, "Frequency-tuned salient region detection", CVPR 2009, doi
        10.1109/CVPR.2009.5206596; PySODMetrics.

    Cost:
        O(N), two histograms.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return float(_f_beta(values, mask, "F-beta")["dynamic"].max())


def f_beta_mean(values: Array, mask: Array) -> float:
    """F-measure averaged over 256 thresholds.

    Convention:
        Fβ = (1 + β²) precision · recall / (β² precision + recall) with β² = 0.3, averaged over the thresholds
        0/255, ..., 255/255 on the min-max scaled map; from 0 to 1, higher is closer.

    In plain words:
        How well the map covers the object and nothing else, whatever the level it is cut at: 1 is exactly.

    Source:
        R. Achanta et al., CVPR 2009, doi 10.1109/CVPR.2009.5206596; PySODMetrics.

    Cost:
        O(N), two histograms.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return float(_f_beta(values, mask, "F-beta")["dynamic"].mean())


def f_beta_adaptive(values: Array, mask: Array) -> float:
    """F-measure at the adaptive threshold, twice the map's mean.

    Convention:
        Fβ = (1 + β²) precision · recall / (β² precision + recall) with β² = 0.3, at the threshold min(2 mean P, 1) on
        the min-max scaled map P; from 0 to 1, higher is closer.

    In plain words:
        How well the map, cut at twice its average, covers the object and nothing else: 1 is exactly.

    Source:
        R. Achanta et al., CVPR 2009, doi 10.1109/CVPR.2009.5206596; PySODMetrics.

    Cost:
        O(N), one pass.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return float(_f_beta(values, mask, "F-beta")["adaptive"])


def weighted_f(values: Array, mask: Array) -> float:
    """Weighted F-measure: precision and recall of the map itself, errors weighted by where they are.

    Convention:
        Fw = 2 Pw Rw / (Pw + Rw) with the weighted precision Pw and recall Rw of the min-max scaled map, whose errors
        count less beside detected object pixels and more far from the object; from 0 to 1, higher is closer.

    In plain words:
        How well the map covers the object without being cut at a level; stray heat far from it costs most.

    Source:
        R. Margolin, L. Zelnik-Manor and A. Tal, "How to evaluate foreground maps?", CVPR 2014, doi
        10.1109/CVPR.2014.39; PySODMetrics.

    Cost:
        O(N), a distance transform and a 7x7 filter.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return float(_results(_library().WeightedFmeasure(), values, mask, "The weighted F-measure")["wfm"])


def s_measure(values: Array, mask: Array) -> float:
    """Structure measure: how alike map and mask are as objects and as four regions.

    The regions meet at the mask's centroid. Where that lies in the last row or column, some regions are empty and
    PySODMetrics 1.6 returns NaN; here an empty region counts with its weight, which is 0.

    Convention:
        S = α So + (1 - α) Sr with α = 0.5, So the object-aware and Sr the region-aware similarity of the min-max
        scaled map to the mask; from 0 to 1, higher is closer.

    In plain words:
        Whether the map has the object's shape: bright and even on it, dark off it, in the right quarters.

    Source:
        D.-P. Fan, M.-M. Cheng, Y. Liu, T. Li and A. Borji, "Structure-measure: a new way to evaluate foreground maps",
        ICCV 2017, doi 10.1109/ICCV.2017.487; PySODMetrics.

    Cost:
        O(N), a few passes.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    judge = _library().Smeasure(alpha=0.5)
    of_region = judge.ssim
    judge.ssim = lambda region, truth: of_region(region, truth) if region.size else 0.0
    return float(_results(judge, values, mask, "The S-measure")["sm"])


def e_measure_max(values: Array, mask: Array) -> float:
    """Enhanced-alignment measure at the best of 256 thresholds.

    The library divides by N - 1, as the authors do, which takes a perfect map to N / (N - 1); here that is 1.

    Convention:
        E = mean over the pixels of (1 + 2ab / (a² + b²))² / 4 with a and b the thresholded map and the mask less their
        means, at whichever of the thresholds 0/255, ..., 255/255 on the min-max scaled map makes it largest; from 0
        to 1, higher is closer.

    In plain words:
        How many pixels the map, cut at its best level, puts on the right side, judged beside its overall size.

    Source:
        D.-P. Fan, C. Gong, Y. Cao, B. Ren, M.-M. Cheng and A. Borji, "Enhanced-alignment measure for binary
        foreground map evaluation", IJCAI 2018, doi 10.24963/ijcai.2018/97; PySODMetrics.

    Cost:
        O(N), two histograms.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return min(1.0, float(_e_measure(values, mask)["curve"].max()))


def e_measure_mean(values: Array, mask: Array) -> float:
    """Enhanced-alignment measure averaged over 256 thresholds.

    Convention:
        E = mean over the pixels of (1 + 2ab / (a² + b²))² / 4 with a and b the thresholded map and the mask less their
        means, averaged over the thresholds 0/255, ..., 255/255 on the min-max scaled map; from 0 to 1, higher is
        closer.

    In plain words:
        How many pixels the map puts on the right side, whatever the level it is cut at, judged beside its size.

    Source:
        D.-P. Fan et al., IJCAI 2018, doi 10.24963/ijcai.2018/97; PySODMetrics.

    Cost:
        O(N), two histograms.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1], clipped as in ``e_measure_max``; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return min(1.0, float(_e_measure(values, mask)["curve"].mean()))


def e_measure_adaptive(values: Array, mask: Array) -> float:
    """Enhanced-alignment measure at the adaptive threshold, twice the map's mean.

    Convention:
        E = mean over the pixels of (1 + 2ab / (a² + b²))² / 4 with a and b the thresholded map and the mask less their
        means, at the threshold min(2 mean P, 1) on the min-max scaled map P; from 0 to 1, higher is closer.

    In plain words:
        How many pixels the map, cut at twice its average, puts on the right side, judged beside its overall size.

    Source:
        D.-P. Fan et al., IJCAI 2018, doi 10.24963/ijcai.2018/97; PySODMetrics.

    Cost:
        O(N), two histograms.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1], clipped as in ``e_measure_max``; higher is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return min(1.0, float(_e_measure(values, mask)["adp"]))


def mae(values: Array, mask: Array) -> float:
    """Mean absolute error of the min-max scaled map against the mask.

    Convention:
        MAE = mean over the pixels of abs(P - G), with P the min-max scaled map and G the mask; from 0 to 1, lower is
        closer.

    In plain words:
        How far the map is from being 1 on the object and 0 off it, on average: 0 is exactly that.

    Source:
        F. Perazzi, P. Krähenbühl, Y. Pritch and A. Hornung, "Saliency filters: contrast based filtering for salient
        region detection", CVPR 2012, doi 10.1109/CVPR.2012.6247743; PySODMetrics.

    Cost:
        O(N), one pass.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        values: (h, w), any real dtype.
        mask: (h, w), 1 on the object and 0 elsewhere.

    Returns:
        A value in [0, 1]; lower is closer.

    Raises:
        UsageError: the map is degenerate, or the mask is empty, not binary or of another shape.
    """
    return float(_results(_library().MAE(), values, mask, "MAE")["mae"])


def _library() -> Any:
    return importlib.import_module("py_sod_metrics")  # at the first use, because it takes seconds to import


def _results(judge: Any, values: Array, mask: Array, name: str) -> Any:
    scaled: Float64 = unit_range(varied(values, name))
    judge.step(scaled, as_mask(mask, scaled.shape), normalize=False)
    return judge.get_results()


def _f_beta(values: Array, mask: Array, name: str) -> Any:
    library = _library()
    handler = library.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=BETA_SQUARED)
    return _results(library.FmeasureV2({"f": handler}), values, mask, name)["f"]


def _e_measure(values: Array, mask: Array) -> Any:
    return _results(_library().Emeasure(), values, mask, "The E-measure")["em"]
