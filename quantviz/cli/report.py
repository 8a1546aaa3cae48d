"""The commands report and replay."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantviz.api.files import check_writable
from quantviz.cli.study import weights_of
from quantviz.cli.terminal import emit_json, json_option, open_store, progress_bar, show, table_of
from quantviz.specs import Progress, QuantvizError, UsageError

if TYPE_CHECKING:
    from quantviz.study.replay import Replayed, ReplayRequest

_FILE = click.Path(path_type=Path)


@click.command("report")
@click.argument("study", type=_FILE)
@click.option("--html", "html_path", type=_FILE, metavar="FILE", help="One page with everything; it needs no network.")
@click.option("--figures", type=_FILE, metavar="FOLDER", help="The figures for paper, as SVG and PNG.")
@click.option("--tables", type=_FILE, metavar="FOLDER", help="The tables as CSV and LaTeX, and summary.json.")
@click.option("--bundle", type=_FILE, metavar="FILE.zip", help="Everything that `quantviz replay` checks.")
def report_command(
    study: Path, html_path: Path | None, figures: Path | None, tables: Path | None, bundle: Path | None
) -> None:
    """Report the finished STUDY of a sweep: as a page, as figures and tables for a paper, as evidence.

    At least one of the options says what to write. The same study gives the same bytes.
    """
    from quantviz.api.report import write_report

    if not any((html_path, figures, tables, bundle)):
        raise UsageError("Nothing is to be written; give one or more of --html, --figures, --tables, --bundle.")
    with progress_bar() as progress:
        for path, size in write_report(study, html_path, figures, tables, bundle, progress):
            if path in (html_path, bundle):
                click.echo(f"{path}: {size / 1e6:.1f} MB", err=True)


@click.command("replay")
@click.argument("evidence", type=_FILE)
@click.option("--dataset", type=_FILE, metavar="FOLDER", help="Folder of the pictures; the study's own if not given.")
@click.option(
    "--weights", multiple=True, metavar="MODEL=FILE", help="Weights that are elsewhere than they were; for each model."
)
@click.option(
    "--card", "cards", multiple=True, type=_FILE, metavar="FILE.toml",
    help="A network card of the study that is elsewhere than it was.",
)  # fmt: skip
@click.option("--calibration", type=_FILE, metavar="FOLDER", help="Folder of the study's calibration pictures.")
@click.option("--truth", type=_FILE, metavar="FOLDER", help="Folder of the study's ground truth.")
@click.option("--limit", type=click.IntRange(min=1), help="So many pictures; 8 if not given.")
@click.option("--all", "everything", is_flag=True, help="All pictures.")
@click.option(
    "--tolerance", type=float, default=1e-6, show_default=True, help="Largest difference of numbers that agree."
)
@click.option(
    "--cache", "cache_dir", type=_FILE, metavar="FOLDER",
    help="Take calibrated ranges and learned weights from this cache; computed anew if not given.",
)  # fmt: skip
@json_option
def replay_command(
    evidence: Path,
    weights: tuple[str, ...],
    limit: int | None,
    everything: bool,
    cache_dir: Path | None,
    json_path: str | None,
    cards: tuple[Path, ...],
    **rest: Any,
) -> None:
    """Compute pictures of a study again and compare every number with EVIDENCE, a bundle or a study's folder.

    The pictures and weights must be those of the study, by their sha256. Under a protocol whose observers go on from
    picture to picture the first ones are taken, else evenly spaced ones. Exit status: 0 all numbers agree, 1 some do
    not, 2 the evidence, the pictures or the weights cannot be used.
    """
    check_writable(None if json_path in (None, "-") else Path(str(json_path)))
    from quantviz.study.replay import LIMIT, ReplayRequest  # here, because Arrow takes long to import

    if everything and limit is not None:
        raise UsageError(f"Both --all and --limit {limit} are given; give one of them.")
    count = None if everything else limit or LIMIT
    request = ReplayRequest(evidence, weights=weights_of(weights), limit=count, cards=cards, **rest)
    with progress_bar() as progress:
        replayed = _replayed(request, cache_dir, progress)
    if json_path is not None:
        emit_json(_report(replayed), json_path)
    else:
        _show(replayed)
    if not replayed.agrees:
        names = [column.name for column in replayed.columns if column.unlike]
        raise QuantvizError(
            f"{len(names)} of {len(replayed.columns)} columns do not agree within {replayed.tolerance:g}: "
            f"{', '.join(names)}."
        )


def _replayed(request: ReplayRequest, cache_dir: Path | None, progress: Progress) -> Replayed:
    from quantviz.study.replay import replay

    if cache_dir is None:
        return replay(request, None, progress)
    with open_store(cache_dir) as store:
        return replay(request, store, progress)


def _report(replayed: Replayed) -> dict[str, Any]:
    """Return what computing again came to as JSON-able data."""
    return {
        "study": replayed.plan.digest,
        "agrees": replayed.agrees,
        "tolerance": replayed.tolerance,
        "pictures": {protocol: list(paths) for protocol, paths in replayed.pictures.items()},
        "versions": {name: {"study": there, "here": here} for name, (there, here) in replayed.versions.items()},
        "kernels": replayed.kernels,
        "columns": [asdict(column) for column in replayed.columns],
    }


def _show(replayed: Replayed) -> None:
    total = len(replayed.plan.images)
    for protocol, paths in replayed.pictures.items():
        click.echo(f"Computed again under the {protocol} protocol: {len(paths)} of {total} pictures")
    click.echo(f"{replayed.columns[0].rows} rows of {len(replayed.columns)} columns compared\n")
    table = table_of("column", "rows that do not agree", "largest difference")
    for column in replayed.columns:
        largest = "identical" if column.identical else "" if column.largest is None else f"{column.largest:.2g}"
        table.add_row(column.name, str(column.unlike), largest)
    show(table)
    for name, (there, here) in replayed.versions.items():
        click.echo(f"Version of {name}: {there or 'none'} in the study, {here or 'none'} here")
    if replayed.kernels:
        click.echo(replayed.kernels)
    if replayed.agrees:
        same = all(column.identical for column in replayed.columns)
        click.echo("Every value is identical." if same else f"Every number agrees within {replayed.tolerance:g}.")
