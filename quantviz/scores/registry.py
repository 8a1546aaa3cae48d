"""The table of all metrics, and ``measure``, which scores one map with those that fit its ground truth.

A metric's words stand once, in its function's docstring; ``facts`` reads them from there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np

from quantviz.scores.checks import Array, Undefined, as_float, as_mask, clause, degenerate
from quantviz.scores.distribution import cc, kld, sim
from quantviz.scores.fixation import auc_borji, auc_judd, auc_shuffled, information_gain, nss
from quantviz.scores.localisation import box_iou, box_iou_max, covered, energy_pointing, pointing_game
from quantviz.scores.rank import spearman, top_k_iou
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
from quantviz.specs import GroundTruth, Metric, Score, TruthKind, UsageError

Void = Literal["dropped", "lowest", "impossible"]
"""What a metric makes of pixels that a mask leaves out: it does without them; their value is the map's least, where
distances on the picture count; or it has no value, where their neighbourhood counts."""

FACTS = ("Convention", "In plain words", "Source", "Cost", "Degenerate maps")
"""The sections that every metric's docstring has."""

BOX_THRESHOLDS = (0.15, 0.2, 0.3, 0.5)
"""The levels, on the min-max scaled map, at which ``box_iou`` is in the table."""


def facts(function: Callable[..., float]) -> dict[str, str]:
    """Read the sections of ``FACTS`` from a metric's docstring, each as one line; ``""`` where one is missing."""
    sections: dict[str, list[str]] = {name: [] for name in FACTS}
    section: list[str] = []
    for line in (inspect.getdoc(function) or "").splitlines():
        if line and not line.startswith(" "):
            section = sections.get(line.removesuffix(":"), []) if line.endswith(":") else []
        elif line:
            section.append(line.strip())
    return {name: " ".join(lines) for name, lines in sections.items()}


def measure(
    values: Array,
    truth: GroundTruth,
    metrics: Sequence[str] | None = None,
    *,
    others: Array | None = None,
    baseline: Array | None = None,
) -> dict[str, Score]:
    """Score a map against a ground truth.

    Args:
        values: the map, (H, W) as ``truth.shape``, any real dtype.
        truth: what it is scored against.
        metrics: names from ``METRICS``, or None for all that fit the kind of ground truth.
        others: float (m, 2), fixations of other images in this map's pixels, for the shuffled AUC, which has no
            value without them; or None.
        baseline: (H, W), the baseline of the information gain, or None for the centre Gaussian.

    Returns:
        A score for each metric, in the order asked for or that of ``METRICS``. Its value is None, with the reason,
        where the metric is not defined for this map or ground truth; ``degenerate`` tells a map that has values
        (0.5 for the AUCs, say) although it carries no evidence.

    Raises:
        UsageError: the map is no map or its shape differs from the ground truth's, the ground truth is malformed,
            or a metric is unknown or does not fit the ground truth.
    """
    names = _chosen(metrics, truth.kind)
    informed = {
        "auc_shuffled": partial(_score, partial(auc_shuffled, others=others), False),
        "information_gain": partial(_score, partial(information_gain, baseline=baseline), False),
    }
    return {name: informed.get(name, METRICS[name].compute)(values, truth) for name in names}


def _chosen(metrics: Sequence[str] | None, kind: TruthKind) -> list[str]:
    if metrics is None:
        return [name for name, metric in METRICS.items() if kind in metric.truths]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if name not in METRICS:
            raise UsageError(f"Metric {name!r} is unknown; use some of {', '.join(METRICS)}.")
        if kind not in METRICS[name].truths:
            takes = " or ".join(sorted(METRICS[name].truths))
            fit = ", ".join(other for other, metric in METRICS.items() if kind in metric.truths)
            raise UsageError(f"Metric {name!r} takes a ground truth of {takes}, not {kind}; for {kind} use {fit}.")
    return names


def _score(
    function: Callable[..., float], as_region: bool, values: Array, truth: GroundTruth, void: Void = "dropped"
) -> Score:
    values = as_float(values)
    if values.shape != tuple(truth.shape):
        raise UsageError(
            f"The map's shape {values.shape} differs from the ground truth's, {tuple(truth.shape)}; resize one of them."
        )
    try:
        return Score(function(*_without_void(values, truth, _content(truth, as_region), void)))
    except Undefined as undefined:
        return Score(None, undefined.reason)


def _without_void(values: Array, truth: GroundTruth, content: Array, void: Void) -> tuple[Array, Array]:
    """Return a map and what it is scored against without the pixels that a mask leaves out."""
    left_out = np.isnan(truth.values) if truth.kind == "mask" and truth.values is not None else None
    if left_out is None or not left_out.any():
        return values, content
    if void == "impossible":
        raise Undefined(
            "This metric takes whole pictures, and the mask leaves pixels out.",
            "the mask leaves pixels out, and this metric takes whole pictures",
        )
    if void == "lowest":
        return np.where(left_out, values.min(), values), content
    return values[~left_out][:, None], content[~left_out][:, None]


