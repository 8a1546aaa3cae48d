"""The command attribute."""

from __future__ import annotations

from pathlib import Path

import click

from quantviz.cli.options import check_outputs, limit_option, request_options, samples_of, working
from quantviz.cli.terminal import cache_option, count_of, emit_json, json_option, show, table_of
from quantviz.comparison import CompareRequest
from quantviz.layerwise.attribution import attribution, rounded_shares
from quantviz.layerwise.output import report_attribution
from quantviz.layerwise.specs import Attribution
from quantviz.specs import CALIBRATED, DEVIATIONS, PAPER, CamSpec


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="DIR_OR_IMAGE...")
@request_options(protocol=False, bits_file=False)
@limit_option
@json_option
@cache_option
def attribute(
    request: CompareRequest,
    pictures: tuple[str, ...],
    limit: int | None,
    json_path: str | None,
    cache_dir: Path | None,
) -> None:
    """Share the drift that the paper's protocol adds among its seven deviations from the calibrated one.

    DIR_OR_IMAGE is a folder, a picture's path, or a bundled photograph's name. All 128 combinations of the deviations
    are measured on all pictures in their order; what is done is kept, so that an interrupted run goes on.
    """
    check_outputs(json_path)
    samples = samples_of(pictures, limit, request.model)
    with working(cache_dir) as (bench, progress):
        found = attribution(bench, request, samples, progress)
    if json_path is not None:
        emit_json(report_attribution(found), json_path)
    else:
        _show(found)


def _show(found: Attribution) -> None:
    weights = found.weights.name if found.weights.trained else "UNTRAINED (random) weights: a sanity control"
    count = count_of(len(found.images), "image")
    click.echo(f"{found.model}, {weights}, {found.quant.label}, {_map_of(found.cam)}, {count}")
    click.echo("Mean CC of the quantized against the float map\n")
    table = table_of("", "share", "alone", "what it does")
    table.add_row("calibrated", f"{found.calibrated:.4f}", "", "")
    for name, share in sorted(rounded_shares(found, 4).items(), key=lambda item: item[1]):
        table.add_row(name, f"{share:+.4f}", f"{found.alone[name]:.4f}", DEVIATIONS[name])
    table.add_row("paper", f"{found.paper:.4f}", "", "calibrated and all shares: they add up")
    show(table)
    click.echo(
        "\nA share is a Shapley value: the mean change of CC when the deviation is switched on, over all orders. "
        "Alone: CC with only it on."
    )
    missing = {switches: len(names) for switches, names in found.unscored.items()}
    if missing:
        plain, every = missing.get("", 0), missing.get("+".join(DEVIATIONS), 0)
        click.echo(
            f"Not scored, since a map carries no evidence: {plain} of {count} under {CALIBRATED}, {every} under "
            f"{PAPER}, at most {max(missing.values())} under one combination; each mean is over the rest."
        )


def _map_of(cam: CamSpec) -> str:
    return f"{cam.method} at {cam.layer}"
