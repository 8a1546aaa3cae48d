"""The commands that need no model: score and pair."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.table import Table

from quantviz import images, scores
from quantviz.cli.options import check_outputs
from quantviz.cli.terminal import emit_json, json_option, show, table_of
from quantviz.comparison import TRUTH_KINDS, measure_map, metric_names, read_truth
from quantviz.specs import GroundTruth, MetricTable, Scores, TruthKind
from quantviz.truth import pair as pair_by_stem
from quantviz.truth import to_truth


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--metrics", help="all, or names separated by commas; SIM, CC and KLD of two maps if not given.")
@click.option("--truth", "kind", type=click.Choice(TRUTH_KINDS), default="map", show_default=True, help="What B holds.")
@json_option
def score(a: Path, b: Path, metrics: str | None, kind: TruthKind, json_path: str | None) -> None:
    """Score map A against the ground truth B.

    A is a .npy array or a greyscale picture. B is the same for a map or a mask; a CSV or MAT file for fixations; an XML
    or CSV file for boxes, both in A's pixels. Where only the scale differs, A is resized to B's resolution.
    """
    check_outputs(json_path)
    given = images.read_map(a)
    first, truth = _aligned(given, b, kind)
    result: dict[str, Any] = {
        "a": str(a),
        "b": str(b),
        "truth": kind,
        "score_resolution": [truth.shape[1], truth.shape[0]],
        "a_resized": given.shape != first.shape,
        "notes": list(truth.notes),
        "degenerate": _degenerate(first, truth),
    }
    marks = scores.compare(first, truth.values) if kind == "map" and truth.values is not None else None
    if marks is not None:
        result |= {"scores": asdict(marks), "score_conventions": dict(scores.CONVENTIONS)}
    table = None
    if metrics is not None or kind != "map":
        table = measure_map(first, truth, metric_names(metrics))
        result["metrics"] = {name: asdict(found) for name, found in table.columns["map"].items()}
        result["baselines"] = {
            subject: {name: asdict(found) for name, found in column.items()}
            for subject, column in table.columns.items()
            if subject != "map"
        }
    if json_path is not None:
        emit_json(result, json_path)
    else:
        _show_score(f"{a.name} v {b.name}", marks, table, result)


def _aligned(given: npt.NDArray[np.float64], b: Path, kind: TruthKind) -> tuple[npt.NDArray[Any], GroundTruth]:
    """Return the map and the ground truth on one grid: B's own for maps and masks, A's for points and boxes."""
    name, data = images.read_bytes(b, "")
    size = (given.shape[0], given.shape[1])
    array, notes = read_truth(data, name, kind, size)
    if kind in ("map", "mask"):
        size = (array.shape[0], array.shape[1])
    first = given if given.shape == size else images.resize_map(given, size)
    return first, to_truth(kind, array, size, source=name, notes=notes)


def _degenerate(first: npt.NDArray[Any], truth: GroundTruth) -> dict[str, str]:
    found = {"a": scores.degenerate(first)}
    if truth.kind == "map" and truth.values is not None:
        found["b"] = scores.degenerate(truth.values)
    return {name: reason for name, reason in found.items() if reason}


def _show_score(title: str, marks: Scores | None, table: MetricTable | None, result: dict[str, Any]) -> None:
    if table is not None:
        show_metrics(table)
        click.echo(f"Scored at {result['score_resolution'][0]} x {result['score_resolution'][1]} pixels.")
    elif marks is not None:
        show(score_table({title: marks}))
        show_conventions(tuple(result["score_resolution"][::-1]))
    if result["a_resized"]:
        click.echo("The map was resized to the resolution of the ground truth.")
    for name, reason in result["degenerate"].items():
        click.echo(f"Map {name} carries no evidence ({reason}) and is not scored.")


@click.command()
@click.argument("pictures", type=click.Path(path_type=Path))
@click.argument("truths", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pair(pictures: Path, truths: Path, as_json: bool) -> None:
    """Pair the folder PICTURES with the ground-truth files in TRUTHS by stem, and list what has no partner."""
    found = pair_by_stem(images.folder(pictures), truths)
    result = {
        "pairs": [[str(image), str(file)] for image, file in found.pairs],
        "images_without_truth": [str(image) for image in found.images_without_truth],
        "truths_without_image": [str(file) for file in found.truths_without_image],
        "ambiguous": [[str(image), [str(file) for file in files]] for image, files in found.ambiguous],
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(f"{len(found.pairs)} pairs")
    for image in found.images_without_truth:
        click.echo(f"no ground truth: {image}")
    for file in found.truths_without_image:
        click.echo(f"no picture: {file}")
    for image, files in found.ambiguous:
        click.echo(f"several files: {image}: {', '.join(map(str, files))}")


def show_metrics(table: MetricTable) -> None:
    """Print a table of metrics, each with what the baselines get and what it says."""
    kind = "a computed prediction" if table.predicted else table.kind
    click.echo(f"\nAgainst {table.reference} ({kind}):")
    printed = table_of("", *table.columns, "closer is", "what it says")
    for name in next(iter(table.columns.values())):
        metric = scores.METRICS[name]
        cells = [column[name].value for column in table.columns.values()]
        numbers = ["-" if value is None else f"{value:.4f}" for value in cells]
        printed.add_row(metric.title, *numbers, "higher" if metric.higher_is_closer else "lower", metric.explanation)
    show(printed)
    for sentence in table.remarks():
        click.echo(f"Note: {sentence}.")


def score_table(found: dict[str, Scores]) -> Table:
    """Return the table of SIM, CC and KLD, a row a pair of maps."""
    table = table_of("", "SIM", "CC", "KLD")
    for name, marks in found.items():
        table.add_row(name, *("-" if mark is None else f"{mark:.4f}" for mark in (marks.sim, marks.cc, marks.kld)))
    return table


def show_conventions(shape: tuple[int, ...]) -> None:
    """Print what the three scores mean, and on which resolution (h, w) they were taken."""
    click.echo(f"\nScored at {shape[1]} x {shape[0]} pixels.")
    for name, sentence in scores.CONVENTIONS.items():
        click.echo(f"{name.upper()}: {sentence}")
