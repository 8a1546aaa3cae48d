"""The command line. Exit status: 0 done, 2 wrong use, 1 anything else, each with one line on standard error."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from quantviz import __version__, images, scores, zoo
from quantviz.pipeline import SPECTRAL_RESIDUAL, CompareRequest, Workbench, npz_bytes, report
from quantviz.specs import (
    CAM_METHODS,
    MAX_BITS,
    MIN_BITS,
    CamSpec,
    Comparison,
    Progress,
    QuantSpec,
    QuantvizError,
    Scores,
    UsageError,
    WeightsUnavailable,
    no_progress,
)
from quantviz.store import TensorStore, default_directory

_SCORE_NAMES = {
    "quantized_v_float": "quantized v float",
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
}


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        cli.main(prog_name="quantviz", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), 2 if isinstance(error, click.UsageError) else 1)
    except QuantvizError as error:
        _fail(str(error), error.exit_status)
    except (click.Abort, KeyboardInterrupt):
        _fail("Interrupted.", 1)
    except BrokenPipeError:
        # Whoever read standard output has gone; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("QUANTVIZ_DEBUG"):
            raise
        _fail(f"Unexpected {type(error).__name__}: {error}; QUANTVIZ_DEBUG=1 shows where.", 1)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    print("quantviz: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


class _Bits(click.ParamType[int | None]):
    """A bit-width; ``none`` where activations may stay in float."""

    name = "bits"

    def __init__(self, optional: bool) -> None:
        self.optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if self.optional and str(value).lower() == "none":
            return None
        try:
            bits = int(value)
        except ValueError:
            bits = -1
        if not MIN_BITS <= bits <= MAX_BITS:
            choice = f"{MIN_BITS} to {MAX_BITS}" + (" or none" if self.optional else "")
            self.fail(f"{value!r} is no bit-width; use {choice}.", param, ctx)
        return bits


class _Target(click.ParamType[Literal["float", "own"] | int]):
    """The class to explain."""

    name = "class"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Literal["float", "own"] | int:
        if value == "float" or value == "own":
            found: Literal["float", "own"] = value
            return found
        if not str(value).isascii() or not str(value).isdigit():
            self.fail(f"{value!r} is no class; use float, own, or a class index.", param, ctx)
        return int(value)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="quantviz")
def cli() -> None:
    """When a network is quantized, does it still look at the same things?"""


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every selectable target layer.")
def models(as_json: bool) -> None:
    """List the models: parameters, weights and where they are, input size, target layer."""
    rows = [_model_row(name) for name in zoo.MODELS]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = _table("model", "family", "parameters", "weights", "input", "target layer (of)")
    for row in rows:
        weights = ", ".join(f"{entry['name']} {entry['state']}" for entry in row["weights"])
        layer = f"{row['default_layer']} ({len(row['target_layers'])})"
        size = f"{row['input_size'][0]} x {row['input_size'][1]}"
        table.add_row(row["name"], row["family"], f"{row['parameters']:,}", weights, size, layer)
    _show(table)


def _model_row(name: str) -> dict[str, Any]:
    from quantviz.zoo.build import layers

    spec = zoo.spec(name)
    side = spec.weights[0].preprocessing.crop
    return {
        "name": name,
        "family": spec.family,
        "parameters": spec.parameters,
        "weights_state": zoo.state(spec),
        "weights": [
            {"name": entry.name, "state": zoo.state(spec, entry.name), "file": entry.file} for entry in spec.weights
        ],
        "input_size": [side, side],
        "default_layer": spec.layer,
        "target_layers": [
            {"name": layer.name, "kind": layer.kind, "channels": layer.channels, "grid": [layer.height, layer.width]}
            for layer in layers(spec)
        ],
    }


@cli.command()
@click.argument("image")
@click.option("--model", default=zoo.DEFAULT_MODEL, show_default=True, help="A name that `quantviz models` lists.")
@click.option("--weights", help="A .safetensors or .pth file, the name of published weights, or untrained.")
@click.option("--weight-bits", type=_Bits(False), default=8, show_default=True, help="2 to 16.")
@click.option("--act-bits", type=_Bits(True), default="8", show_default=True, help="2 to 16, or none for weight-only.")
@click.option("--cam", "method", default="gradcam++", show_default=True, help=f"One of {', '.join(CAM_METHODS)}.")
@click.option("--layer", help="Target layer by name; the model's default if not given.")
@click.option(
    "--class",
    "target",
    type=_Target(),
    default="float",
    show_default=True,
    help="What both maps explain: the float model's top-1, each model's own top-1, or a class index.",
)
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of pictures; bundled ones if not given.")
@click.option(
    "--saliency", default=SPECTRAL_RESIDUAL, show_default=True, help="spectral_residual, none, or a map's path."
)
@click.option("--json", "json_path", help="Write the result as JSON to this path, or to standard output for -.")
@click.option("--png", type=click.Path(path_type=Path), help="Write the figure here.")
@click.option("--maps", type=click.Path(path_type=Path), help="Write the maps here, as .npz.")
@click.option("--cache", "cache_dir", type=click.Path(path_type=Path), help="Cache folder; QUANTVIZ_CACHE otherwise.")
def compare(
    image: str,
    model: str,
    weights: str | None,
    weight_bits: int,
    act_bits: int | None,
    method: str,
    layer: str | None,
    target: Literal["float", "own"] | int,
    calibration: Path | None,
    saliency: str,
    json_path: str | None,
    png: Path | None,
    maps: Path | None,
    cache_dir: Path | None,
) -> None:
    """Compare where the float and the quantized MODEL look in IMAGE, a picture's path or a bundled photograph's name.

    The bundled photographs: astronaut, chelsea, coffee, motorcycle, rocket, china, flower, grace_hopper.
    """
    for path in (Path(json_path) if json_path and json_path != "-" else None, png, maps):
        _check_writable(path)
    request = CompareRequest(
        model=model,
        weights=weights,
        quant=QuantSpec(weight_bits, act_bits),
        cam=CamSpec(method, layer),
        target=target,
        calibration=calibration,
        saliency=None if saliency == "none" else saliency if saliency == SPECTRAL_RESIDUAL else Path(saliency),
    )
    sample = images.bundled(image) if image in images.BUNDLED and not Path(image).exists() else images.load(Path(image))
    with _store(cache_dir) as store, _progress() as progress:
        found = Workbench(store).compare(request, sample, progress)
    if png is not None:
        from quantviz.figures import paper_png

        _write(png, paper_png(found))
    if maps is not None:
        _write(maps, npz_bytes(found))
    if json_path is None:
        _show_comparison(found)
    else:
        _emit_json(report(found), json_path)


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "json_path", help="Write the result as JSON to this path, or to standard output for -.")
def score(a: Path, b: Path, json_path: str | None) -> None:
    """Score map A against map B, the ground truth: .npy arrays or greyscale pictures.

    Where only the scale differs, A is resized to B's resolution.
    """
    _check_writable(Path(json_path) if json_path and json_path != "-" else None)
    first, second = images.read_map(a), images.read_map(b)
    resized = first.shape != second.shape
    if resized:
        first = images.resize_map(first, second.shape)
    marks = scores.compare(first, second)
    degenerate = {
        name: reason for name, values in (("a", first), ("b", second)) if (reason := scores.degenerate(values))
    }
    if json_path is not None:
        result = {
            "a": str(a),
            "b": str(b),
            "scores": {"sim": marks.sim, "cc": marks.cc, "kld": marks.kld},
            "score_conventions": dict(scores.CONVENTIONS),
            "score_resolution": list(second.shape),
            "a_resized": resized,
            "degenerate": degenerate,
        }
        _emit_json(result, json_path)
        return
    _show(_score_table({f"{a.name} v {b.name}": marks}))
    _show_conventions(second.shape)
    if resized:
        click.echo(f"{a.name} was resized to the resolution of {b.name}.")
    for name, reason in degenerate.items():
        click.echo(f"Map {name} carries no evidence ({reason}) and is not scored.")


@cli.command("fetch-weights")
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="The default weights of every model.")
@click.option("--weights", help="Name of published weights other than the default, IMAGENET1K_V2 say.")
def fetch_weights(names: tuple[str, ...], every: bool, weights: str | None) -> None:
    """Download the published weights of the models NAMES into torch hub's cache and check them."""
    if bool(names) == every:
        raise UsageError("Name the models to fetch, or use --all (not both).")
    specs = [zoo.spec(name) for name in (zoo.MODELS if every else names)]
    failures = []
    for spec in specs:
        try:
            with _progress() as progress:
                path = zoo.fetch(spec, weights, progress)
            click.echo(f"{spec.name}: {path}")
        except WeightsUnavailable as error:
            failures.append(error)
    if len(failures) > 1:
        raise WeightsUnavailable(f"{len(failures)} of {len(specs)} could not be fetched; the first: {failures[0]}")
    if failures:
        raise failures[0]


