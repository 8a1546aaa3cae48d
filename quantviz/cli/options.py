"""What several commands take: options and the request they make, pictures, a place for results, a workbench."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from quantviz import images, networks
from quantviz.api.files import check_writable
from quantviz.cli.terminal import Bits, RenamedOption, progress_bar, watched_store
from quantviz.comparison import BACKENDS, CompareRequest, Workbench, card_of
from quantviz.layerwise.bits_file import quant_of_file
from quantviz.layerwise.pictures import dataset
from quantviz.networks.card import is_card
from quantviz.specs import (
    CALIBRATED,
    CAM_METHODS,
    DEVIATIONS,
    PRESETS,
    RANGE_METHODS,
    SCHEME_WORDS,
    CamSpec,
    Cost,
    ImageSample,
    Progress,
    QuantSpec,
    UsageError,
    parse_bits,
    spec_of,
)

Command = Callable[..., None]

_SHOWN = 3  # pairs of equal pictures that a message names

_IN_FILE = {
    "weight_bits": "--weight-bits",
    "act_bits": "--act-bits",
    "scheme": "--scheme",
    "ranges": "--ranges",
}

# What says bits in another way than --bits does.
_OTHER_BITS = {"weight_bits": "--weight-bits", "act_bits": "--act-bits", "bits_file": "--bits-file"}

_BITS = click.option(
    "--bits", help="Both widths in one word: 8 for W8A8, W4A8, W4 for weights only, A8 for activations only."
)

_MODEL = (
    click.option(
        "--model",
        default=networks.DEFAULT_MODEL,
        show_default=True,
        help="A name that `quantviz models` lists, timm:NAME, torchvision:NAME, package.module:function, or a "
        "network card (.toml).",
    ),
    click.option("--card", metavar="FILE.toml", help="A network card, the same as --model FILE.toml."),
    click.option(
        "--weights",
        help="A checkpoint's file, the name of published weights, or untrained; FILE#ENTRY picks one of several.",
    ),
)
_MAP = (
    click.option("--cam", "method", default="gradcam++", show_default=True, help=f"One of {', '.join(CAM_METHODS)}."),
    click.option("--layer", help="Target layer by name; the model's default if not given."),
    click.option(
        "--calibration", type=click.Path(path_type=Path), help="Folder of pictures; bundled ones if not given."
    ),
)

backend_option = click.option(
    "--backend",
    cls=RenamedOption,
    old="--engine",
    type=click.Choice(BACKENDS),
    default="torch",
    show_default=True,
    help="What computes the networks but for their gradients; all but torch have to export the float one first, once. "
    "onnxruntime runs the float and the simulated network; ncnn the float one alone, 3 x 3 convolutions (VGG16) in "
    "half the time.",
)

limit_option = click.option(
    "--limit", type=click.IntRange(min=1), help="Take at most so many pictures of a folder, evenly spaced."
)


def request_options(
    *, weight_bits: bool = True, protocol: bool = True, bits_file: bool = True, files: bool = False
) -> Callable[[Command], Command]:
    """Give a command the options that say which model is quantized how and which map is taken.

    The command is called with one argument ``request``, a ``CompareRequest``, in place of them. Stands above the
    command's own options.

    Args:
        weight_bits: with ``--weight-bits`` and ``--bits``; else the request has the default.
        protocol: with ``--protocol``; else the request is of the calibrated one.
        bits_file: with ``--bits-file``.
        files: the command takes cards of ONNX files as well.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_request(
            *,
            model: str,
            card: str | None,
            weights: str | None,
            method: str,
            layer: str | None,
            calibration: Path | None,
            scheme: str,
            ranges: Any,
            protocol: str = CALIBRATED,
            bits_file: Path | None = None,
            **rest: Any,
        ) -> None:
            model = _checked_model(model, card, files)
            quant = spec_of(scheme, *_widths(rest), ranges=ranges, protocol=protocol)
            quant = quant if bits_file is None else _from_file(bits_file, model, weights, protocol)
            request = CompareRequest(model, weights, quant, CamSpec(method, layer), calibration=calibration)
            command(request=request, **rest)

        for option in reversed([*_MODEL, *_quantization(weight_bits, protocol, bits_file), *_MAP]):
            option(with_request)
        return with_request

    return decorate


