"""The grids that a file's values lie on, read from its QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array, Node

_LIMITS = {
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "uint2": (0, 3),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
}
# ONNX's numbers of types, for ``output_dtype``.
_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 21: "uint4", 22: "int4", 25: "uint2", 26: "int2"}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Real value = scale * (integer - zero_point), integers from quant_min to quant_max.

    Attributes:
        scale: float32; one value, one for each channel, or one for each block.
        zero_point: int64, of the scale's shape.
        dtype: of the integers, ``"uint8"``.
        axis: of the channels; None where there is one scale.
        block: values along the axis that share a scale; 0 where a whole channel does.
    """

    scale: Array
    zero_point: Array
    dtype: str
    axis: int | None = None
    block: int = 0

    @property
    def quant_min(self) -> int:
        """Least integer."""
        return _LIMITS[self.dtype][0]

    @property
    def quant_max(self) -> int:
        """Greatest integer."""
        return _LIMITS[self.dtype][1]

    @property
    def bits(self) -> int:
        """Bits of an integer."""
        return int(self.dtype.lstrip("uint"))

    @property
    def granularity(self) -> str:
        """``"per-tensor"``, ``"per-channel"`` or ``"per-block"``."""
        return "per-block" if self.block else "per-tensor" if self.axis is None else "per-channel"

    @property
    def symmetric(self) -> bool:
        """Whether zero lies in the middle of the integers."""
        return bool((self.zero_point == (0 if self.quant_min < 0 else (self.quant_max + 1) // 2)).all())

    @property
    def at_zero(self) -> bool:
        """Whether the grid begins at zero."""
        return bool((self.zero_point == self.quant_min).all())

    def same_as(self, other: Grid | None) -> bool:
        """Tell whether two grids hold the same values."""
        return (
            other is not None
            and (self.dtype, self.axis, self.block) == (other.dtype, other.axis, other.block)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def real(self, integers: Array) -> Array:
        """Return the real values, float32, of integers on a grid with one scale."""
        centred = integers.astype(np.float32)
        if zero := int(self.zero_point.flat[0]):
            centred -= np.float32(zero)
        centred *= self.scale.flat[0]
        return centred

    def integers(self, real: Array) -> Array:
        """Return the integers, of the grid's type, of real values on a grid with one scale."""
        steps = np.rint(real / self.scale.flat[0]) + self.zero_point.flat[0]
        integers: Array = steps.clip(self.quant_min, self.quant_max).astype(self.dtype)
        return integers


def grid_of(graph: Graph, node: Node) -> Grid | None:
    """Return the grid of a QuantizeLinear or DequantizeLinear; None where it is not constant or not of integers."""
    scale = graph.constant(node.inputs[1])
    zero_name = node.inputs[2] if len(node.inputs) > 2 else ""
    zero = graph.constant(zero_name)
    if node.op not in (QUANTIZE, DEQUANTIZE) or scale is None or (zero_name and zero is None):
        return None
    dtype = _dtype(graph, node, zero)
    if dtype not in _LIMITS:
        return None
    scale = np.asarray(scale, np.float32)
    block = int(node.attributes.get("block_size", 0))
    axis = None if scale.size == 1 and not block else int(node.attributes.get("axis", 1))
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64).reshape(scale.shape)
    return Grid(scale, zeros, dtype, axis, block)


def _dtype(graph: Graph, node: Node, zero: Array | None) -> str:
    if zero is not None:
        return str(zero.dtype.name)
    if node.op == QUANTIZE:
        return _TYPES.get(int(node.attributes.get("output_dtype", 0) or 2), "")
    value = graph.constant(node.inputs[0])
    if value is not None:
        return str(value.dtype.name)
    source = source_of(graph, node.inputs[0])
    return _dtype(graph, source, graph.constant((*source.inputs, "", "")[2])) if source else "uint8"


def source_of(graph: Graph, name: str) -> Node | None:
    """Return the QuantizeLinear that gives the integers of a tensor, behind operators that only move them."""
    node = graph.producers.get(name)
    while node is not None and node.op in MOVING:
        node = graph.producers.get(node.inputs[0])
    return node if node is not None and node.op == QUANTIZE else None


MOVING = frozenset(
    "Identity Flatten Reshape Squeeze Unsqueeze Transpose MaxPool Slice Gather Pad Split DepthToSpace".split()
)
"""Operators that give some of the values that they read, as they are."""
