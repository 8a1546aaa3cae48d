"""The command that sums a study up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from quantviz import scores
from quantviz.cli.terminal import check_writable, emit_json, json_option, progress_bar, show, table_of, write_file
from quantviz.specs import StudySummary, scheme_name

if TYPE_CHECKING:
    from quantviz.pipeline.report_study import ReportTable


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
    from quantviz.pipeline.report_study import headline, study_tables

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
    tables = study_tables(found)
    for protocol, sentence in zip(plan.protocols, headline(found), strict=True):
        click.echo(f"\nProtocol {protocol}. {sentence}")
        for table in tables:
            _show_table(table, protocol)
    for reason, count in found.reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a result: {reason}")
    for reason, count in found.truth_reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a usable ground truth: {reason}")


def _show_table(table: ReportTable, protocol: str) -> None:
    from quantviz.pipeline.report_study import shown

    rows = table.shown_rows(protocol)
    if not rows:
        return
    click.echo(f"\n{table.title}\n")
    printed = table_of(*(escape(column.title) for column in table.shown_columns))
    for row in rows:
        printed.add_row(*(escape(shown(*cell)) for cell in zip(table.shown_columns, row, strict=True)))
    show(printed)
