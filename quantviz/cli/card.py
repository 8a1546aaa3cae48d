"""The command card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from quantviz import networks
from quantviz.cli.terminal import cache_option, progress_bar, watched_store
from quantviz.comparison import CompareRequest, Workbench, check_preprocessing
from quantviz.comparison.card_draft import Draft, check_files, draft_of_files
from quantviz.comparison.cards import float_network
from quantviz.comparison.input_grid import calibrated_otherwise
from quantviz.networks.card import is_card, parse_card
from quantviz.networks.onnx_files import open_file
from quantviz.specs import Preprocessing, Progress, UsageError

_SHOWN = 2  # pictures whose top-5 is told


@click.command("card")
@click.argument("origin", metavar="NETWORK")
@click.argument("files", nargs=-1, metavar="[QUANTIZED.onnx]...", type=click.Path(path_type=Path))
@click.option("--weights", help="Of a model: a file, the name of published weights, or untrained.")
@cache_option
def card_command(origin: str, files: tuple[Path, ...], weights: str | None, cache_dir: Path | None) -> None:
    """Write the draft of a network card for NETWORK, a float .onnx file or a model's name, to standard output.

    Redirect it into a file that ends in .toml, in this folder, and complete it:
    `quantviz card a.onnx b.onnx > net.toml`. The float network's five likeliest classes of two known photographs go to
    standard error: where they are wrong, the input is, most often. What else speaks against the input is told as well.
    """
    if is_card(origin):
        raise UsageError(f"{origin!r} is a card already; give a float .onnx file, or a model's name.")
    check_files(files)
    with watched_store(cache_dir) as store, progress_bar() as progress:
        bench = Workbench(store)
        draft = _draft(bench, origin, files, weights, progress)
        text = draft.text()
        network = float_network(bench, parse_card(text, Path("draft.toml")), progress)
        found = check_preprocessing(network)
        against = _against(draft.files, network.weights.preprocessing) or found.warning
    click.echo(text, nl=False)
    if not network.weights.trained:
        click.echo("UNTRAINED (random) weights: their classes say nothing.", err=True)
    for picture in found.pictures[:_SHOWN]:
        told = ", ".join(f"{entry.label} {entry.probability:.1%}" for entry in picture.top)
        wrong = " (NOT what is on it)" if picture.right is False and network.weights.trained else ""
        click.echo(f"{picture.picture}: {told}{wrong}", err=True)
    if against:
        click.echo(f"Warning: {against}", err=True)


def _against(files: Sequence[str], preprocessing: Preprocessing) -> str:
    """Return what the first of the quantized files that knows better says against the input; "" where none does."""
    told = (calibrated_otherwise(open_file(Path(file), size=preprocessing.size), preprocessing) for file in files)
    return next(filter(None, told), "")


def _draft(bench: Workbench, origin: str, files: Sequence[Path], weights: str | None, progress: Progress) -> Draft:
    if origin.lower().endswith(".onnx"):
        if weights is not None:
            raise UsageError(f"--weights {weights!r} goes with a model; {origin!r} has its own.")
        return draft_of_files([Path(origin), *files])
    spec = networks.spec(origin)
    subject = bench.subject(CompareRequest(origin, weights), progress)
    ref = bench.networks.load(spec, subject.located, progress).ref
    return Draft(
        name=origin.rpartition(":")[2],
        model=origin,
        weights=weights,
        float_file="",
        files=tuple(map(str, files)),
        preprocessing=subject.ref.preprocessing,
        layout="",
        layer=subject.layer,
        classes=(),
        count=ref.classes,
    )
