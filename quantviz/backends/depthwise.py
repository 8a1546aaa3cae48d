"""Batch norms and average poolings as convolutions of each channel by itself, which have an integer kernel.

ONNX Runtime would leave integers for the one, and takes ten times as long as for a convolution for the other. As
convolutions both are exact but for the rounding to the grid behind them: a weight has its own scale in each channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.backends.grids import ROOM, ActivationGrid, IntegerLayer

_MOST = 127


def depthwise(
    node: Any, source: ActivationGrid, constant: Callable[[str], npt.NDArray[Any]], channels: int
) -> IntegerLayer | None:
    """Return a node as a convolution with as many groups as channels; None where it is not one.

    Args:
        node: of ONNX.
        source: the grid of its input.
        constant: the value of an initializer by its name.
        channels: of its input.

    Returns:
        integers (channels, 1, k, k).
    """
    from onnx import helper

    options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "BatchNormalization" and len(node.output) == 1:
        gain, shift, mean, variance = (constant(name).astype(np.float64) for name in node.input[1:5])
        weight = gain / np.sqrt(variance + options.get("epsilon", 1e-5))
        return _affine(weight, shift - mean * weight, source)
    if node.op_type == "AveragePool" and _whole_windows(options):
        height, width = options["kernel_shape"]
        integers = np.ones((channels, 1, height, width), np.int8)
        return IntegerLayer(integers, np.full(channels, 1 / (height * width), np.float32), None, source)
    return None


def convolution(node: Any, layer: IntegerLayer, inputs: list[str], output: str) -> Any:
    """Return the Conv node in the place of one that ``depthwise`` took.

    Args:
        node: what it stands for.
        layer: from ``depthwise``.
        inputs: names of the real values of its input, weight and, if there is one, bias.
        output: name of its output.
    """
    from onnx import helper

    strides = [list(entry.ints) for entry in node.attribute if entry.name == "strides"]
    shape = layer.integers.shape
    more = {"strides": strides[0] if strides else [1, 1], "kernel_shape": list(shape[2:]), "group": shape[0]}
    return helper.make_node("Conv", inputs, [output], name=node.name, **more)


def whole_mean(node: Any, constant: Callable[[str], npt.NDArray[Any]], rank: int) -> bool:
    """Tell whether a node takes the mean over all positions and keeps their dimensions, as a global pooling does.

    A global pooling has an integer kernel. Of a mean ONNX Runtime makes none: it goes by real values, and takes six
    times as long where channels lie last.

    Args:
        node: of ONNX.
        constant: the value of an initializer by its name.
        rank: how many dimensions its input has.
    """
    from onnx import helper

    if node.op_type != "ReduceMean" or len(node.input) != 2 or rank != 4:
        return False
    options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    axes = sorted(int(axis) % rank for axis in constant(node.input[1]))
    return axes == [2, 3] and options.get("keepdims", 1) == 1


def _affine(weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], source: ActivationGrid) -> IntegerLayer:
    """Return weight * x + bias of each channel; the weight is 127 steps, or fewer where the bias needs the room."""
    step = np.maximum(np.abs(weight) / _MOST, np.abs(bias) / (ROOM * source.scale))
    step = np.maximum(step, np.finfo(np.float32).tiny).astype(np.float32)
    integers = np.rint(weight / step).astype(np.int8)[:, None, None, None]
    return IntegerLayer(integers, step, bias.astype(np.float32), source)


def _whole_windows(options: dict[str, Any]) -> bool:
    """Tell whether a two-dimensional pooling reads no padding, so that it divides by the window's size everywhere."""
    padded = any(options.get("pads", [])) or options.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    spread = any(step != 1 for step in options.get("dilations", []))
    return len(options["kernel_shape"]) == 2 and not (padded or spread or options.get("ceil_mode", 0))
