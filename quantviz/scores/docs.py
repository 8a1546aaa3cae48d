"""The documentation page of all metrics, made from the table and the docstrings."""

from __future__ import annotations

from quantviz.scores.checks import CONSTANT_TOLERANCE
from quantviz.scores.registry import DEGENERATE, METRICS
from quantviz.specs import Metric

_INTRODUCTION = f"""\
# Metrics

Each metric compares a map P, of N pixels, with a ground truth of the same width and height. The map is the prediction;
the ground truth is a density map, an object's mask, fixations or boxes. All are computed in float64, and the same
input gives the same bits. Nothing here is human unless the ground truth's source is.

A map is degenerate if it is all zero, constant (its range is at most {CONSTANT_TOLERANCE:g} of its largest magnitude)
or contains NaN or infinity. The last section tells what each metric then does: it gives the value that its definition
has for such a map, or none, with the reason. A ground truth that holds nothing (a degenerate map, an empty mask, no
points, no boxes) has no value for any metric.
"""


def describe() -> str:
    """Write the page: an overview, a section for each metric, and what becomes of degenerate maps.

    Returns:
        Markdown, ending in a newline.
    """
    metrics = METRICS.values()
    overview = _table(
        ("metric", "name", "ground truth", "range", "closer is"),
        [(metric.title, f"`{metric.name}`", _truths(metric), _range(metric), _direction(metric)) for metric in metrics],
    )
    families = [
        "\n".join([f"## {family.capitalize()}\n", *(_section(metric) for metric in metrics if metric.family == family)])
        for family in dict.fromkeys(metric.family for metric in metrics)
    ]
    faults = _table(("metric", "degenerate map"), [(metric.title, DEGENERATE[metric.name]) for metric in metrics])
    return "\n".join([_INTRODUCTION, overview, *families, "## Degenerate maps\n", faults])


def _section(metric: Metric) -> str:
    return "\n".join(
        [
            f"### {metric.title} (`{metric.name}`)\n",
            f"{metric.explanation}\n",
            f"- Formula and convention: {metric.convention}",
            f"- Range: {_range(metric)}; {_direction(metric)} is closer.",
            f"- Ground truth: {_truths(metric)}.",
            f"- Source: {metric.source}",
            f"- Cost: {metric.cost}\n",
        ]
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _range(metric: Metric) -> str:
    match metric.low, metric.high:
        case None, None:
            return "unbounded"
        case low, None:
            return f"from {low:g} up"
        case None, high:
            return f"up to {high:g}"
        case low, high:
            return f"{low:g} to {high:g}"


def _direction(metric: Metric) -> str:
    return "higher" if metric.higher_is_closer else "lower"


def _truths(metric: Metric) -> str:
    return ", ".join(kind for kind in ("map", "mask", "fixations", "boxes") if kind in metric.truths)
