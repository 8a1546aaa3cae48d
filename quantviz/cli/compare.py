"""The command compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

import click

from quantviz import images
from quantviz.api.files import write_file
from quantviz.api.results import ComparisonResult
from quantviz.api.table import compare_by
from quantviz.cli.options import backend_option, check_outputs, request_options, show_cost, working
from quantviz.cli.pair import Pairs, file_options
from quantviz.cli.score import score_table, show_conventions, show_metrics
from quantviz.cli.terminal import Target, cache_option, emit_json, json_option, show, table_of
from quantviz.comparison import (
    SPECTRAL_RESIDUAL,
    TRUTH_KINDS,
    CompareRequest,
    FaithfulnessRow,
    Seen,
    deployed_words,
    npz_bytes,
    saliency_choice,
    truth_source,
)
from quantviz.saliency import PREDICTORS
from quantviz.specs import Comparison, Crop, Deployed, GivenQuant, QuantSpec, TruthKind

_SCORE_NAMES = {
    "quantized_v_float": "quantized v float",
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
    "deployed_v_quantized": "deployed v simulated",
    "deployed_v_float": "deployed v float",
    "deployed_v_saliency": "deployed v saliency",
}


@click.command()
@click.argument("image")
@request_options(files=True)
@file_options
@click.option(
    "--class",
    "target",
    type=Target(),
    default="float",
    show_default=True,
    help="What both maps explain: the float model's top-1, each model's own top-1, or a class index.",
)
@click.option(
    "--saliency",
    default=SPECTRAL_RESIDUAL,
    show_default=True,
    help=f"{', '.join(PREDICTORS)}, none, an .onnx network's path, or a map's path.",
)
@click.option("--metrics", help="all, or names separated by commas: score by these too, beside the baselines.")
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Ground-truth file, or a folder with one of IMAGE's stem."
)
@click.option("--truth-kind", type=click.Choice(TRUTH_KINDS), default="map", show_default=True, help="What it holds.")
@click.option(
    "--faithfulness", "faithful", is_flag=True, help="Also deletion, insertion and ROAD of each model's own map."
)
@backend_option
@click.option(
    "--deployed", is_flag=True, help="Also the quantized network on ONNX Runtime's int8 kernels, beside its simulation."
)
@click.option(
    "--crop",
    default="centre",
    show_default=True,
    metavar="centre|fit|X,Y",
    callback=lambda _context, _option, text: Crop.of_words(text),
    help="What the networks see of IMAGE: its centre; fit, the whole of it with the rest of the input filled; or the "
    "crop's place from left and top, 0 to 1 each, as 0.2,0.5.",
)
@json_option
@click.option("--png", type=click.Path(path_type=Path), help="Write the figure here.")
@click.option("--maps", type=click.Path(path_type=Path), help="Write the maps here, as .npz.")
@cache_option
def compare(
    image: str,
    request: CompareRequest,
    pairs: Pairs | None,
    target: Literal["float", "own"] | int,
    saliency: str,
    metrics: str | None,
    truth: Path | None,
    truth_kind: TruthKind,
    faithful: bool,
    backend: Literal["torch", "onnxruntime", "ncnn"],
    deployed: bool,
    crop: Crop,
    json_path: str | None,
    png: Path | None,
    maps: Path | None,
    cache_dir: Path | None,
) -> None:
    """Compare where the float and the quantized MODEL look in IMAGE, a picture's path or a bundled photograph's name.

    With --float-model and --quantized-model it is the networks of ONNX files, as they run when they are deployed.
    With --card it is the float network of a network card beside each of its variants.

    The bundled photographs: astronaut, chelsea, coffee, motorcycle, rocket, china, flower, grace_hopper.
    """
    check_outputs(json_path, png, maps)
    request = replace(
        request, target=target, saliency=saliency_choice(saliency), backend=backend, deployed=deployed, crop=crop
    )
    if pairs is not None:
        first, *others = pairs.compare(request, image, cache_dir).items()
        return _write_out(ComparisonResult(first[1], others=dict(others)), json_path, png, maps)
    source = None if truth is None else truth_source(truth, truth_kind, Path(image))
    with working(cache_dir) as (bench, progress):
        result = compare_by(
            bench,
            request,
            images.picture(image),
            metrics=metrics,
            truth=source,
            faithful=faithful,
            progress=progress,
        )
    _write_out(result, json_path, png, maps)


def _write_out(result: ComparisonResult, json_path: str | None, png: Path | None, maps: Path | None) -> None:
    if png is not None:
        from quantviz.figures import paper_png

        write_file(png, paper_png(result.comparison))
    if maps is not None:
        write_file(maps, npz_bytes(result.comparison, result.others))
    if json_path is not None:
        emit_json(result.to_dict(), json_path)
        return
    _show_comparison(result.comparison)
    for other in result.others.values():
        click.echo("")
        _show_comparison(other)
    if result.cost is not None:
        show_cost(result.cost)
    for table in result.metrics:
        show_metrics(table)
    if result.faithfulness:
        _show_faithfulness(result.faithfulness)


def _show_faithfulness(rows: Sequence[FaithfulnessRow]) -> None:
    click.echo("\nFaithfulness of each model's own map:")
    table = table_of("", *rows[0].values, "better is", "what it says")
    for row in rows:
        numbers = ["-" if mark.value is None else f"{mark.value:.4f}" for mark in row.values.values()]
        table.add_row(row.title, *numbers, "higher" if row.higher_is_better else "lower", row.explanation)
    show(table)


def _show_top_5(comparison: Comparison) -> None:
    results = {"float": comparison.reference, comparison.quant.label: comparison.quantized}
    if comparison.deployed is not None:
        results |= {"deployed": comparison.deployed.result}
    table = table_of(*(heading for name in results for heading in (f"{name} top-5", "")))
    for row in zip_longest(*(result.predictions for result in results.values())):  # networks may have fewer classes
        cells = ((entry.label, f"{entry.probability:.1%}") if entry else ("", "") for entry in row)
        table.add_row(*chain.from_iterable(cells))
    show(table)


def _show_deployed(comparison: Comparison, deployed: Deployed) -> None:
    click.echo(deployed_words(comparison))
    names = {
        "float": f"float ({comparison.backend})",
        "quantized": f"simulated ({comparison.quantized_backend})",
        "deployed": "deployed (onnxruntime)",
    }
    if deployed.milliseconds:
        taken = ", ".join(f"{names[name]} {value:.1f} ms" for name, value in deployed.milliseconds.items())
        click.echo(f"A map on this machine, when it was computed: {taken}.")


def _quantized(quant: QuantSpec | GivenQuant) -> str:
    """Return what is called quantized: its bits, and of a file its name."""
    name = quant.details.get("name") if isinstance(quant, GivenQuant) else None
    return f"{name}, {quant.label}" if name else quant.label


def _show_comparison(comparison: Comparison) -> None:
    weights, salient = comparison.weights, comparison.saliency
    label = weights.name if weights.trained else "UNTRAINED (random) weights: a sanity control"
    network = comparison.model if label == comparison.model else f"{comparison.model}, {label}"
    click.echo(f"{comparison.sample.name}: {network}, float against {_quantized(comparison.quant)}")
    rule = {"float": "the float model's top-1", "own": "each model's own top-1"}.get(
        str(comparison.class_rule), "chosen"
    )
    click.echo(
        f"{comparison.cam.method} at {comparison.cam.layer}, class {comparison.reference.class_index} ({rule})\n"
    )
    click.echo(f"At {comparison.quant.label}, {comparison.model} {comparison.verdict.sentence}\n")
    _show_top_5(comparison)
    if comparison.flipped:
        pair = (comparison.reference.predictions[0].label, comparison.quantized.predictions[0].label)
        click.echo("\nLABEL FLIP: {} -> {}".format(*pair))
    click.echo("")
    scores = {**comparison.scores, **(comparison.deployed.scores if comparison.deployed else {})}
    show(score_table({_SCORE_NAMES[name]: values for name, values in scores.items()}))
    show_conventions(comparison.reference.heatmap.values.shape)
    for name, reason in comparison.degenerate.items():
        click.echo(f"The {name} map carries no evidence ({reason}) and is not scored.")
    if salient is not None:
        click.echo(f"Saliency: {salient.source}, {'a computed prediction' if salient.predicted else 'supplied'}.")
    if comparison.deployed is not None:
        _show_deployed(comparison, comparison.deployed)
    click.echo(Seen.of(comparison.sample, comparison.weights.preprocessing).sentence)
    for note in (*comparison.sample.notes, weights.note, comparison.backend_note, *comparison.notes):
        if note:
            click.echo(f"Note: {note}")
    click.echo(f"{comparison.seconds:.2f} s{', from the cache' if comparison.cached else ''}")
