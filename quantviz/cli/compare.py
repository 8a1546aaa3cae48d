"""The commands that score: compare and score."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
from rich.table import Table

from quantviz import images, scores, zoo
from quantviz.cli.terminal import (
    Bits,
    Target,
    cache_option,
    check_writable,
    emit_json,
    json_option,
    open_store,
    progress_bar,
    show,
    table_of,
    write_file,
)
from quantviz.pipeline import SPECTRAL_RESIDUAL, CompareRequest, Workbench, npz_bytes, report
from quantviz.specs import CAM_METHODS, CamSpec, Comparison, QuantSpec, Scores

_SCORE_NAMES = {
    "quantized_v_float": "quantized v float",
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
}


@click.command()
@click.argument("image")
@click.option("--model", default=zoo.DEFAULT_MODEL, show_default=True, help="A name that `quantviz models` lists.")
@click.option("--weights", help="A .safetensors or .pth file, the name of published weights, or untrained.")
@click.option("--weight-bits", type=Bits(False), default=8, show_default=True, help="2 to 16.")
@click.option("--act-bits", type=Bits(True), default="8", show_default=True, help="2 to 16, or none for weight-only.")
@click.option("--cam", "method", default="gradcam++", show_default=True, help=f"One of {', '.join(CAM_METHODS)}.")
@click.option("--layer", help="Target layer by name; the model's default if not given.")
@click.option(
    "--class",
    "target",
    type=Target(),
    default="float",
    show_default=True,
    help="What both maps explain: the float model's top-1, each model's own top-1, or a class index.",
)
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of pictures; bundled ones if not given.")
@click.option(
    "--saliency", default=SPECTRAL_RESIDUAL, show_default=True, help="spectral_residual, none, or a map's path."
)
@json_option
@click.option("--png", type=click.Path(path_type=Path), help="Write the figure here.")
@click.option("--maps", type=click.Path(path_type=Path), help="Write the maps here, as .npz.")
@cache_option
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
        check_writable(path)
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
    with open_store(cache_dir) as store, progress_bar() as progress:
        found = Workbench(store).compare(request, sample, progress)
    if png is not None:
        from quantviz.figures import paper_png

        write_file(png, paper_png(found))
    if maps is not None:
        write_file(maps, npz_bytes(found))
    if json_path is None:
        _show_comparison(found)
    else:
        emit_json(report(found), json_path)


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def score(a: Path, b: Path, json_path: str | None) -> None:
    """Score map A against map B, the ground truth: .npy arrays or greyscale pictures.

    Where only the scale differs, A is resized to B's resolution.
    """
    check_writable(Path(json_path) if json_path and json_path != "-" else None)
    given, second = images.read_map(a), images.read_map(b)
    resized = given.shape != second.shape
    first = images.resize_map(given, (second.shape[0], second.shape[1])) if resized else given
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
        emit_json(result, json_path)
        return
    show(_score_table({f"{a.name} v {b.name}": marks}))
    _show_conventions(second.shape)
    if resized:
        click.echo(f"{a.name} was resized to the resolution of {b.name}.")
    for name, reason in degenerate.items():
        click.echo(f"Map {name} carries no evidence ({reason}) and is not scored.")


def _score_table(found: dict[str, Scores]) -> Table:
    table = table_of("", "SIM", "CC", "KLD")
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
    table = table_of("float top-5", "", f"{found.quant.label} top-5", "")
    for left, right in zip(found.reference.predictions, found.quantized.predictions, strict=True):
        table.add_row(left.label, f"{left.probability:.1%}", right.label, f"{right.probability:.1%}")
    show(table)
    if found.flipped:
        pair = (found.reference.predictions[0].label, found.quantized.predictions[0].label)
        click.echo("\nLABEL FLIP: {} -> {}".format(*pair))
    click.echo("")
    show(_score_table({_SCORE_NAMES[name]: marks for name, marks in found.scores.items()}))
    _show_conventions(found.reference.heatmap.values.shape)
    for name, reason in found.degenerate.items():
        click.echo(f"The {name} map carries no evidence ({reason}) and is not scored.")
    if salient is not None:
        click.echo(f"Saliency: {salient.source}, {'a computed prediction' if salient.predicted else 'supplied'}.")
    for note in (*found.sample.notes, weights.note):
        if note:
            click.echo(f"Note: {note}")
    click.echo(f"{found.seconds:.2f} s{', from the cache' if found.cached else ''}")
