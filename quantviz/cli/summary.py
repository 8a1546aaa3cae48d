"""The command that sums a study up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantviz import scores
from quantviz.api.files import check_writable, write_file
from quantviz.cli.study import weights_of
from quantviz.cli.terminal import cache_option, emit_json, json_option, progress_bar, show, table_of, watched_store
from quantviz.specs import Progress, UsageError, scheme_name
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import MapTimes, StudySummary

if TYPE_CHECKING:
    from quantviz.report.tables import ReportTable


@click.command("summary")
@click.argument("study", type=click.Path(path_type=Path))
@json_option
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write every number here, one a line.")
@click.option("--times", is_flag=True, help="Measure what a map takes on this machine: float, simulated and deployed.")
@click.option(
    "--weights", multiple=True, metavar="MODEL=FILE", help="For --times: weights that are elsewhere than they were."
)
@click.option("--calibration", type=click.Path(path_type=Path), metavar="FOLDER", help="For --times: as in the sweep.")
@cache_option
def summary_command(
    study: Path,
    json_path: str | None,
    csv_path: Path | None,
    times: bool,
    weights: tuple[str, ...],
    calibration: Path | None,
    cache_dir: Path | None,
) -> None:
    """Sum up the finished STUDY of a sweep: agreement of the maps, tests, flips, accuracy, and what drift goes with.

    With --times, one map of a bundled photograph is timed for every model of a study that was swept under the deployed
    protocol; the cache keeps the times, and the Study page shows them.
    """
    from quantviz.study.summary import report_summary, summary, summary_table  # here, as Arrow is slow to import

    if not times and (weights or calibration):
        raise UsageError("--weights and --calibration are for --times; add it, or leave them out.")
    for path in (None if json_path in (None, "-") else Path(str(json_path)), csv_path):
        check_writable(path)
    with progress_bar() as progress:
        study_summary = summary(study, progress)
        measured = _measured(study_summary.plan, weights, calibration, cache_dir, progress) if times else ()
    if csv_path is not None:
        write_file(csv_path, summary_table(study_summary))
    if json_path is not None:
        timed = {"times": [asdict(one) for one in measured]} if times else {}
        emit_json(report_summary(study_summary) | timed, json_path)
    else:
        _show(study_summary, measured)


def _measured(
    plan: StudyPlan, weights: Sequence[str], calibration: Path | None, cache_dir: Path | None, progress: Progress
) -> Sequence[MapTimes]:
    from quantviz.study.times import measure_times

    with watched_store(cache_dir) as store:
        return measure_times(store, plan, weights=weights_of(weights), calibration=calibration, progress=progress)


def _show(study_summary: StudySummary, times: Sequence[MapTimes]) -> None:
    from quantviz.report.tables import headline
    from quantviz.report.wide import all_tables

    plan = study_summary.plan
    labelled = sum(image.label is not None for image in plan.images)
    classes = f" of {len(plan.classes)} classes" if plan.classes else ""
    click.echo(f"{len(plan.images)} pictures of {plan.dataset}, {labelled} with a label{classes}")
    made = "ONNX files as they are"
    if plan.quants:
        quant = plan.quants[0]
        made = f"scheme {scheme_name(quant)}, ranges {quant.ranges}, calibrated on {plan.calibration.source}"
    click.echo(f"{plan.cam.method}, {made}; the saliency is predicted ({plan.saliency})")
    if plan.truth is not None:
        names = ", ".join(scores.METRICS[metric].title for metric in plan.truth.metrics)
        source = f"ground truth ({plan.truth.kind}) from {plan.truth.folder}"
        click.echo(
            f"{study_summary.truths} picture{'s' * (study_summary.truths != 1)} with {source}, scored by {names}"
        )
    for note in plan.notes:
        click.echo(note)
    untrained = [model.name for model in plan.models if not model.weights.trained]
    if untrained:
        click.echo(f"UNTRAINED (random) weights, a sanity control: {', '.join(untrained)}")
    tables = all_tables(study_summary)
    if times:
        from quantviz.report.times import times_table

        tables = (*tables, times_table(plan, times))
    for protocol, sentence in zip(plan.protocols, headline(study_summary), strict=True):
        click.echo(f"\nProtocol {protocol}. {sentence}")
        for table in tables:
            _show_table(table, protocol)
    for reason, count in study_summary.reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a result: {reason}")
    for reason, count in study_summary.truth_reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a usable ground truth: {reason}")


def _show_table(table: ReportTable, protocol: str) -> None:
    from quantviz.report.tables import shown

    rows = table.shown_rows(protocol)
    if not rows:
        return
    click.echo(f"\n{table.title}\n")
    printed = table_of(*(column.title for column in table.shown_columns))
    for row in rows:
        printed.add_row(*(shown(*cell) for cell in zip(table.shown_columns, row, strict=True)))
    show(printed)