@cli.group()
def cache() -> None:
    """Look after the cache of maps."""


_cache_option = click.option(
    "--cache", "cache_dir", type=click.Path(path_type=Path), help="Cache folder; QUANTVIZ_CACHE otherwise."
)


@cache.command()
@_cache_option
def info(cache_dir: Path | None) -> None:
    """Show where the cache is and what it holds."""
    with _store(cache_dir) as store:
        found = store.info()
    click.echo(f"folder    {found.directory}")
    click.echo(f"entries   {found.entries}")
    click.echo(f"size      {found.bytes / 2**20:.1f} of {found.size_limit / 2**20:.0f} MiB")
    click.echo(f"eviction  {found.policy}")
    click.echo(f"state     {found.problem or 'healthy'}")
    for path in found.set_aside:
        click.echo(f"set aside {path}")
    if not found.healthy:
        raise QuantvizError(found.problem)


@cache.command()
@_cache_option
@click.option("--repair", is_flag=True, help="Remove what is damaged.")
def verify(cache_dir: Path | None, repair: bool) -> None:
    """Check every entry: file, size, digest, key."""
    with _store(cache_dir) as store:
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
@_cache_option
def clear(cache_dir: Path | None) -> None:
    """Remove every entry."""
    with _store(cache_dir) as store:
        click.echo(f"{store.clear()} entries removed")


