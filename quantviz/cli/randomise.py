"""The command that makes networks random layer by layer, to see whether their maps mean something."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from quantviz.cli.options import check_outputs, limit_option, request_options, samples_of, working
from quantviz.cli.terminal import cache_option, count_of, emit_json, json_option, show, table_of
from quantviz.comparison import CompareRequest
from quantviz.layerwise.randomise import SEED, randomise, report_randomisation
from quantviz.layerwise.specs import Randomisation


@click.command("randomise")
@click.argument("pictures", nargs=-1, required=True, metavar="IMAGE_OR_DIR...")
@request_options(protocol=False)
@click.option("--seed", type=click.IntRange(min=0), default=SEED, show_default=True, help="Of the random parameters.")
@limit_option
@json_option
@cache_option
def randomise_command(
    pictures: tuple[str, ...],
    request: CompareRequest,
    seed: int,
    limit: int | None,
    json_path: str | None,
    cache_dir: Path | None,
) -> None:
    """Make MODEL random layer by layer from its end, and tell what its maps of IMAGE_OR_DIR keep of what they were.

    The float network and its quantized copy, which is quantized anew each time. A map that stays as it was does not
    show what the network learned. The numbers are those of Quantus's MPRT: Spearman's rank correlation with the
    network's own map before.
    """
    check_outputs(json_path)
    samples = samples_of(pictures, limit, request.model)
    with working(cache_dir) as (bench, progress):
        found = randomise(bench, request, samples, progress, seed=seed)
    if json_path is not None:
        emit_json(report_randomisation(found), json_path)
    else:
        _show(found)


def _show(found: Randomisation) -> None:
    if not found.weights.trained:
        click.echo("UNTRAINED (random) weights, a sanity control")
    click.echo(
        f"{found.model} {found.quant.label}, {found.cam.method} at {found.cam.layer}, "
        f"{count_of(len(found.images), 'picture')}: mean rank correlation with the map before"
    )
    printed = table_of("random down to", "float", "quantized")
    for layer in found.layers:
        printed.add_row(layer.name, _mean(layer.reference), _mean(layer.quantized))
    show(printed)


def _mean(values: tuple[float | None, ...]) -> str:
    known = [value for value in values if value is not None]
    missing = f" ({len(values) - len(known)} without a map)" if len(known) < len(values) else ""
    return f"{np.mean(known):.3f}{missing}" if known else "no map"
