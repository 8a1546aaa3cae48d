"""The command that sums a study up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from quantviz import scores
from quantviz.cli.terminal import check_writable, emit_json, json_option, progress_bar, show, table_of, write_file
from quantviz.specs import (
    COMPARISONS,
    STUDY_METRICS,
    TRUTH_COMPARISONS,
    Estimate,
    Rate,
    SaliencyTest,
    StudyCell,
    StudySummary,
    scheme_name,
)

_NAMES = {
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
    "quantized_v_float": "quantized v float",
    "float_v_truth": "float v truth",
    "quantized_v_truth": "quantized v truth",
}


@click.command("summary")
@click.argument("study", type=click.Path(path_type=Path))
@json_option
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write every number here, one a line.")
def summary_command(study: Path, json_path: str | None, csv_path: Path | None) -> None:
    """Sum up the finished STUDY of a sweep: agreement of the maps, tests, flips, accuracy, and what drift goes with."""
    from quantviz.pipeline.summary import report_summary, summary, summary_table  # here, as Arrow is slow to import

    for path in (None if json_path in (None, "-") else Path(str(json_path)), csv_path):
        check_writable(path)
    with progress_bar() as progress:
        found = summary(study, progress)
    if csv_path is not None:
        write_file(csv_path, summary_table(found))
    if json_path is not None:
        emit_json(report_summary(found), json_path)
    else:
        _show(found)


def _show(found: StudySummary) -> None:
    plan = found.plan
    labelled = sum(image.label is not None for image in plan.images)
    click.echo(f"{len(plan.images)} pictures of {plan.dataset}, {labelled} with a label")
    quant = plan.quants[0]
    click.echo(
        f"{plan.cam.method}, scheme {scheme_name(quant)}, ranges {quant.ranges}, calibrated on "
        f"{plan.calibration.source}; the saliency is predicted ({plan.saliency})"
    )
    if plan.truth is not None:
        names = ", ".join(scores.METRICS[metric].title for metric in plan.truth.metrics)
        source = f"ground truth ({plan.truth.kind}) from {plan.truth.folder}"
        click.echo(f"{found.truths} picture{'s' * (found.truths != 1)} with {source}, scored by {names}")
    for note in plan.notes:
        click.echo(note)
    untrained = [model.name for model in plan.models if not model.weights.trained]
    if untrained:
        click.echo(f"UNTRAINED (random) weights, a sanity control: {', '.join(untrained)}")
    for protocol in plan.protocols:
        cells = [cell for cell in found.cells if cell.protocol == protocol]
        click.echo(f"\nProtocol {protocol}: mean ± standard deviation over the pictures\n")
        _show_scores(found, cells, COMPARISONS)
        _show_change(cells)
        _show_truth(found, cells)
        _show_rates(cells)
        _show_drift(cells)
    for reason, count in found.reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a result: {reason}")
    for reason, count in found.truth_reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a usable ground truth: {reason}")


def _show_scores(found: StudySummary, cells: Sequence[StudyCell], comparisons: Sequence[str]) -> None:
    """Print the layout of the paper's Table 1: comparison and metric down, models across."""
    names = [model.name for model in found.plan.models]
    by_place = {(cell.model, cell.setting): cell for cell in cells}
    table = table_of("comparison", "metric", *names)
    settings = [quant.label for quant in found.plan.quants]
    for comparison in comparisons:
        alone = comparison.startswith("float_v_")
        for setting in settings[:1] if alone else settings:
            for metric in found.plan.comparisons[comparison]:
                marks = [by_place[name, setting].scores[comparison][metric] for name in names]
                table.add_row(
                    _NAMES[comparison].replace("quantized", setting), scores.METRICS[metric].title, *map(_spread, marks)
                )
    show(table)


def _show_change(cells: Sequence[StudyCell]) -> None:
    click.echo("\nAgreement with the saliency, quantized - float: mean [95 % interval], p (Wilcoxon, Holm)\n")
    table = table_of("model", "bits", *(metric.upper() for metric in STUDY_METRICS))
    for cell in cells:
        table.add_row(cell.model, cell.setting, *(_change(cell.tests[metric]) for metric in STUDY_METRICS))
    show(table)


def _show_truth(found: StudySummary, cells: Sequence[StudyCell]) -> None:
    """Print the agreement with the user's ground truth and its change, models across: its metrics are many."""
    plan = found.plan
    if plan.truth is None:
        return
    click.echo("\nAgreement with the ground truth: mean ± standard deviation over the pictures that have one\n")
    _show_scores(found, cells, TRUTH_COMPARISONS)
    click.echo("\nThe same, quantized - float: mean [95 % interval], p (Wilcoxon, Holm)\n")
    by_place = {(cell.model, cell.setting): cell for cell in cells}
    table = table_of("bits", "metric", *(model.name for model in plan.models))
    for quant in plan.quants:
        for metric in plan.truth.metrics:
            tests = [by_place[model.name, quant.label].truth_tests[metric] for model in plan.models]
            table.add_row(quant.label, scores.METRICS[metric].title, *map(_change, tests))
    show(table)


def _change(test: SaliencyTest) -> str:
    return f"{_mean(test.change, '+.4f')} {_p(test.p_adjusted)}"


def _show_rates(cells: Sequence[StudyCell]) -> None:
    click.echo("\nTop-1, errors, and maps without evidence (not scored)\n")
    maps = ("float", "quantized", "saliency")
    table = table_of("model", "bits", "flips", "float top-1", "top-1", "errors", *(f"no {name} map" for name in maps))
    for cell in cells:
        rates = (cell.flips, cell.float_accuracy, cell.accuracy)
        counts = (cell.errors, *(cell.degenerate[name] for name in maps))
        table.add_row(cell.model, cell.setting, *map(_part, rates), *map(str, counts))
    show(table)


def _show_drift(cells: Sequence[StudyCell]) -> None:
    click.echo("\nDrift, 1 - CC of the quantized and the float map: mean [95 % interval], (pictures)\n")
    groups = {
        ("flipped", "flipped"): "flipped",
        ("flipped", "kept"): "kept",
        ("confidence", "low"): "unsure third",
        ("confidence", "middle"): "middle third",
        ("confidence", "high"): "sure third",
        ("correct", "correct"): "float right",
        ("correct", "wrong"): "float wrong",
    }
    table = table_of("model", "bits", "all", *groups.values())
    for cell in cells:
        splits = {(split.by, split.group): split.drift for split in cell.splits}
        parts = [splits.get(group) for group in groups]
        told = ["-" if part is None else f"{_number(part.mean, '.4f')} ({part.n})" for part in parts]
        table.add_row(cell.model, cell.setting, _mean(cell.drift, ".4f"), *told)
    show(table)


def _spread(found: Estimate) -> str:
    return f"{_number(found.mean, '.3f')} ± {_number(found.sd, '.3f')}"


def _mean(found: Estimate, form: str) -> str:
    """Return a mean with its interval, the bracket escaped from the terminal library's markup."""
    if found.low is None or found.high is None:
        return _number(found.mean, form)
    return f"{_number(found.mean, form)} \\[{found.low:{form}}, {found.high:{form}}]"


def _part(found: Rate | None) -> str:
    if found is None or found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{found.value:.1%} \\[{found.low:.1%}, {found.high:.1%}]"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
