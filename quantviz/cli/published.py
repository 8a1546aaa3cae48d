"""The command published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from quantviz.cli.options import check_outputs
from quantviz.cli.terminal import emit_json, json_option, progress_bar, show, table_of
from quantviz.study.specs.published import PRECISIONS, PUBLISHED_IMAGES, Reproduction, TriangleCheck
from quantviz.study.specs.summary import Estimate

_REFERENCES = {
    "float_v_saliency": "ground truth",
    "quantized_v_saliency": "ground truth",
    "quantized_v_float": "f32",
}


@click.command("published")
@click.argument("study", type=click.Path(path_type=Path), required=False)
@json_option
def published_command(study: Path | None, json_path: str | None) -> None:
    """Print Table 1 of arXiv 2403.09939 beside the finished STUDY, if one is named, and which SIM values can be.

    int16 is W16A16 and int8 is W8A8. Only the rows "v f32" can be compared: the paper's ground truth is a prediction
    that it does not name, on pictures that it does not list.
    """
    from quantviz.study.published import (
        TRIANGLE_COLUMNS,
        published_triangles,
        report_published,
        reproductions,
        study_triangles,
    )
    from quantviz.study.summary import summary
    from quantviz.study.table import study_table

    check_outputs(json_path)
    study_summary, checks = None, published_triangles()
    if study is not None:
        with progress_bar() as progress:
            study_summary = summary(study, progress)
            checks += study_triangles(study_table(study, TRIANGLE_COLUMNS))
    rows = reproductions(study_summary)
    if json_path is not None:
        emit_json(report_published(rows, checks), json_path)
        return
    protocols = () if study_summary is None else study_summary.plan.protocols
    untrained = (
        []
        if study_summary is None
        else [model.name for model in study_summary.plan.models if not model.weights.trained]
    )
    if untrained:
        click.echo(f"UNTRAINED (random) weights, a sanity control: {', '.join(untrained)}")
    _show_table(rows, protocols)
    click.echo("\nWhich SIM can be: 1 - SIM is a metric, so two of the three means bound the third\n")
    _show_triangles(checks)


def _show_table(rows: Sequence[Reproduction], protocols: Sequence[str]) -> None:
    click.echo(f"Mean ± standard deviation; published: arXiv 2403.09939v1, Table 1, {PUBLISHED_IMAGES:,} pictures\n")
    models = list(dict.fromkeys(row.model for row in rows))
    table = table_of("comparison", "metric", "source", *models)
    places: dict[tuple[str, str, str], dict[str, Reproduction]] = {}
    for row in rows:
        places.setdefault((row.precision, row.comparison, row.metric), {})[row.model] = row
    for (precision, comparison, metric), by_model in places.items():
        names = (f"{precision} v {_REFERENCES[comparison]}", metric.upper())
        published = {model: row.published.estimate for model, row in by_model.items() if row.published is not None}
        table.add_row(*names, "published", *_shown(published, models))
        label = PRECISIONS[precision] or "float"
        for protocol in protocols:
            numbers = {model: row.found[protocol] for model, row in by_model.items() if protocol in row.found}
            table.add_row("", "", f"{label}, {protocol}", *_shown(numbers, models))
    show(table)


def _shown(numbers: Mapping[str, Estimate], models: Sequence[str]) -> list[str]:
    estimates = [numbers.get(model) for model in models]
    return ["-" if one is None or one.mean is None else f"{one.mean:.3f} ± {one.sd or 0.0:.3f}" for one in estimates]


def _show_triangles(checks: Sequence[TriangleCheck]) -> None:
    headings = ("float v GT", "quantized v float", "possible", "quantized v GT", "outside by", "scored 1.0", "pictures")
    table = table_of("source", "model", "bits", *headings)
    for check in checks:
        table.add_row(
            check.source,
            check.model,
            check.setting,
            f"{check.float_v_truth:.3f}",
            f"{check.quantized_v_float:.3f}",
            f"{check.low:.3f} to {check.high:.3f}",
            f"{check.quantized_v_truth:.3f}",
            "" if check.holds else f"{check.excess:.3f}",
            "" if check.share is None else f"{check.share:.1%}",
            f"{check.n:,}",
        )
    show(table)
    click.echo(
        "\nScored 1.0: the part of the pictures that, scored exactly 1.0 and the rest as the float maps, gives the "
        "published mean."
    )
