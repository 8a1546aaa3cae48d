"""The command that measures speed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from quantviz import networks
from quantviz.api.files import write_file
from quantviz.bench.specs import SpeedReport, SpeedTarget, Timing
from quantviz.cli.options import check_outputs
from quantviz.cli.terminal import emit_json, json_option, progress_bar, show, table_of
from quantviz.specs import UsageError


@click.command("bench")
@click.option("--models", help="Names that `quantviz models` lists, separated by commas; all if not given.")
@click.option("--batch", default="1", show_default=True, help="Images in a call; several numbers, as in 1,16.")
@click.option("--rounds", type=int, default=5, show_default=True, help="How often each path is timed.")
@click.option("--threads", type=int, help="Torch's threads; as many as it takes by itself if not given.")
@click.option(
    "--processes",
    is_flag=True,
    help="Also measure whole processes: a command's start, a worker's memory, a sweep on one and two "
    "workers; some minutes more.",
)
@json_option
@click.option("--plot", type=click.Path(path_type=Path), help="Write a figure (PNG) to this path.")
def bench_command(
    models: str | None,
    batch: str,
    rounds: int,
    threads: int | None,
    processes: bool,
    json_path: str | None,
    plot: Path | None,
) -> None:
    """Measure how long maps take, here and by other libraries, side by side in one run.

    All times are given in plain forward passes of the same model, so that runs on other machines can be compared. The
    weights are untrained, which speed does not depend on. Nothing of the cache is read or written.
    """
    from quantviz.bench.run import BenchRequest, bench

    check_outputs(json_path, plot)
    names = tuple(networks.MODELS) if models is None else tuple(name.strip() for name in models.split(","))
    request = BenchRequest(names, _numbers(batch), rounds, threads, processes)
    with progress_bar() as progress:
        report = bench(request, progress)
    if json_path != "-":
        _print(report)
    if json_path is not None:
        emit_json(report_json(report), json_path)
    if plot is not None:
        from quantviz.figures.print.speed import speed_png

        write_file(plot, speed_png(report))


def report_json(report: SpeedReport) -> dict[str, Any]:
    """Return a benchmark as JSON values; seconds are of one image, ratios are in plain forward passes."""
    found = asdict(report)
    found["targets"] = [asdict(target) | {"met": target.met} for target in report.targets]
    return found


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"Batch sizes {text!r} are no numbers; give them as in 1,16.") from None


def _print(report: SpeedReport) -> None:
    for batch in sorted({timing.batch for timing in report.timings}):
        _print_batch(report, [timing for timing in report.timings if timing.batch == batch], batch)
    goals = table_of("target (median over the models)", "wanted", "measured", "")
    for target in report.targets:
        value = "" if target.value is None else f"{target.value:.3g}"
        wanted = f"{'at most' if target.at_most else 'at least'} {target.limit:g}"
        goals.add_row(target.what, wanted, value, _verdict(target))
    show(goals)
    click.echo()
    click.echo("; ".join(f"{name}: {value}" for name, value in report.machine.items()) + f"; rounds: {report.rounds}")
    for note in report.notes:
        click.echo(note)


def _print_batch(report: SpeedReport, timings: Sequence[Timing], batch: int) -> None:
    """Print a row for each path: its time in plain forwards on each model, and the median over them."""
    models = list(dict.fromkeys(timing.model for timing in timings))
    size = "1 image at a time" if batch == 1 else f"{batch} images at a time"
    table = table_of(f"in plain forwards, {size}", *models, "median")
    for path, title in report.paths.items():
        ratios = {timing.model: timing.ratio for timing in timings if timing.path == path}
        if ratios:
            cells = [f"{ratios[name]:.2f}" if name in ratios else "" for name in models]
            table.add_row(title, *cells, f"{statistics.median(ratios.values()):.2f}")
    forward = next(iter(report.paths))
    plain = {timing.model: timing.seconds for timing in timings if timing.path == forward}
    table.add_row("a plain forward, ms an image", *(f"{plain[name] * 1000:.1f}" for name in models), "")
    show(table)
    click.echo()


def _verdict(target: SpeedTarget) -> str:
    return {True: "met", False: "not met", None: "not measured"}[target.met]
