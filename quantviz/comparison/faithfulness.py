"""How faithful each model's own map is to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from quantviz import scores
from quantviz.comparison.metrics import CENTRE
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.structured import structured
from quantviz.comparison.workbench import Workbench
from quantviz.specs import Comparison, Heatmap, Phase, Progress, Score, StoredRecord, digest_of, no_progress

_VERSION = 1


@dataclass(frozen=True, slots=True)
class FaithfulnessRow:
    """One faithfulness metric of both models.

    Attributes:
        name: ``"deletion"``, ``"insertion"`` or ``"road"``.
        title: as the field writes it.
        higher_is_better: direction.
        explanation: one plain sentence.
        convention: one sentence: formula and choices.
        values: scores by map: ``"float"`` and ``"quantized"``, each of the model's own map, and the centre Gaussian
            on the quantized model.
    """

    name: str
    title: str
    higher_is_better: bool
    explanation: str
    convention: str
    values: Mapping[str, Score]


def faithfulness(
    bench: Workbench, request: CompareRequest, comparison: Comparison, progress: Progress = no_progress
) -> tuple[FaithfulnessRow, ...]:
    """Score for each model how far its class rests on what its own map marks; the store keeps the scores.

    Args:
        bench: with the models and the store.
        request: what the comparison was made by.
        comparison: the comparison.
        progress: reports what is being done.

    Raises:
        QuantvizError: a model's logits are not finite.
    """
    stored = stored_faithfulness(bench, comparison)
    if stored is not None:
        return stored
    rows = _computed(bench, request, comparison, progress)
    bench.store.put(_key(comparison), StoredRecord({}, {"rows": [asdict(row) for row in rows]}))
    return rows


def stored_faithfulness(bench: Workbench, comparison: Comparison) -> tuple[FaithfulnessRow, ...] | None:
    """Return what ``faithfulness`` would read from the store, or None; no network is run.

    Args:
        bench: with the store.
        comparison: the comparison.
    """
    record = bench.store.get(_key(comparison))
    return None if record is None else structured(tuple[FaithfulnessRow, ...], record.metadata["rows"])


def _key(comparison: Comparison) -> str:
    return digest_of({"kind": "faithfulness", "version": _VERSION, "comparison": comparison.key})


def describe_faithfulness() -> str:
    """Return the section on faithfulness of the page of all metrics, in Markdown."""
    from quantviz import cam

    lines = ["## Faithfulness", "", "Each model's own map, judged by the model: no ground truth is needed.", ""]
    for metric in cam.FAITHFULNESS.values():
        direction = "higher" if metric.higher_is_better else "lower"
        lines += [
            f"### {metric.title} (`{metric.name}`)",
            "",
            metric.explanation,
            "",
            f"- Formula and convention: {metric.convention}",
            f"- Range: {metric.low:g} to {metric.high:g}; {direction} is better.",
            f"- Source: {metric.source}",
            f"- Cost: {metric.cost}",
            f"- Degenerate maps: {metric.degenerate}",
            "",
        ]
    return "\n".join(lines)


def _computed(
    bench: Workbench, request: CompareRequest, comparison: Comparison, progress: Progress
) -> tuple[FaithfulnessRow, ...]:
    from quantviz import cam

    model, copy, image = bench.models(request, comparison.sample, progress)
    reference, quantized = comparison.reference, comparison.quantized
    height, width = reference.heatmap.values.shape
    subjects = {
        "float": (model, reference.heatmap, reference.class_index),
        "quantized": (copy, quantized.heatmap, quantized.class_index),
        CENTRE: (copy, Heatmap(scores.centre_gaussian((height, width))), quantized.class_index),
    }
    by_subject = {}
    for name, (network, heatmap, index) in subjects.items():
        of_network = partial(_report, progress, name)
        by_subject[name] = cam.faithfulness(network, image, heatmap, index, progress=of_network)
    return tuple(
        FaithfulnessRow(
            name=metric.name,
            title=metric.title,
            higher_is_better=metric.higher_is_better,
            explanation=metric.explanation,
            convention=metric.convention,
            values={subject: scored[metric.name] for subject, scored in by_subject.items()},
        )
        for metric in cam.FAITHFULNESS.values()
    )


def _report(
    progress: Progress, subject: str, message: str, fraction: float | None = None, phase: Phase = Phase.SCORING
) -> None:
    progress(f"{message}, {subject}", fraction, phase)
