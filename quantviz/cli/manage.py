"""The commands that look after models, weights and the cache."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from quantviz import networks
from quantviz.cli.options import request_options, working
from quantviz.cli.terminal import cache_option, open_store, progress_bar, show, store_folder, table_of
from quantviz.comparison import CompareRequest
from quantviz.specs import QuantvizError, UsageError, WeightsUnavailable
from quantviz.store import space_taken


@click.command()
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every selectable target layer.")
def models(pattern: str, as_json: bool) -> None:
    """List the models: parameters, weights and where they are, input size, target layer.

    PATTERN picks some, with wildcards as in file names: `timm:*mobile*` and `torchvision:*` list what those libraries
    have. A model's whole name, timm:convnext_atto say, shows it as those of the table are shown.
    """
    if pattern and pattern not in networks.MODELS and (":" not in pattern or set(pattern) & set("*?[")):
        _list(pattern, as_json)
        return
    rows = [_model_row(name) for name in ([pattern] if pattern else networks.MODELS)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = table_of("model", "family", "parameters", "weights", "input", "target layer (of)")
    for row in rows:
        weights = ", ".join(f"{entry['name']} {entry['state']}" for entry in row["weights"])
        layer = f"{row['default_layer']} ({len(row['target_layers'])})"
        size = f"{row['input_size'][0]} x {row['input_size'][1]}"
        table.add_row(row["name"], row["family"], f"{row['parameters']:,}", weights, size, layer)
    show(table)


def _list(pattern: str, as_json: bool) -> None:
    """List the names that match a pattern, with what is known without making the networks."""
    found = networks.listed(pattern)
    if not found:
        raise UsageError(f"No model matches {pattern!r}; try 'timm:*' or 'torchvision:*'.")
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    table = table_of("model", "family", "parameters", "published weights")
    for entry in found:
        parameters = "" if entry.parameters is None else f"{entry.parameters:,}"
        table.add_row(entry.name, entry.family, parameters, ", ".join(entry.weights) or "none")
    show(table)


def _model_row(name: str) -> dict[str, Any]:
    from quantviz.networks.build import layers

    spec = networks.spec(name)
    return {
        "name": name,
        "family": spec.family,
        "parameters": spec.parameters,
        "weights_state": networks.weights_state(spec),
        "weights": [
            {"name": entry.name, "state": networks.weights_state(spec, entry.name), "file": entry.file}
            for entry in spec.weights
        ],
        "input_size": list(spec.weights[0].preprocessing.size),
        "default_layer": spec.layer,
        "target_layers": [
            {"name": layer.name, "kind": layer.kind, "channels": layer.channels, "grid": [layer.height, layer.width]}
            for layer in layers(spec)
        ],
    }


@click.command("fetch-weights")
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="The default weights of every model.")
@click.option("--weights", help="Name of published weights other than the default, IMAGENET1K_V2 say.")
def fetch_weights(names: tuple[str, ...], every: bool, weights: str | None) -> None:
    """Download the published weights of the models NAMES into torch hub's cache and check them."""
    if bool(names) == every:
        raise UsageError("Name the models to fetch, or use --all (not both).")
    specs = [networks.spec(name) for name in (networks.MODELS if every else names)]
    failures = []
    for spec in specs:
        try:
            with progress_bar() as progress:
                path = networks.fetch(spec, weights, progress)
            click.echo(f"{spec.name}: {path}")
        except WeightsUnavailable as error:
            failures.append(error)
    if len(failures) > 1:
        raise WeightsUnavailable(f"{len(failures)} of {len(specs)} could not be fetched; the first: {failures[0]}")
    if failures:
        raise failures[0]


@click.command()
@request_options(protocol=False, bits_file=False)
@cache_option
def prepare(request: CompareRequest, cache_dir: Path | None) -> None:
    """Export a model to ONNX, ahead of `compare --deployed` and of `compare --backend` with all but torch."""
    with working(cache_dir) as (bench, progress):
        reason = bench.backends.prepare(bench.subject(request, progress), request.quant, progress)
    if reason:
        raise QuantvizError(reason)
    click.echo(f"{request.model} is ready for ONNX Runtime.")


@click.group()
def cache() -> None:
    """Look after the cache of maps."""


@cache.command()
@cache_option
def info(cache_dir: Path | None) -> None:
    """Show where the cache is, what it holds, and what else of quantviz takes space: studies, weights."""
    if _absent(cache_dir):
        return
    with open_store(cache_dir) as store:
        found = store.info()
    click.echo(f"folder    {found.directory}")
    click.echo(f"entries   {found.entries}")
    click.echo(f"size      {found.bytes / 2**20:.1f} of {found.size_limit / 2**20:.0f} MiB")
    click.echo(f"eviction  {found.policy}")
    click.echo(f"state     {found.problem or 'healthy'}")
    for path in found.set_aside:
        click.echo(f"set aside {path}")
    folder = store_folder(cache_dir).parent
    table = table_of("what takes space", "MiB", "files", "kept", "where")
    for taken in space_taken(folder, networks.hub_folder(), found.size_limit):
        table.add_row(taken.what, f"{taken.bytes / 2**20:,.1f}", f"{taken.files:,}", taken.kept, str(taken.path))
    click.echo("")
    show(table)
    if not found.healthy:
        raise QuantvizError(found.problem)


@cache.command()
@cache_option
@click.option("--repair", is_flag=True, help="Remove what is damaged.")
def verify(cache_dir: Path | None, repair: bool) -> None:
    """Check every entry: file, size, digest, key."""
    if _absent(cache_dir):
        return
    with open_store(cache_dir) as store:
        found = store.verify(repair=repair)
    click.echo(f"{found.checked} checked, {found.good} good, {len(found.bad)} bad, {len(found.orphans)} orphans")
    for key, reason in found.bad:
        click.echo(f"{key}: {reason}")
    for path in found.orphans:
        click.echo(f"orphan: {path}")
    if repair:
        click.echo(f"{found.removed} removed")
    elif found.bad:
        raise QuantvizError(
            f"{len(found.bad)} of {found.checked} entries are damaged; run quantviz cache verify --repair."
        )


@cache.command()
@cache_option
def clear(cache_dir: Path | None) -> None:
    """Remove every entry."""
    if _absent(cache_dir):
        return
    with open_store(cache_dir) as store:
        click.echo(f"{store.clear()} entries removed")


def _absent(cache_dir: Path | None) -> bool:
    """Say so where there is no cache; looking after it must not make one."""
    folder = store_folder(cache_dir)
    if not folder.exists():
        click.echo(f"There is no cache at {folder}.")
    return not folder.exists()
