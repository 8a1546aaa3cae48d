"""Every metric of a comparison, with what a baseline gets beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from quantviz import images, saliency, scores
from quantviz.comparison.references import TruthSource, saliency_source, saliency_truth
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.structured import structured
from quantviz.comparison.workbench import Workbench
from quantviz.specs import (
    COMPUTATION_VERSION,
    Comparison,
    GroundTruth,
    Heatmap,
    ImageSample,
    MetricTable,
    Phase,
    Progress,
    Score,
    StoredRecord,
    UsageError,
    digest_of,
    no_progress,
)

MEASURE_VERSION = 3
"""Raised whenever a change of the code changes a metric, so that older cache entries are not read."""

_UNTRAINED_CLASSES = 1000
_FIXATION_BLUR = 1 / 20

BASELINES = CENTRE, UNIFORM, OTHER, UNTRAINED = "centre Gaussian", "uniform", "another image's", "untrained model"
"""Maps that every score has to beat, in reading order."""


def measure(
    bench: Workbench,
    request: CompareRequest,
    comparison: Comparison,
    truth: TruthSource | None = None,
    metrics: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> tuple[MetricTable, ...]:
    """Score a comparison's maps by every metric that fits, and the baselines by the same.

    The first table is against the float map; further ones against the saliency and the user's ground truth.

    Args:
        bench: with the models and the store.
        request: what the comparison was made by.
        comparison: the comparison.
        truth: ground truth of the user's, or None.
        metrics: names from ``scores.METRICS``, or None for all.
        progress: reports what is being done.

    Raises:
        UsageError: a metric is unknown or fits none of the references.
        ImageError: the ground truth cannot be used.
    """
    key = digest_of(
        {
            "kind": "metrics",
            "computation": [COMPUTATION_VERSION, MEASURE_VERSION],
            "comparison": comparison.key,
            "saliency": comparison.saliency and comparison.saliency.source,
            "truth": None if truth is None else truth.key(comparison.sample),
            "metrics": None if metrics is None else list(metrics),
        }
    )
    record = bench.store.get(key)
    if record is not None:
        return structured(tuple[MetricTable, ...], record.metadata["tables"])
    tables = _measured(bench, request, comparison, truth, metrics, progress)
    bench.store.put(key, StoredRecord({}, {"tables": [asdict(table) for table in tables]}))
    return tables


@dataclass(frozen=True, slots=True)
class _Reference:
    """A ground truth, with what its baselines need.

    Attributes:
        truth: what maps are scored against.
        other: returns another image's ground truth as a map, or None where there is none.
        others: fixations (n, 2) of other images, or None.
        is_float: it is the float network's map.
    """

    truth: GroundTruth
    other: Callable[[], Heatmap] | None
    others: npt.NDArray[np.float64] | None = None
    is_float: bool = False


def measure_map(values: npt.NDArray[Any], reference: GroundTruth, metrics: Sequence[str] | None = None) -> MetricTable:
    """Score one map against one reference by every metric that fits, with the baselines that need no model.

    Args:
        values: (H, W) as the reference's shape, any real dtype.
        reference: what it is scored against.
        metrics: names from ``scores.METRICS``, or None for all.

    Raises:
        UsageError: a metric is unknown or does not fit the reference; the shapes differ.
    """
    columns = {
        "map": scores.measure(values, reference, metrics),
        CENTRE: scores.measure(scores.centre_gaussian(reference.shape), reference, metrics),
        UNIFORM: scores.measure(scores.uniform(reference.shape), reference, metrics),
    }
    absent = {OTHER: "only this one is known", UNTRAINED: "no model is involved"}
    return MetricTable(reference.source, reference.kind, reference.predicted, columns, absent, reference.notes)


def measure_pair(comparison: Comparison, truth: TruthSource | None = None) -> tuple[MetricTable, ...]:
    """Score the maps of two networks of the user's as ``measure`` does, with the baselines that need no network.

    Args:
        comparison: from ``compare_pair`` or ``compare_files``.
        truth: ground truth of the user's, or None.

    Raises:
        ImageError: the ground truth cannot be used.
    """
    salient, own = comparison.saliency, _float_truth(comparison)
    references = [] if own is None else [_Reference(own, None, is_float=True)]
    if salient is not None and not salient.heatmap.degenerate:
        references.append(_Reference(saliency_truth(salient), None))
    if truth is not None:
        references.append(_supplied(truth, comparison))
    absent = {OTHER: "not computed for networks of your own", UNTRAINED: "these networks cannot be had untrained"}
    tables = []
    for reference in references:
        subjects = {"quantized": comparison.quantized.heatmap}
        subjects |= {} if reference.is_float else {"float": comparison.reference.heatmap}
        subjects |= {
            CENTRE: Heatmap(scores.centre_gaussian(reference.truth.shape)),
            UNIFORM: Heatmap(scores.uniform(reference.truth.shape)),
        }
        tables.append(_scored(reference, subjects, absent, None))
    return tuple(table for table in tables if any(table.columns.values()))


def _measured(
    bench: Workbench,
    request: CompareRequest,
    comparison: Comparison,
    truth: TruthSource | None,
    metrics: Sequence[str] | None,
    progress: Progress,
) -> tuple[MetricTable, ...]:
    references = _references(bench, request, comparison, truth, progress)
    _check_names(metrics, references)
    absent, untrained = _untrained(bench, request, comparison, progress)
    tables = []
    for number, reference in enumerate(references):
        progress("Scoring by every metric", number / len(references), Phase.SCORING)
        subjects = {"quantized": comparison.quantized.heatmap}
        if not reference.is_float:
            subjects["float"] = comparison.reference.heatmap
        baselines = {
            CENTRE: Heatmap(scores.centre_gaussian(reference.truth.shape)),
            UNIFORM: Heatmap(scores.uniform(reference.truth.shape)),
        }
        if reference.other is not None:
            baselines[OTHER] = reference.other()
        tables.append(_scored(reference, subjects | baselines | untrained, absent, metrics))
    return tuple(table for table in tables if any(table.columns.values()))


def _untrained(
    bench: Workbench, request: CompareRequest, comparison: Comparison, progress: Progress
) -> tuple[dict[str, str], dict[str, Heatmap]]:
    """Return the untrained model's map on the comparison's crop by its name, with the reason where it is missing."""
    if not comparison.weights.trained:
        return {UNTRAINED: "this model is itself untrained"}, {}
    if comparison.weights.classes != _UNTRAINED_CLASSES:
        return {UNTRAINED: f"this model has {comparison.weights.classes} classes, the untrained one 1,000"}, {}
    progress("Map of the untrained model", None, Phase.EXPLAINING)
    result = bench.float_result(
        replace(request, weights="untrained"),
        comparison.sample,
        comparison.reference.class_index,
        comparison.weights.preprocessing,
        progress,
    )
    return {}, {UNTRAINED: result.heatmap}


def _references(
    bench: Workbench,
    request: CompareRequest,
    comparison: Comparison,
    truth: TruthSource | None,
    progress: Progress,
) -> list[_Reference]:
    """Return the float map, the saliency and the user's ground truth: those that exist and carry evidence."""
    references = []
    other = _other_photograph(comparison.sample)
    float_truth = _float_truth(comparison)
    if float_truth is not None:
        preprocessing = comparison.weights.preprocessing
        references.append(
            _Reference(
                float_truth,
                lambda: bench.float_result(request, other, None, preprocessing, progress).heatmap,
                is_float=True,
            )
        )
    salient = comparison.saliency
    if salient is not None and not salient.heatmap.degenerate:
        references.append(_Reference(saliency_truth(salient), _other_saliency(request, comparison, other)))
    if truth is not None:
        references.append(_supplied(truth, comparison))
    return references


