"""A module in torch as a float and an int8 ONNX file, made as users make them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from quantviz.networks.onnx_files.nodes import Array

INPUT, LOGITS = "input", "logits"


def make_pair(module: nn.Module, calibration: Array, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``NAME.float.onnx`` and ``NAME.int8.onnx``, and return their paths.

    The float file is what ``torch.onnx.export`` writes by default, for one picture at a time. The int8 file is what
    ``onnxruntime.quantization`` makes of it after its own preparation: static, QDQ, weights of 8 bits symmetric per
    channel, activations of 8 bits per tensor by their extremes.

    Args:
        module: a classifier in eval mode, of (1, 3, H, W) float32.
        calibration: inputs (n, 3, H, W) float32 that ranges are taken from.
        folder: where they are written.
        name: of the files, without its ending.
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    paths = folder / f"{name}.float.onnx", folder / f"{name}.int8.onnx"
    prepared = folder / f"{name}.prepared.onnx"
    with _quiet():
        example = torch.from_numpy(calibration[:1])
        names: dict[str, Any] = {"input_names": [INPUT], "output_names": [LOGITS]}
        torch.onnx.export(module, (example,), paths[0], dynamo=True, external_data=False, verbose=False, **names)
        quant_pre_process(str(paths[0]), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(paths[1]), _reader(calibration), per_channel=True, weight_type=QuantType.QInt8
        )
    prepared.unlink()
    return paths


def _reader(calibration: Array) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(np.ascontiguousarray(entry[None]) for entry in calibration)

        def get_next(self) -> dict[str, Array] | None:
            values = next(self.left, None)
            return None if values is None else {INPUT: values}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tools' own words from the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