def samples_of(places: Sequence[str], limit: int | None, model: str = "") -> list[ImageSample]:
    """Return the pictures that a user named: files, folders, and bundled photographs, in their order.

    Args:
        places: paths and names.
        limit: at most so many of each folder, evenly spaced.
        model: whose classes the folders may be called as, where a network card names them; "" for ImageNet's.

    Raises:
        ImageError: a picture cannot be used.
    """
    found: list[ImageSample] = []
    names = networks.spec(model).class_names if model else ()
    for place in places:
        if place in images.BUNDLED and not Path(place).exists():
            found.append(images.bundled(place))
        else:
            found += dataset(Path(place), limit, names)
            for note in images.left_out(Path(place)) if Path(place).is_dir() else ():
                click.echo(f"Note: {note}", err=True)
    seen: dict[str, str] = {}
    same = []
    for sample in found:
        if sample.id in seen:
            same.append(f"{sample.name!r} and {seen[sample.id]!r}")
        seen.setdefault(sample.id, sample.name)
    if same:
        more = f", and {len(same) - _SHOWN} more pairs" if len(same) > _SHOWN else ""
        click.echo(
            f"Pictures {', '.join(same[:_SHOWN])}{more} are the same; each is computed once and counts for each file.",
            err=True,
        )
    return found


def check_outputs(*paths: str | Path | None) -> None:
    """Refuse what cannot be written before anything is computed; None and ``-``, standard output, can.

    Raises:
        UsageError: a folder, a folder that does not exist, or one that is not writable.
    """
    for path in paths:
        if path not in (None, "-"):
            check_writable(Path(str(path)))


@contextmanager
def working(cache_dir: Path | None) -> Iterator[tuple[Workbench, Progress]]:
    """Open a workbench on the cache folder, or on the default one, and show progress where a person watches it."""
    with watched_store(cache_dir) as store, progress_bar() as progress:
        yield Workbench(store), progress


def show_cost(cost: Cost) -> None:
    """Print size, MACs and bit operations, and what part of the float network's they are."""
    click.echo(
        f"Size {cost.bytes / 2**10:,.0f} KiB ({cost.bytes / cost.float_bytes:.1%} of float), "
        f"{cost.macs / 1e6:,.0f} M multiply-accumulates, "
        f"{cost.bops / 1e9:,.2f} G bit operations ({cost.bops / cost.float_bops:.1%} of float)"
    )


def _checked_model(model: str, card: str | None, files: bool) -> str:
    """Return the model's name, which may be a card's path; ``files``: one of ONNX files is taken as well."""
    if card is not None:
        if not is_card(card):
            raise UsageError(f"Card {card!r} does not end in .toml; name a network card, or the model by --model.")
        if click.get_current_context().get_parameter_source("model") is ParameterSource.COMMANDLINE:
            raise UsageError("--model and --card exclude each other; leave one out.")
        model = card
    read = card_of(model)
    if not files or read is None or read.float_file is None:
        networks.spec(model)
    return model


def _quantization(weight_bits: bool, protocol: bool, bits_file: bool) -> list[Any]:
    act_bits = click.option(
        "--act-bits", type=Bits(True), default="8", show_default=True, help="2 to 16, or none for weight-only."
    )
    scheme = click.option(
        "--scheme",
        default="standard",
        show_default=True,
        metavar="WORDS",
        help=f"One of {', '.join(PRESETS)}; or words of {', '.join(SCHEME_WORDS)}; separated by commas.",
    )
    ranges = click.option(
        "--ranges",
        type=click.Choice(RANGE_METHODS),
        help="How activation ranges are set from the calibration pictures; as the scheme says if not given.",
    )
    found = [act_bits, scheme, ranges]
    if weight_bits:
        bits = click.option(
            "--weight-bits",
            type=Bits(True),
            default="8",
            show_default=True,
            help="2 to 16, or none for activations only.",
        )
        found = [_BITS, bits, *found]
    if protocol:
        found.append(
            click.option(
                "--protocol",
                default=CALIBRATED,
                show_default=True,
                help=f"calibrated, paper, or calibrated+NAME+NAME with names from {', '.join(DEVIATIONS)}.",
            )
        )
    if bits_file:
        found.append(
            click.option(
                "--bits-file",
                type=click.Path(path_type=Path),
                help="Scheme and bits of single layers, as `quantviz search` writes them; in place of "
                "--weight-bits, --act-bits, --scheme and --ranges.",
            )
        )
    return found


def _widths(given: dict[str, Any]) -> tuple[int | None, int | None]:
    """Take the options of bits out of what is given; return the (weight bits, activation bits)."""
    weight_bits, act_bits, bits = given.pop("weight_bits", 8), given.pop("act_bits"), given.pop("bits", None)
    if bits is None:
        return weight_bits, act_bits
    context = click.get_current_context()
    for name, option in _OTHER_BITS.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--bits {bits} and {option} exclude each other; leave one out.")
    return parse_bits(bits)


def _from_file(path: Path, model: str, weights: str | None, protocol: str) -> QuantSpec:
    context = click.get_current_context()
    for name, option in _IN_FILE.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{option} and --bits-file {str(path)!r} exclude each other; leave one out.")
    quant, note = quant_of_file(path, model, weights)
    if note:
        click.echo(f"Note: {note}", err=True)
    return replace(quant, protocol=protocol)
