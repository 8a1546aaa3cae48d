"""The commands that look at single layers: sensitivity and search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantviz.api.files import write_file
from quantviz.cli.exports import export_of, export_option
from quantviz.cli.options import check_outputs, limit_option, request_options, samples_of, show_cost, working
from quantviz.cli.terminal import cache_option, count_of, emit_json, json_option, show, table_of
from quantviz.comparison import CompareRequest
from quantviz.layerwise.bits_file import bits_bytes
from quantviz.layerwise.diagnosis.exports import export
from quantviz.layerwise.output import report_layers
from quantviz.layerwise.search import search
from quantviz.layerwise.sensitivity import sensitivity
from quantviz.layerwise.specs import Candidate, Drift, NoiseFloor, SearchResult, Sensitivity
from quantviz.specs import QuantvizError, WeightsRef, csv_bytes, scheme_name

_COLUMNS = ("cam", "kl", "sqnr", "flips", "accuracy")
_FLOORS = {
    "grey": "every pixel moved by at most one grey level",
    "shift": "crop moved by one pixel",
    "calibration": "calibrated on two halves",
}


class Widths(click.ParamType[tuple[int, ...]]):
    """Bit-widths separated by commas."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the widths; the search judges them."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no bit-widths; give whole numbers separated by commas, 2,4,8 say.", param, ctx)


@click.command("sensitivity")
@click.argument("pictures", nargs=-1, required=True, metavar="IMAGE_OR_DIR...")
@request_options(protocol=False)
@limit_option
@json_option
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path), help="Write the layers here, in order of execution."
)
@cache_option
def sensitivity_command(
    pictures: tuple[str, ...],
    request: CompareRequest,
    limit: int | None,
    json_path: str | None,
    csv_path: Path | None,
    cache_dir: Path | None,
) -> None:
    """Tell which layers of MODEL move its maps of IMAGE_OR_DIR when they are quantized.

    Each layer's weight and input are rounded alone, and all layers' but it. A folder's pictures, pictures' paths, or
    bundled photographs' names. Beside it, drift that is not quantization: the noise floor.
    """
    check_outputs(json_path, csv_path)
    samples = samples_of(pictures, limit, request.model)
    with working(cache_dir) as (bench, progress):
        found = sensitivity(bench, request, samples, progress)
    if csv_path is not None:
        write_file(csv_path, _csv(found))
    if json_path is not None:
        emit_json(report_layers(found), json_path)
    else:
        _show_sensitivity(found)


@click.command("search")
@click.argument("pictures", nargs=-1, required=True, metavar="IMAGE_OR_DIR...")
@request_options(weight_bits=False, protocol=False, bits_file=False)
@click.option(
    "--max-drift",
    type=float,
    required=True,
    help="Greatest mean of 1 - CC of quantized and float maps on the searched pictures; 0.01, say.",
)
@click.option("--max-flips", type=float, help="Greatest part of pictures whose top-1 class may change, 0 to 1.")
@click.option("--widths", type=Widths(), default="2,3,4,5,6,8", show_default=True, help="Weight bits to choose from.")
@limit_option
@click.option("--bits-file", "written", type=click.Path(path_type=Path), help="Write the bits that were found here.")
@export_option
@json_option
@cache_option
def search_command(
    pictures: tuple[str, ...],
    request: CompareRequest,
    max_drift: float,
    max_flips: float | None,
    widths: tuple[int, ...],
    limit: int | None,
    written: Path | None,
    exports: tuple[str, ...],
    json_path: str | None,
    cache_dir: Path | None,
) -> None:
    """Find weight bits for each layer of MODEL that keep its maps of IMAGE_OR_DIR within a drift, at the least size.

    Every other picture is searched on, the ones between only measured. Minutes at first; repeated at once. The exit
    status is 1 where nothing is within the budgets.
    """
    wanted = [export_of(words) for words in exports]
    check_outputs(json_path, written, *(path for _, path in wanted))
    samples = samples_of(pictures, limit, request.model)
    budgets: dict[str, Any] = {"max_drift": max_drift, "max_flips": max_flips, "widths": widths}
    with working(cache_dir) as (bench, progress):
        found = search(bench, request, samples, **budgets, progress=progress)
    if json_path is not None:
        emit_json(report_layers(found), json_path)
    else:
        _show_search(found)
    if request.quant.learns:
        click.echo(
            "Searched with weights rounded to nearest, as the bits file says; they can be learned afterwards.", err=True
        )
    if found.found is None:
        raise QuantvizError("Nothing measured is within the budgets; allow more drift or more flips.")
    for tool, path in [*wanted, *([("bits", written)] if written is not None else [])]:
        write_file(path, bits_bytes(found) if tool == "bits" else export(found, tool))


