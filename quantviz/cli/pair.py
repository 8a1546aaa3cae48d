"""What the command compare takes for ONNX files and network cards, in place of one simulated network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from quantviz import images
from quantviz.cli.terminal import progress_bar, watched_store
from quantviz.comparison import (
    CompareRequest,
    FilesRequest,
    PairRequest,
    Workbench,
    card_of,
    compare_card,
    compare_files,
)
from quantviz.networks.card import Card
from quantviz.networks.classes import names_of_file
from quantviz.specs import Comparison, UsageError

_OPTIONS = (
    click.option(
        "--float-model", type=click.Path(path_type=Path), help="A float .onnx file, in place of --model; see inspect."
    ),
    click.option(
        "--quantized-model",
        "quantized_models",
        multiple=True,
        type=click.Path(path_type=Path),
        help="The quantized .onnx file beside --float-model; may be given more than once.",
    ),
    click.option(
        "--input",
        "input_words",
        default="",
        help="How a picture becomes the files' input: resize=256,mean=0.5/0.5/0.5,std=0.5,interpolation=bicubic; "
        "also crop=224, or 224x320 (height first), fit=stretch or pad, place=0.5/0.2, order=BGR and range=0-255. As "
        "ImageNet networks take it if not given.",
    ),
    click.option("--classes", type=click.Path(path_type=Path), help="Text file: the network's classes, a name a line."),
)
# What goes with a model of the table alone, by the command's parameter.
_OF_MODELS = {
    "model": "--model",
    "card": "--card",
    "weights": "--weights",
    "bits": "--bits",
    "weight_bits": "--weight-bits",
    "act_bits": "--act-bits",
    "scheme": "--scheme",
    "ranges": "--ranges",
    "protocol": "--protocol",
    "bits_file": "--bits-file",
    "calibration": "--calibration",
    "metrics": "--metrics",
    "truth": "--truth",
    "faithful": "--faithfulness",
    "backend": "--backend",
    "deployed": "--deployed",
}


# What is given of one simulated network alone.
_OF_ONE = ("metrics", "truth", "faithful", "backend", "deployed")
_BITS = ("bits", "weight_bits", "act_bits", "bits_file")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Several comparisons of one float network: ONNX files, or the variants of a network card.

    Attributes:
        files: the files; None for a card.
        card: the card; None for files.
        classes: of a card of ONNX files: the file of class names, in place of the card's.
    """

    files: FilesRequest | None = None
    card: Card | None = None
    classes: Path | None = None

    def compare(self, request: CompareRequest, image: str, cache_dir: Path | None) -> dict[str, Comparison]:
        """Return the comparison of each variant, by its name.

        Raises:
            as ``compare_files`` and ``compare_card``.
        """
        sample = images.picture(image)
        with watched_store(cache_dir) as store, progress_bar() as progress:
            if self.card is not None:
                bench = Workbench(store)
                return compare_card(bench, self.card, request, sample, progress, classes=self.classes)
            assert self.files is not None
            wanted = PairRequest(request.cam.method, request.target, request.saliency, crop=request.crop)
            return compare_files(self.files, sample, wanted, store=store, progress=progress)


def file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name ONNX files; its argument ``pairs`` is a ``Pairs``, or None."""

    @wraps(command)
    def with_files(
        *,
        float_model: Path | None,
        quantized_models: tuple[Path, ...],
        input_words: str,
        classes: Path | None,
        request: CompareRequest,
        **rest: Any,
    ) -> None:
        pairs, card = None, card_of(request.model)
        if float_model is not None:
            _check_alone(_OF_MODELS, "--float-model")
            files = FilesRequest(float_model, quantized_models, request.cam.layer, input_words, classes)
            pairs = Pairs(files)
        elif quantized_models or input_words:
            option = "--quantized-model" if quantized_models else "--input"
            raise UsageError(f"{option} goes with --float-model; name the float .onnx file, too.")
        elif card is not None and card.float_file is not None:
            named = {name: option for name, option in _OF_MODELS.items() if name not in ("model", "card")}
            _check_alone(named, f"a card of ONNX files, {card.path.name!r},")
            pairs = Pairs(card=card, classes=classes)
        elif classes is not None:
            request = replace(request, names=names_of_file(classes))
        if card is not None and card.float_file is None and card.variants and not any(map(_is_given, _BITS)):
            _check_alone({name: _OF_MODELS[name] for name in _OF_ONE}, "a card's variants without --weight-bits")
            pairs = Pairs(card=card)
        command(pairs=pairs, request=request, **rest)

    for option in reversed(_OPTIONS):
        option(with_files)
    return with_files


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _check_alone(options: Mapping[str, str], what: str) -> None:
    for name, option in options.items():
        if _is_given(name):
            raise UsageError(f"{option} and {what} exclude each other; leave one out.")