def _content(truth: GroundTruth, as_region: bool) -> Array:
    """Return what of a ground truth its metrics take: a density, a mask, points or boxes; boxes as a mask if asked."""
    content = {"fixations": truth.points, "boxes": truth.boxes}.get(truth.kind, truth.values)
    if content is None:
        raise UsageError(f"The ground truth {truth.source!r} of kind {truth.kind} holds none; make it with its values.")
    if truth.kind == "map":
        if fault := degenerate(content):
            raise Undefined(f"Nothing can be scored against a map that {fault}.", clause(fault, "the ground truth"))
    if truth.kind == "mask":
        return as_mask(np.nan_to_num(content), tuple(truth.shape))
    return covered(content, truth.shape) if truth.kind == "boxes" and as_region else content


@dataclass(frozen=True, slots=True)
class _Row:
    """One metric of the table; its words come from the function's docstring."""

    function: Callable[..., float]
    title: str
    family: str
    truths: tuple[TruthKind, ...]
    low: float | None = 0.0
    high: float | None = 1.0
    higher_is_closer: bool = True
    as_region: bool = False
    threshold: float | None = None
    void: Void = "dropped"

    @property
    def name(self) -> str:
        return self.function.__name__ + ("" if self.threshold is None else f"_{round(100 * self.threshold)}")

    def metric(self) -> Metric:
        function, words = self.function, facts(self.function)
        convention = words["Convention"]
        if self.threshold is not None:
            function = partial(function, threshold=self.threshold)
            convention = f"{convention.removesuffix('.')}; here t = {self.threshold:g}."
        return Metric(
            name=self.name,
            title=self.title,
            family=self.family,
            truths=frozenset(self.truths),
            low=self.low,
            high=self.high,
            higher_is_closer=self.higher_is_closer,
            convention=convention,
            explanation=words["In plain words"],
            source=words["Source"],
            cost=words["Cost"],
            compute=partial(_score, function, self.as_region, void=self.void),
        )


_ROWS = (
    _Row(sim, "SIM", "distribution", ("map",)),
    _Row(cc, "CC", "distribution", ("map",), low=-1.0),
    _Row(kld, "KLD", "distribution", ("map",), high=None, higher_is_closer=False),
    _Row(nss, "NSS", "distribution", ("fixations",), low=None, high=None),
    _Row(auc_judd, "AUC-Judd", "distribution", ("fixations",)),
    _Row(auc_borji, "AUC-Borji", "distribution", ("fixations",)),
    _Row(auc_shuffled, "Shuffled AUC", "distribution", ("fixations",)),
    _Row(information_gain, "Information gain", "distribution", ("fixations",), low=None, high=None),
    _Row(spearman, "Spearman's ρ", "rank", ("map",), low=-1.0),
    _Row(top_k_iou, "Top-k IoU", "rank", ("map",)),
    _Row(ssim, "SSIM", "structure", ("map",), low=-1.0),
    _Row(f_beta_max, "Max Fβ", "salient object", ("mask",)),
    _Row(f_beta_mean, "Mean Fβ", "salient object", ("mask",)),
    _Row(f_beta_adaptive, "Adaptive Fβ", "salient object", ("mask",)),
    _Row(weighted_f, "Weighted F", "salient object", ("mask",), void="impossible"),
    _Row(s_measure, "S-measure", "salient object", ("mask",), void="impossible"),
    _Row(e_measure_max, "Max E-measure", "salient object", ("mask",)),
    _Row(e_measure_mean, "Mean E-measure", "salient object", ("mask",)),
    _Row(e_measure_adaptive, "Adaptive E-measure", "salient object", ("mask",)),
    _Row(mae, "MAE", "salient object", ("mask",), higher_is_closer=False),
    *(_Row(box_iou, f"Box IoU at {t:.0%}", "localisation", ("boxes",), threshold=t) for t in BOX_THRESHOLDS),
    _Row(box_iou_max, "Best box IoU", "localisation", ("boxes",)),
    _Row(energy_pointing, "Energy pointing", "localisation", ("mask", "boxes"), as_region=True),
    _Row(pointing_game, "Pointing game", "localisation", ("mask", "boxes"), as_region=True, void="lowest"),
)

METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row.metric() for row in _ROWS})
"""Every metric by its name, in reading order."""

DEGENERATE: Mapping[str, str] = MappingProxyType({row.name: facts(row.function)["Degenerate maps"] for row in _ROWS})
"""For each metric, what it does with a constant map, an all-zero one, and one with NaN or infinity, in one sentence."""