def _show_sensitivity(found: Sensitivity) -> None:
    _show_subject(found.model, found.weights, f"{found.quant.label}, {scheme_name(found.quant)}", len(found.images))
    click.echo(f"{found.cam.method} at {found.cam.layer}, class: the float model's top-1\n")
    _show_floor(found.floor)
    click.echo(f"\nEvery layer quantized: {_told(found.network, found.floor)}")
    show_cost(found.cost)
    click.echo("")
    table = table_of("", "layer", "kind", "depth", "weights", "alone", "x floor", "KL", "SQNR dB", "all but it")
    for rank, layer in enumerate(found.ranked, 1):
        alone = layer.alone
        table.add_row(
            str(rank),
            layer.cost.name,
            layer.cost.kind,
            str(layer.depth),
            f"{layer.cost.weights:,}",
            _number(alone.cam, ".5f"),
            _number(_multiple(alone.cam, found.floor), ".1f"),
            _number(alone.kl, ".5f"),
            _number(alone.sqnr, ".1f"),
            _number(layer.all_but.cam, ".5f"),
        )
    show(table)
    click.echo("\nDrift is the mean of 1 - CC of the changed and the float map; 0 is no drift.")


def _show_floor(floor: NoiseFloor) -> None:
    click.echo("Noise floor, drift that is not quantization:")
    table = table_of("twins", "drift", "KL", "flips")
    for name, what in _FLOORS.items():
        drift = getattr(floor, name)
        if drift is not None:
            table.add_row(what, _number(drift.cam, ".6f"), _number(drift.kl, ".6f"), f"{drift.flips:.1%}")
    show(table)


def _show_search(found: SearchResult) -> None:
    _show_subject(found.model, found.weights, scheme_name(found.quant), len(found.searched) + len(found.held_out))
    click.echo(f"Searched on {count_of(len(found.searched), 'picture')}, {len(found.held_out)} held out.\n")
    headings = ("drift", "flips", "top-1")
    seen = [f"searched {name}" for name in headings[:2]]
    table = table_of("bits", "KiB", "of float", *seen, *(f"held-out {name}" for name in headings))
    rows = {(entry.name, entry.bits): entry for entry in (*found.uniform, *found.front)}
    if found.found is not None:
        rows[found.found.name, found.found.bits] = found.found
    for entry in sorted(rows.values(), key=lambda entry: entry.cost.bytes):
        table.add_row(*_search_row(entry, found.found))
    show(table)
    if found.float_accuracy is not None:
        click.echo(f"\nTop-1 of the float model on the held-out pictures: {found.float_accuracy:.1%}")
    if found.found is None:
        return
    click.echo(f"\nFound ({found.found.name}):")
    show_cost(found.found.cost)


def _search_row(entry: Candidate, best: Candidate | None) -> list[str]:
    name = f"{entry.name} (found)" if best is not None and entry.bits == best.bits else entry.name
    drift = entry.held_out
    unseen = [drift.cam, drift.flips, drift.accuracy] if drift else [None, None, None]
    return [
        name,
        f"{entry.cost.bytes / 2**10:,.0f}",
        f"{entry.cost.bytes / entry.cost.float_bytes:.1%}",
        _number(entry.searched.cam, ".5f"),
        f"{entry.searched.flips:.1%}",
        *(_number(value, form) for value, form in zip(unseen, (".5f", ".1%", ".1%"), strict=True)),
    ]


def _show_subject(model: str, weights: WeightsRef, quant: str, pictures: int) -> None:
    label = weights.name if weights.trained else "UNTRAINED (random) weights: a sanity control"
    click.echo(f"{model}, {label}, {quant}, {count_of(pictures, 'picture')}")


def _told(drift: Drift, floor: NoiseFloor) -> str:
    multiple = _multiple(drift.cam, floor)
    parts = [f"drift {_number(drift.cam, '.5f')}"]
    if multiple is not None:
        parts.append(f"{multiple:.1f} times the noise floor")
    parts += [f"KL {drift.kl:.4f} nats", f"SQNR {_number(drift.sqnr, '.1f')} dB", f"flips {drift.flips:.1%}"]
    if drift.accuracy is not None:
        parts.append(f"top-1 {drift.accuracy:.1%}")
    return ", ".join(parts)


def _multiple(drift: float | None, floor: NoiseFloor) -> float | None:
    return drift / floor.floor if drift is not None and floor.floor else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _csv(found: Sensitivity) -> bytes:
    """Return a table of the layers in order of execution, an empty cell where there is no number."""
    sides = [(side, name) for side in ("alone", "all_but") for name in _COLUMNS]
    rows: list[list[object]] = [
        ["depth", "layer", "kind", "weights", "macs", *(f"{side}_{name}" for side, name in sides)]
    ]
    for layer in found.layers:
        cost, numbers = layer.cost, [getattr(getattr(layer, side), name) for side, name in sides]
        rows.append([layer.depth, cost.name, cost.kind, cost.weights, cost.macs, *numbers])
    return csv_bytes(rows)