def _store(folder: Path | None) -> TensorStore:
    return TensorStore((folder or default_directory()) / "tensors")


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show progress on standard error where a person watches it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield no_progress
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Starting", total=None)

        def tell(message: str, fraction: float | None = None) -> None:
            bar.update(task, description=message, total=None if fraction is None else 1.0, completed=fraction or 0.0)

        yield tell


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _show(table: Table) -> None:
    console = Console(highlight=False)
    # A table that goes to a file or a pipe is not cut to a screen that is not there.
    console.width = max(console.width, 140) if not console.is_terminal else console.width
    console.print(table)


def _score_table(found: dict[str, Scores]) -> Table:
    table = _table("", "SIM", "CC", "KLD")
    for name, marks in found.items():
        table.add_row(name, *("-" if mark is None else f"{mark:.4f}" for mark in (marks.sim, marks.cc, marks.kld)))
    return table


def _show_conventions(shape: tuple[int, ...]) -> None:
    click.echo(f"\nScored at {shape[1]} x {shape[0]} pixels.")
    for name, sentence in scores.CONVENTIONS.items():
        click.echo(f"{name.upper()}: {sentence}")


def _show_comparison(found: Comparison) -> None:
    weights, salient = found.weights, found.saliency
    label = weights.name if weights.trained else "UNTRAINED (random) weights: a sanity control"
    click.echo(f"{found.sample.name}: {found.model}, {label}, float against {found.quant.label}")
    rule = {"float": "the float model's top-1", "own": "each model's own top-1"}.get(str(found.class_rule), "chosen")
    click.echo(f"{found.cam.method} at {found.cam.layer}, class {found.reference.class_index} ({rule})\n")
    table = _table("float top-5", "", f"{found.quant.label} top-5", "")
    for left, right in zip(found.reference.predictions, found.quantized.predictions, strict=True):
        table.add_row(left.label, f"{left.probability:.1%}", right.label, f"{right.probability:.1%}")
    _show(table)
    if found.flipped:
        pair = (found.reference.predictions[0].label, found.quantized.predictions[0].label)
        click.echo("\nLABEL FLIP: {} -> {}".format(*pair))
    click.echo("")
    _show(_score_table({_SCORE_NAMES[name]: marks for name, marks in found.scores.items()}))
    _show_conventions(found.reference.heatmap.values.shape)
    for name, reason in found.degenerate.items():
        click.echo(f"The {name} map carries no evidence ({reason}) and is not scored.")
    if salient is not None:
        click.echo(f"Saliency: {salient.source}, {'a computed prediction' if salient.predicted else 'supplied'}.")
    for note in (*found.sample.notes, weights.note):
        if note:
            click.echo(f"Note: {note}")
    click.echo(f"{found.seconds:.2f} s{', from the cache' if found.cached else ''}")


def _emit_json(value: dict[str, Any], path: str) -> None:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if path == "-":
        click.echo(text, nl=False)
    else:
        _write(Path(path), text.encode())


def _check_writable(path: Path | None) -> None:
    """Refuse an output path that cannot be written before anything is computed."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"Output {str(path)!r} is a folder; name a file.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"Folder {str(path.absolute().parent)!r} does not exist; make it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"Folder {str(path.absolute().parent)!r} is not writable; choose another.")


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise QuantvizError(f"{str(path)!r} could not be written: {error.strerror}.") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
