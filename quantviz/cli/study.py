"""The commands that make a study: sweep and merge."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from quantviz.api.files import check_writable
from quantviz.cli.stopping import stoppable
from quantviz.cli.terminal import (
    RenamedOption,
    cache_option,
    progress_bar,
    watched_store,
)
from quantviz.comparison import TRUTH_KINDS, card_of
from quantviz.networks.classes import names_of_file
from quantviz.specs import (
    CALIBRATED,
    CAM_METHODS,
    DEVIATIONS,
    GIVEN,
    PRESETS,
    RANGE_METHODS,
    SCHEME_WORDS,
    CamSpec,
    UsageError,
    parse_bits,
    spec_of,
)
from quantviz.study.planning import BATCH, SWEEP_BACKENDS, SweepRequest

if TYPE_CHECKING:
    from quantviz.study.sweep.run import Swept

_INTERRUPTED = "Interrupted; what was done is kept, and the same command goes on from there."


@click.command("sweep")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--models",
    metavar="NAMES",
    help="Names that `quantviz models` lists, timm:NAME, torchvision:NAME, network cards (.toml); by commas.",
)
@click.option(
    "--card", "cards", multiple=True, metavar="FILE.toml", help="A network card, as among --models; more than once."
)
@click.option(
    "--bits",
    default="8",
    show_default=True,
    metavar="BITS",
    help="16, 8, W4 (weight-only), A8 (activations only) or W4A8, say; by commas. Those of network cards if not given.",
)
@click.option(
    "--weights", multiple=True, metavar="MODEL=CHOICE", help="A file, published weights or untrained; for each model."
)
@click.option(
    "--scheme",
    default="standard",
    show_default=True,
    metavar="WORDS",
    help=f"One of {', '.join(PRESETS)}; or words of {', '.join(SCHEME_WORDS)}; separated by commas.",
)
@click.option("--ranges", type=click.Choice(RANGE_METHODS), help="As the scheme says if not given.")
@click.option(
    "--protocols",
    default=CALIBRATED,
    show_default=True,
    help="calibrated, paper, deployed (W8A8 on integer kernels, beside its simulation), or calibrated+NAME+NAME with "
    f"names from {', '.join(DEVIATIONS)}; by commas.",
)
@click.option("--cam", "method", default="gradcam++", show_default=True, help=f"One of {', '.join(CAM_METHODS)}.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="[MODEL=]NAME",
    help="Target layer of a model, or without MODEL= of every model; each model's default if not given.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of ground truth, paired with the pictures by stem.",
)
@click.option("--truth-kind", type=click.Choice(TRUTH_KINDS), default="map", show_default=True, help="What it holds.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV of file,label: the pictures' classes, by name or index; by the folders' names if not given.",
)
@click.option(
    "--classes", type=click.Path(path_type=Path), metavar="FILE", help="Text file: the classes, a name a line."
)
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of pictures; bundled ones if not given.")
@click.option("--limit", type=click.IntRange(min=1), help="Take at most so many pictures, evenly spaced.")
@click.option("--seed", type=click.IntRange(min=0), help="Draw the pictures of --limit at random by this seed.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=BATCH, show_default=True, help="Pictures that are kept at a time."
)
@click.option(
    "--backend",
    type=click.Choice(SWEEP_BACKENDS),
    default="torch",
    show_default=True,
    help="What computes the float and the simulated networks but for their gradients. onnxruntime is quicker, and "
    "exports each model first, once.",
)
@click.option(
    "--faithfulness",
    "faithful",
    is_flag=True,
    help="With deletion, insertion and ROAD of the float and the quantized network's own map; many times as long.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="STUDY", help="The study's folder.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, of one thread each."
)
@click.option(
    "--executor",
    cls=RenamedOption,
    old="--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="Workers on this machine, or on a Ray cluster, whose machines see the same folders.",
)
@click.option("--address", metavar="HOST:PORT", help="A running Ray cluster, or auto; one on this machine otherwise.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Compute the I-th of N shares into a folder of its own; `quantviz merge` puts the shares together.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write how the sweep goes (running, stopped, failed, finished) to this JSON file, for programs.",
)
@cache_option
def sweep_command(
    out: Path,
    workers: int,
    executor: Any,
    address: str | None,
    shard: str | None,
    state: Path | None,
    cache_dir: Path | None,
    **asked: Any,
) -> None:
    """Compare float and quantized networks on every picture of the folder DATASET, and keep the results in STUDY.

    Network cards bring files and bits of their own: files stand beside the bits that are simulated of a model, and
    beside the float file of a card of ONNX files, of which nothing is simulated.

    Interrupted or killed, the same command goes on where it was, to the same results. A picture that cannot be used is
    recorded with the reason. Pictures in folders that are named as a class, or as ImageNet's synsets (n02123045), have
    labels, and so have ILSVRC's validation pictures where its annotations, LOC_val_solution.csv or its devkit lie in
    the same tree; DATASET may be the top of that tree. --labels gives others.
    """
    from quantviz.study.sweep.state import stated

    check_writable(state)
    with stated(state):
        request = _request(**asked)
        # Here, because Arrow takes a fifth of a second to import.
        from quantviz.study.sweep.executor import Executor
        from quantviz.study.sweep.merge import parse_shard
        from quantviz.study.sweep.run import sweep

        crew, part = Executor(executor, workers, address), None if shard is None else parse_shard(shard)
        with stoppable(_INTERRUPTED, partial(_withdraw, out, state)):
            with watched_store(cache_dir) as store, progress_bar() as progress:
                swept = sweep(request, out, store, progress, executor=crew, shard=part)
    _show_result(swept, out, shard)


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="STUDY", help="The study's new folder.")
def merge_command(shards: tuple[Path, ...], out: Path) -> None:
    """Make the study of which every SHARD is a share, made by `quantviz sweep --shard`, each in a folder of its own.

    The results are the same to the byte as those of one sweep. Where a shard is missing or was not finished, nothing is
    written, and the message gives the command that makes it.
    """
    from quantviz.study.sweep.merge import merge

    with stoppable("Interrupted; the same command goes on from there.", lambda: None):
        with progress_bar() as progress:
            plan = merge(shards, out, progress)
    click.echo(f"Study {out} is finished ({plan.size}). Sum it up by: quantviz summary {shlex.quote(str(out))}")


def _withdraw(out: Path, state: Path | None) -> None:
    """Leave the folder and the state file of a sweep that is interrupted."""
    from quantviz.study.sweep.run import withdraw
    from quantviz.study.sweep.state import JobState, write_state

    if state is not None:
        write_state(state, JobState.STOPPED, _INTERRUPTED)
    withdraw(out)


def _show_result(swept: Swept, out: Path, shard: str | None) -> None:
    """Show the result of a sweep, and the next command."""
    plan = swept.plan
    for note in plan.notes:
        click.echo(note)
    state = f"{swept.computed} of {swept.pieces} pieces computed" if swept.computed else "nothing to compute"
    speed = f", {swept.rate:.2f} images/s" if swept.rate else ""
    if plan.shard is None:
        name, then = f"Study {out}", f"Sum it up by: quantviz summary {shlex.quote(str(out))}"
    else:
        name = f"Shard {shard} of the study, {out},"
        then = "It has no results of its own; put all shards together by: quantviz merge SHARD... --out STUDY"
    click.echo(f"{name} is finished ({plan.size}; {state}{speed}). {then}")


def _request(
    models: str | None,
    cards: tuple[str, ...],
    bits: str,
    weights: tuple[str, ...],
    scheme: str,
    ranges: Any,
    protocols: str,
    method: str,
    layers: tuple[str, ...],
    classes: Path | None,
    **rest: Any,
) -> SweepRequest:
    names = (*(_words(models) if models else ()), *cards)
    if not names:
        raise UsageError("No model is given; name one or more by --models, or a network card by --card.")
    widths, run_under = _variants(names, bits, protocols)
    return SweepRequest(
        models=names,
        quants=tuple(spec_of(scheme, *parse_bits(width), ranges=ranges) for width in widths),
        weights=weights_of(weights),
        layers=_layers(layers, names),
        protocols=run_under,
        cam=CamSpec(method),
        names=() if classes is None else names_of_file(classes),
        command=_command(),
        **rest,
    )


def _variants(names: Sequence[str], bits: str, protocols: str) -> tuple[Sequence[str], tuple[str, ...]]:
    """Return the bits to simulate, () where nothing is simulated, and the protocols.

    Bits that are not given are those of the network cards, if they have some. Cards that have files alone add none.
    """
    cards = {name: card_of(name) for name in names}
    in_torch = [name for name, card in cards.items() if card is None or card.float_file is None]
    asked = [option for option in ("bits", "protocols") if _is_given(option)]
    files = (GIVEN,) if any(card is not None and card.files for card in cards.values()) else ()
    if not in_torch and asked:
        raise UsageError(
            f"--{asked[0]} simulates networks in torch, and {names[0]} is of ONNX files; leave it out, or add a model."
        )
    own = dict.fromkeys(width for card in cards.values() if card is not None for width in card.bits)
    plain = [name for name in in_torch if (card := cards[name]) is None or not card.variants]
    if not (asked or own or plain):
        return (), (GIVEN,)
    widths = bits.split(",") if _is_given("bits") or not own else list(own)
    words = _words(protocols)
    return widths, (*words, *(name for name in files if name not in words))


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def weights_of(given: Sequence[str]) -> dict[str, str]:
    """Return model -> weights of entries MODEL=CHOICE.

    Raises:
        UsageError: an entry is none, or names a model again.
    """
    return _by_model("Weights", given)


def _by_model(what: str, given: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in given:
        name, mark, choice = entry.partition("=")
        if not mark or not choice:
            raise UsageError(f"{what} {entry!r} name no model; write MODEL=CHOICE, vgg16=untrained say.")
        if name in values:
            raise UsageError(f"{what} of {name!r} are given twice; give them once.")
        values[name] = choice
    return values


def _layers(given: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """Return the layer of each model that has one of its own; a bare name is of every model not named otherwise."""
    bare = [entry for entry in given if "=" not in entry]
    if len(bare) > 1:
        raise UsageError(f"Layers {bare[0]!r} and {bare[1]!r} are both of every model; write MODEL=NAME.")
    every = dict.fromkeys(models, bare[0]) if bare else {}
    return every | _by_model("Layers", [entry for entry in given if "=" in entry])


def _command() -> str:
    """Return the command line that was given, in the order of the options, without those that change no result."""
    context = click.get_current_context()
    words = ["quantviz", "sweep"]
    for param in context.command.params:
        value = context.params.get(str(param.name))
        given = context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if not given or param.name in ("cache_dir", "state"):
            continue
        for entry in value if isinstance(value, tuple) else (value,):
            words += [str(entry)] if isinstance(param, click.Argument) else [param.opts[0], str(entry)]
    return shlex.join(words)
