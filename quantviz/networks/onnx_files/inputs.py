"""What an ONNX file takes and gives: the picture's layout and size, and which tensor holds the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from quantviz.networks.onnx_files.files import OnnxFile
from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array
from quantviz.specs import CheckpointError

DEFAULT_SIDE: Final = 224
"""Side of the input where a file leaves it open."""

_TYPES = {1: "float32", 10: "float16"}
_LARGEST_SIDE = 2048


@dataclass(frozen=True, slots=True)
class InputForm:
    """The picture as a file takes it.

    Attributes:
        name: the input's name.
        layout: ``"NCHW"`` or ``"NHWC"``.
        sides: height and width of the picture in pixels; None where the file leaves one open.
        batch: how many pictures at once; None for any number.
        dtype: ``"float32"`` or ``"float16"``.
    """

    name: str
    layout: str
    sides: tuple[int | None, int | None]
    batch: int | None
    dtype: str

    def given(self, images: Array) -> Array:
        """Return pictures (N, 3, H, W) float32 as the file takes them."""
        values = images.transpose(0, 2, 3, 1) if self.layout == "NHWC" else images
        return np.ascontiguousarray(values, dtype=self.dtype)

    @property
    def words(self) -> str:
        """The form in a few words: "float32 NCHW, N x 3 x 224 x 224"."""
        height, width = (side or "any" for side in self.sides)
        batch = "N" if self.batch is None else self.batch
        sides = f"3 x {height} x {width}" if self.layout == "NCHW" else f"{height} x {width} x 3"
        return f"{self.dtype} {self.layout}, {batch} x {sides}"

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) where the file says both; None where it leaves one open."""
        height, width = self.sides
        return (height, width) if height and width else None

    def takes(self, size: tuple[int, int]) -> bool:
        """Tell whether the file takes pictures of a (height, width)."""
        return all(own in (None, side) for own, side in zip(self.sides, size, strict=True))

    def filled(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the file, with those of ``size`` where it leaves them open."""
        height, width = self.sides
        return height or size[0], width or size[1]


def input_of(file: OnnxFile) -> InputForm:
    """Return how a file takes a picture.

    Raises:
        CheckpointError: it does not take one RGB picture as floating point.
    """
    stored = {tensor.name for tensor in file.model.graph.initializer}
    inputs = [entry for entry in file.model.graph.input if entry.name not in stored]
    if len(inputs) != 1:
        raise CheckpointError(f"{file.name} has {len(inputs)} inputs; give a classifier that takes one picture.")
    tensor = inputs[0].type.tensor_type
    shape = [_length(entry) for entry in tensor.shape.dim]
    if tensor.elem_type not in _TYPES:
        import onnx

        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise CheckpointError(f"{file.name} takes {kind}; export it with a float32 or float16 input.")
    if len(shape) != 4 or (3 not in (shape[1], shape[3]) and None not in (shape[1], shape[3])):
        raise CheckpointError(
            f"{file.name} takes an input of shape {_words(shape)}; give a classifier of RGB pictures, N x 3 x H x W or "
            "N x H x W x 3."
        )
    if shape[0] not in (None, 1):
        raise CheckpointError(f"{file.name} takes {shape[0]} pictures at once; export it for one, or for any number.")
    layout = "NHWC" if shape[1] != 3 and shape[3] == 3 else "NCHW"
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    if any(side is not None and side > _LARGEST_SIDE for side in sides):
        raise CheckpointError(
            f"{file.name} takes an input of shape {_words(shape)}; give a network of pictures of up to "
            f"{_LARGEST_SIDE} pixels a side."
        )
    return InputForm(inputs[0].name, layout, (sides[0], sides[1]), shape[0], _TYPES[tensor.elem_type])


def _length(dimension: Any) -> int | None:
    return int(dimension.dim_value) if dimension.HasField("dim_value") and dimension.dim_value > 0 else None


def _words(shape: list[int | None]) -> str:
    return " x ".join("any" if length is None else str(length) for length in shape) or "no dimensions"


@dataclass(frozen=True, slots=True)
class Logits:
    """Where a file's class scores are.

    Attributes:
        tensor: of the graph, (N, classes), or with further dimensions of 1.
        output: the file's output that follows from them.
        softmax: whether that output is their softmax.
        classes: number of classes.
    """

    tensor: str
    output: str
    softmax: bool
    classes: int


def logits_of(graph: Graph, shapes: dict[str, tuple[int, ...]], name: str) -> Logits:
    """Return where the logits are: the first output with one score for each class, or what its softmax reads.

    Args:
        graph: of the file.
        shapes: of every tensor, for one picture.
        name: the file's, for messages.

    Raises:
        CheckpointError: no output has one score for each class.
    """
    for output in graph.outputs:
        shape = shapes.get(output, ())
        if len(shape) >= 2 and shape[0] == 1 and shape[1] > 1 and max(shape[2:], default=1) == 1:
            source = _softmax_input(graph, output)
            return Logits(source or output, output, source is not None, shape[1])
    given = ", ".join(f"{output} {shapes.get(output, ())}" for output in graph.outputs)
    raise CheckpointError(f"{name} gives {given}; give a classifier, whose output is one score for each class.")


def _softmax_input(graph: Graph, output: str) -> str | None:
    """Return what the softmax before an output reads, or None where there is none."""
    node = graph.producers.get(output)
    while node is not None and node.op in {QUANTIZE, DEQUANTIZE, "Identity", "Cast", "Flatten", "Reshape", "Squeeze"}:
        node = graph.producers.get(node.inputs[0])
    return node.inputs[0] if node is not None and node.op == "Softmax" else None
