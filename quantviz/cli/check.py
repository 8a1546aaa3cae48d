"""The command that checks limits, for continuous integration."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from quantviz.api.files import check_writable
from quantviz.cli.stopping import stoppable
from quantviz.cli.terminal import cache_option, emit_json, json_option, progress_bar, show, table_of, watched_store
from quantviz.guard.file import DEFAULT, read_check
from quantviz.specs import UsageError

if TYPE_CHECKING:
    from quantviz.guard.specs import CheckReport

_OUTPUTS: Final = ("write_baseline", "junit", "markdown")


@click.command("check")
@click.argument("check_file", metavar="[CHECK.toml]", type=click.Path(path_type=Path), default=DEFAULT)
@click.option("--init", "init", metavar="STUDY", type=click.Path(path_type=Path), help="Write CHECK.toml from a study.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="For --init: a network of the study.")
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="For --init: a variant, W8A8 say.")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="FILE", help="In place of the check file's.")
@click.option(
    "--write-baseline", type=click.Path(path_type=Path), metavar="FILE", help="Write this release's own numbers here."
)
@json_option
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE.xml", help="Write JUnit XML here.")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    metavar="FILE.md",
    help="Write a summary here, and the worst pictures' maps as PNG beside it.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, of one thread each."
)
@cache_option
def check_command(
    check_file: Path,
    init: Path | None,
    models: tuple[str, ...],
    variants: tuple[str, ...],
    json_path: str | None,
    cache_dir: Path | None,
    **asked: Any,
) -> None:
    """Check the limits of CHECK.toml (check.toml if not given), each by its confidence bound.

    CHECK.toml names a finished study, or photos and a network; then the check makes its own study, and goes on with it
    after an interruption. Exit status: 0 every limit holds, 1 a limit is broken, 2 wrong use, 3 nothing is broken, but
    there are too few pictures to decide every limit; the table says how many it takes.

    With --init STUDY the file is written from a finished study: each limit is the value measured there, with room.
    """
    for path in (None if json_path in (None, "-") else Path(str(json_path)), *map(asked.get, _OUTPUTS)):
        check_writable(path)
    if init is not None:
        if json_path or any(asked[name] for name in (*_OUTPUTS, "baseline")):
            raise UsageError("--init writes a check file and checks nothing; leave the other options out.")
        _write_draft(init, check_file, models, variants, cache_dir)
        return
    if models or variants:
        raise UsageError("--model and --variant are for --init; name them in the check file: variants = [...].")
    from quantviz.api.check import run_and_write  # here, as Arrow is slow to import

    file = read_check(check_file)
    with stoppable("Interrupted; what was done is kept, and the same command goes on from there.", lambda: None):
        with watched_store(cache_dir) as store, progress_bar() as progress:
            checked, data = run_and_write(file, store, progress, **asked)
    if json_path is not None:
        emit_json(data, json_path)
    if json_path != "-":
        _show(checked.report)
    sys.exit(checked.report.exit_status)


def _write_draft(
    study: Path, check_file: Path, models: tuple[str, ...], variants: tuple[str, ...], cache_dir: Path | None
) -> None:
    from quantviz.api.check import write_draft

    with watched_store(cache_dir) as store, progress_bar() as progress:
        write_draft(study, check_file, models, variants, store, progress)
    click.echo(f"{check_file} is written. Look at its limits, then: quantviz check {shlex.quote(str(check_file))}")


def _show(report: CheckReport) -> None:
    from quantviz.guard.record import TABLE_HEAD, headline, rule, table_rows

    colours = {"holds": "green", "broken": "bold red", "undecided": "yellow"}
    printed = table_of(*TABLE_HEAD)
    for first, *rest in table_rows(report):
        printed.add_row(Text(first, style=colours[first]), *rest)
    show(printed)
    click.echo(f"\n{headline(report)}\n{rule(report)}")
    if report.left_out:
        click.echo(f"{report.left_out} of {report.pictures} pictures have no result and are left out.")
    if report.baseline:
        click.echo(f"Baseline {report.baseline}: paired on {report.paired} pictures.")
