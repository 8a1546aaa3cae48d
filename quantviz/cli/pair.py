"""What the command compare takes for ONNX files in place of a model of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from quantviz import images
from quantviz.cli.terminal import progress_bar, watched_store
from quantviz.comparison import CompareRequest, FilesRequest, PairRequest, compare_files
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
        "also crop=224, fit=stretch, order=BGR and range=0-255. As ImageNet networks take it if not given.",
    ),
    click.option("--classes", type=click.Path(path_type=Path), help="Text file: the network's classes, a name a line."),
)
# What goes with a model of the table alone, by the command's parameter.
_OF_MODELS = {
    "model": "--model",
    "weights": "--weights",
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


def file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name ONNX files; its argument ``files`` is a ``FilesRequest``, or None."""

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
        files = None
        if float_model is not None:
            _check_alone()
            files = FilesRequest(float_model, quantized_models, request.cam.layer, input_words, classes)
        elif quantized_models or input_words:
            option = "--quantized-model" if quantized_models else "--input"
            raise UsageError(f"{option} goes with --float-model; name the float .onnx file, too.")
        elif classes is not None:
            request = replace(request, names=names_of_file(classes))
        command(files=files, request=request, **rest)

    for option in reversed(_OPTIONS):
        option(with_files)
    return with_files


def comparisons_of(
    files: FilesRequest, request: CompareRequest, image: str, cache_dir: Path | None
) -> dict[str, Comparison]:
    """Return the comparison of each quantized file with the float file, by the quantized file's name."""
    wanted = PairRequest(request.cam.method, request.target, request.saliency)
    with watched_store(cache_dir) as store, progress_bar() as progress:
        return compare_files(files, images.picture(image), wanted, store=store, progress=progress)


def _check_alone() -> None:
    context = click.get_current_context()
    for name, option in _OF_MODELS.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{option} and --float-model exclude each other; leave one out.")
