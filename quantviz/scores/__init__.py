"""A map and a ground truth to scores; pure functions in float64.

One function a metric, each in the module that its name suggests:

=================  ===========================================================================================
distribution       ``sim``, ``cc``, ``kld``: two maps; ``triangle_violation``
fixation           ``nss``, ``auc_judd``, ``auc_borji``, ``auc_shuffled``, ``information_gain``: a map and points
rank, structure    ``spearman``, ``top_k_iou``; ``ssim``: two maps
salient_object     the F-, S- and E-measures, ``weighted_f``, ``mae``: a map and a mask
localisation       ``box_iou``, ``box_iou_max``, ``energy_pointing``, ``pointing_game``: a map and boxes or a mask
baselines          ``centre_gaussian``, ``uniform``: what any score has to beat
registry           ``METRICS``, all of them by name, and ``measure``, which computes those that fit a ground truth
docs               ``describe``, the page of all metrics
agreement          ``compare``, the three scores that come first
=================  ===========================================================================================
"""

from quantviz.scores.agreement import CONVENTIONS, EXPLANATIONS, ReadyMap, compare
from quantviz.scores.baselines import CENTRE_SIGMA, centre_gaussian, uniform
from quantviz.scores.checks import CONSTANT_TOLERANCE, degenerate
from quantviz.scores.distribution import EPSILON, cc, kld, sim, triangle_violation
from quantviz.scores.docs import describe
from quantviz.scores.fixation import auc_borji, auc_judd, auc_shuffled, information_gain, nss
from quantviz.scores.localisation import box_iou, box_iou_max, covered, energy_pointing, pointing_game
from quantviz.scores.rank import spearman, top_k_iou
from quantviz.scores.registry import DEGENERATE, METRICS, measure
from quantviz.scores.salient_object import (
    e_measure_adaptive,
    e_measure_max,
    e_measure_mean,
    f_beta_adaptive,
    f_beta_max,
    f_beta_mean,
    mae,
    s_measure,
    weighted_f,
)
from quantviz.scores.structure import ssim

__all__ = [
    "CENTRE_SIGMA",
    "CONSTANT_TOLERANCE",
    "CONVENTIONS",
    "DEGENERATE",
    "EPSILON",
    "EXPLANATIONS",
    "METRICS",
    "ReadyMap",
    "auc_borji",
    "auc_judd",
    "auc_shuffled",
    "box_iou",
    "box_iou_max",
    "cc",
    "centre_gaussian",
    "compare",
    "covered",
    "degenerate",
    "describe",
    "e_measure_adaptive",
    "e_measure_max",
    "e_measure_mean",
    "energy_pointing",
    "f_beta_adaptive",
    "f_beta_max",
    "f_beta_mean",
    "information_gain",
    "kld",
    "mae",
    "measure",
    "nss",
    "pointing_game",
    "s_measure",
    "sim",
    "spearman",
    "ssim",
    "top_k_iou",
    "triangle_violation",
    "uniform",
    "weighted_f",
]