def _float_truth(comparison: Comparison) -> GroundTruth | None:
    """Return the float network's map as what others are scored against; None where it carries no evidence."""
    reference = comparison.reference.heatmap
    if reference.degenerate:
        return None
    shape = (reference.values.shape[0], reference.values.shape[1])
    return GroundTruth("map", shape, "the float model's map", True, values=reference.values)


def _supplied(truth: TruthSource, comparison: Comparison) -> _Reference:
    """Return the user's ground truth; the folder's other files serve the baseline and the shuffled AUC."""
    preprocessing = comparison.weights.preprocessing
    own, others = truth.read(comparison.sample, preprocessing), truth.read_others(preprocessing)
    if not others:
        return _Reference(own, None)
    points = [other.points for other in others if other.points is not None]
    return _Reference(own, lambda: _as_heatmap(others[0]), np.concatenate(points) if points else None)


def _as_heatmap(truth: GroundTruth) -> Heatmap:
    """Return a ground truth as a map: boxes filled, fixations blurred by a Gaussian of a twentieth of the side."""
    if truth.boxes is not None:
        return saliency.to_heatmap(scores.covered(truth.boxes, truth.shape))
    if truth.points is None:
        assert truth.values is not None
        return saliency.to_heatmap(np.nan_to_num(truth.values))  # what a mask leaves out is no object
    density = np.zeros(truth.shape)
    columns, rows = np.floor(truth.points).astype(int).T
    np.add.at(density, (rows, columns), 1)
    return saliency.to_heatmap(gaussian_filter(density, _FIXATION_BLUR * truth.shape[0]))


def _other_saliency(
    request: CompareRequest, comparison: Comparison, other: ImageSample
) -> Callable[[], Heatmap] | None:
    """Return a function that predicts the other photograph's saliency; None where the picture's map was supplied."""
    predict = saliency_source(request.saliency, request.saliency_name).predict
    if predict is None:
        return None
    crop = images.crop(other.rgb, comparison.weights.preprocessing)
    return lambda: predict(crop)


def _other_photograph(sample: ImageSample) -> ImageSample:
    """Return a bundled photograph that is not the picture."""
    first, second = (images.bundled(name) for name in images.BUNDLED[:2])
    return second if first.id == sample.id else first


def _check_names(metrics: Sequence[str] | None, references: Sequence[_Reference]) -> None:
    kinds = {reference.truth.kind for reference in references}
    for name in metrics or ():
        if name not in scores.METRICS:
            raise UsageError(f"Metric {name!r} is unknown; use some of {', '.join(scores.METRICS)}.")
        if not scores.METRICS[name].truths & kinds:
            takes = " or ".join(sorted(scores.METRICS[name].truths))
            raise UsageError(f"Metric {name!r} needs a ground truth of {takes}; give one that is.")


def _scored(
    reference: _Reference, subjects: Mapping[str, Heatmap], absent: Mapping[str, str], metrics: Sequence[str] | None
) -> MetricTable:
    truth = reference.truth
    names = [
        name
        for name, metric in scores.METRICS.items()
        if truth.kind in metric.truths and (metrics is None or name in metrics)
    ]
    columns: dict[str, dict[str, Score]] = {}
    for subject, heatmap in subjects.items():
        if heatmap.degenerate:
            columns[subject] = {
                name: Score(None, f"the map carries no evidence: {heatmap.degenerate}") for name in names
            }
        else:
            columns[subject] = scores.measure(heatmap.values, truth, names, others=reference.others)
    missing = {} if OTHER in subjects else {OTHER: "only this picture's is known; name a folder of ground truth"}
    return MetricTable(truth.source, truth.kind, truth.predicted, columns, missing | dict(absent), truth.notes)
