"""The command inspect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from quantviz.api.files import check_writable
from quantviz.cli.terminal import count_of, emit_json, json_option, show, table_of
from quantviz.networks.onnx_files import FilePair, Opened, describe, describe_pair, open_file, pair_of
from quantviz.specs import UsageError

_SHOWN = 12


@click.command("inspect")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Show every quantized and every matched tensor.")
@json_option
def inspect_command(files: tuple[Path, ...], everything: bool, json_path: str | None) -> None:
    """Tell what an ONNX file takes, what of it is quantized on which grids, and where a map can be taken.

    With a second file, the quantized one of the pair, also which tensors of the two are the same, and what differs.
    """
    if len(files) > 2:
        raise UsageError(f"{len(files)} files were given; give a float file, or a float and a quantized file.")
    if json_path not in (None, "-"):
        check_writable(Path(str(json_path)))
    opened = [open_file(path) for path in files]
    pair = pair_of(*opened) if len(opened) == 2 else None
    if json_path is not None:
        found: dict[str, Any] = {"files": [describe(entry) for entry in opened]}
        emit_json(found | {"pair": describe_pair(pair) if pair else None}, json_path)
        return
    for entry in opened:
        _show_file(entry, everything)
    if pair is not None:
        _show_pair(pair, everything)


def _show_file(opened: Opened, everything: bool) -> None:
    told = describe(opened)
    softmax = ", before the softmax at the end" if told["logits"]["output_is_softmax"] else ""
    click.echo(f"{told['file']}: opset {told['opset']}, {told['format']}, {told['bits']}")
    click.echo(f"Input {told['input']['name']}: {opened.form.words}")
    click.echo(f"Logits {told['logits']['tensor']}: {told['logits']['classes']} classes{softmax}")
    click.echo("Operators: " + ", ".join(f"{count} {name}" for name, count in told["operators"].items()))
    _show_tensors(told["quantized"], everything)
    if told["quantized"] and told["float"]:
        names = [f"{entry['operator']} {entry['tensor']}" for entry in told["float"]]
        click.echo(f"Computed in float: {_some(names, everything)}")
    table = table_of("candidate layer", "operator", "channels x rows x columns", "")
    for layer in told["layers"]["candidates"]:
        mark = f"default: {told['layers']['rule']}" if layer["tensor"] == told["layers"]["default"] else ""
        table.add_row(layer["tensor"], layer["operator"], " x ".join(map(str, layer["shape"])), mark)
    click.echo("")
    show(table)
    click.echo("")


def _show_tensors(tensors: list[dict[str, Any]], everything: bool) -> None:
    if not tensors:
        return
    kinds = Counter(_kind(entry) for entry in tensors)
    click.echo("Quantized: " + "; ".join(f"{count} {kind}" for kind, count in kinds.items()))
    table = table_of("quantized tensor", "role", "bits", "granularity", "scale", "zero point", "stored")
    shown = tensors if everything else tensors[:_SHOWN]
    for entry in shown:
        grid = entry["grid"]
        if grid is None:
            cells = ["computed for each input" if entry["dynamic"] else "own form", "", ""]
        else:
            cells = [grid["granularity"], _range(grid["scale"], "{:.4g}"), _range(grid["zero_point"], "{}")]
        kind = grid["dtype"] if grid else ""
        table.add_row(entry["tensor"], entry["role"], f"{entry['bits']} {kind}".strip(), *cells, entry["stored"] or "")
    click.echo("")
    show(table)
    if len(shown) < len(tensors):
        click.echo(f"... and {len(tensors) - len(shown)} more; --all shows them.")


def _kind(entry: dict[str, Any]) -> str:
    grid = entry["grid"]
    form = f"{grid['dtype']}, {grid['granularity']}" if grid else "for each input" if entry["dynamic"] else "own form"
    stored = ", rounded when it runs" if entry["stored"] == "float" else ""
    return f"{entry['role']} ({entry['bits']} bits: {form}{stored})"


def _show_pair(pair: FilePair, everything: bool) -> None:
    told = describe_pair(pair)
    click.echo(f"Matched {count_of(len(told['matches']), 'tensor')} of the two files:")
    table = table_of("float", "quantized", "how", "same shape")
    shown = told["matches"] if everything else told["matches"][-_SHOWN:]
    for match in shown:
        table.add_row(match["float"], match["quantized"], match["how"], "yes" if match["same_shape"] else "NO")
    show(table)
    if len(shown) < len(told["matches"]):
        click.echo(f"The last {len(shown)}; --all shows every one.")
    for finding in told["findings"]:
        click.echo(f"FINDING: {finding}")


def _range(values: list[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def _some(names: list[str], everything: bool) -> str:
    shown = names if everything else names[:_SHOWN]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
