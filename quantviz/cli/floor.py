"""The command that measures a study's noise floor."""

from __future__ import annotations

from pathlib import Path

import click

from quantviz.cli.terminal import cache_option, count_of, progress_bar, show, table_of, watched_store


@click.command("floor")
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--pictures", type=click.Path(path_type=Path), metavar="FOLDER", help="The study's pictures, if elsewhere."
)
@click.option("--limit", type=click.IntRange(min=1), help="Measure at most so many pictures, evenly spaced.")
@cache_option
def floor_command(study: Path, pictures: Path | None, limit: int | None, cache_dir: Path | None) -> None:
    """Measure the noise floor of STUDY: how far its float networks' own maps move under a change that nobody sees.

    Each pixel is moved by at most one grey level, or the crop by one pixel. The result is kept in the study's folder
    as floor.json; the Study page draws it below the drift, and judges precisions by it.
    """
    from quantviz.api.floor import measure_floor  # here, as torch is slow to import
    from quantviz.comparison import Workbench

    with watched_store(cache_dir) as store, progress_bar() as progress:
        floor = measure_floor(Workbench(store), study, pictures=pictures, limit=limit, progress=progress)
    table = table_of("network", "noise floor, 1 - CC", "95 % interval", "pictures")
    for name, known in floor.networks.items():
        found = known.estimate
        between = "-" if found.low is None or found.high is None else f"{found.low:.2g} to {found.high:.2g}"
        table.add_row(name, "-" if found.mean is None else f"{found.mean:.2g}", between, f"{found.n:,}")
    show(table)
    click.echo(f"{count_of(len(floor.pictures), 'picture')} measured; kept in {study / 'floor.json'}.")
