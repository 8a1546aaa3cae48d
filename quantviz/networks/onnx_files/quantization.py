"""What of a file is quantized, at which bits and on which grids, and what stayed float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.grids import MOVING, Grid, grid_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Node
from quantviz.networks.onnx_files.targets import plain

WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "ConvInteger": 0, "MatMulInteger": 1}
"""Operators with weights."""

_PACKED = {"MatMulNBits": "bits", "MatMulBnb4": ""}


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A tensor that lies on a grid.

    Attributes:
        tensor: its name in the file.
        role: what it is.
        bits: of its integers.
        grid: None where the file computes it for each input, or keeps it in a form of its own.
        stored: of weights, ``"integers"`` or ``"float"``, rounded when the network runs.
        dynamic: whether the grid is computed for each input.
    """

    tensor: str
    role: Literal["activation", "weight", "bias"]
    bits: int
    grid: Grid | None
    stored: str = ""
    dynamic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """How a file is quantized.

    Attributes:
        format: ``"float"``, ``"float16"``, ``"QDQ"``, ``"QOperator"``, ``"dynamic"`` or ``"weight-only"``; several
            are joined by ``+``.
        tensors: that lie on a grid, in the order of the file.
        in_float: operators with weights that compute in float: operator and output.
        operators: number of operators in the file by kind, the most frequent first.
    """

    format: str
    tensors: tuple[QuantizedTensor, ...]
    in_float: tuple[tuple[str, str], ...]
    operators: dict[str, int]

    @property
    def label(self) -> str:
        """Bits of weights and activations: "W8A8", "W4-8A16", "W8A32" where activations stay float; or the format."""
        weights = sorted({entry.bits for entry in self.tensors if entry.role == "weight"})
        acts = sorted({entry.bits for entry in self.tensors if entry.role == "activation"})
        if not weights and not acts:
            return "FP16" if self.format == "float16" else "FP32"
        return f"W{_span(weights)}A{_span(acts)}"


def _span(bits: list[int]) -> str:
    return "32" if not bits else "-".join(dict.fromkeys((str(bits[0]), str(bits[-1]))))


def quantization_of(graph: Graph, operators: dict[str, int]) -> Quantization:
    """Return how a file is quantized.

    Args:
        graph: of the file.
        operators: number of operators in the file by kind.
    """
    tensors: dict[tuple[str, str], QuantizedTensor] = {}
    for node in graph.nodes:
        for entry in _tensors(graph, node):
            tensors.setdefault((entry.tensor, entry.role), entry)
    in_float = [(node.op, plain(node.outputs[0])) for node in graph.nodes if _computes_in_float(graph, node)]
    return Quantization(_format(graph, tuple(tensors.values())), tuple(tensors.values()), tuple(in_float), operators)


def operators_of(model: object) -> dict[str, int]:
    """Return the number of operators of an ``onnx.ModelProto`` by kind, the most frequent first; constants are none."""
    nodes = model.graph.node  # type: ignore[attr-defined]
    return dict(Counter(node.op_type for node in nodes if node.op_type != "Constant").most_common())


def _tensors(graph: Graph, node: Node) -> Iterator[QuantizedTensor]:
    if node.op == QUANTIZE:
        source = node.inputs[0]
        grid = grid_of(graph, node)
        bits = grid.bits if grid is not None else 8
        if source in graph.constants:
            yield QuantizedTensor(source, "weight", bits, grid, "float")
        else:
            yield QuantizedTensor(plain(node.outputs[0] if "~" in source else source), "activation", bits, grid)
    elif node.op == DEQUANTIZE and node.inputs[0] in graph.constants:
        yield from _stored(graph, node)
    elif node.op == "DynamicQuantizeLinear":
        yield QuantizedTensor(node.inputs[0], "activation", 8, None, dynamic=True)
    elif node.op in ("ConvInteger", "MatMulInteger") and node.inputs[1] in graph.constants:
        yield QuantizedTensor(node.inputs[1], "weight", 8, _integer_grid(graph, node), "integers")
    elif node.op in _PACKED:
        bits = int(node.attributes.get(_PACKED[node.op], 4))
        yield QuantizedTensor(node.inputs[1], "weight", bits, None, "integers")


def _stored(graph: Graph, node: Node) -> Iterator[QuantizedTensor]:
    """Yield an initializer that is dequantized: a weight, or a bias in 32 bits."""
    values = graph.constants[node.inputs[0]]
    if values.dtype == np.int32:
        scale = graph.constant(node.inputs[1])
        axis = None if scale is None or scale.size == 1 else 0
        grid = None if scale is None else Grid(scale.astype(np.float32), np.zeros(scale.shape, np.int64), "int32", axis)
        yield QuantizedTensor(node.inputs[0], "bias", 32, grid, "integers")
        return
    grid = grid_of(graph, node)
    if grid is not None:
        yield QuantizedTensor(node.inputs[0], "weight", grid.bits, grid, "integers")


def _integer_grid(graph: Graph, node: Node) -> Grid | None:
    """Return the grid of an integer operator's weight, whose scale stands in the multiplication behind it."""
    values, zero = graph.constants[node.inputs[1]], graph.constant((*node.inputs, "", "")[3])
    axis = 0 if node.op == "ConvInteger" else values.ndim - 1
    for cast in graph.consumers.get(node.outputs[0], []):
        for product in graph.consumers.get(cast.outputs[0], []):
            for scales in (graph.producers[name] for name in product.inputs if name in graph.producers):
                for scale in (graph.constants[name] for name in scales.inputs if name in graph.constants):
                    return _grid(scale, zero, values.dtype.name, axis)
    return None


def _grid(scale: np.ndarray, zero: np.ndarray | None, dtype: str, axis: int) -> Grid:
    zeros = np.zeros(scale.size, np.int64) if zero is None else np.broadcast_to(zero.astype(np.int64), scale.size)
    return Grid(scale.astype(np.float32).ravel(), zeros, dtype, None if scale.size == 1 else axis)


def _computes_in_float(graph: Graph, node: Node) -> bool:
    """Tell whether an operator with weights reads values that were not quantized."""
    if node.op not in WEIGHTED or node.op.endswith("Integer"):
        return node.op in _PACKED
    return not all(_is_quantized(graph, name) for name in node.inputs[:2])


def _is_quantized(graph: Graph, name: str) -> bool:
    node = graph.producers.get(name)
    while node is not None and node.op in MOVING:
        node = graph.producers.get(node.inputs[0])
    return node is not None and node.op == DEQUANTIZE


def _format(graph: Graph, tensors: tuple[QuantizedTensor, ...]) -> str:
    parts = []
    activations = [entry for entry in tensors if entry.role == "activation" and not entry.dynamic]
    if any(node.origin.startswith("Q") for node in graph.nodes):
        parts.append("QOperator")
    elif activations:
        parts.append("QDQ")
    if any(entry.dynamic for entry in tensors):
        parts.append("dynamic")
    if not parts and any(entry.role == "weight" for entry in tensors):
        parts.append("weight-only")
    half = sum(value.size for value in graph.constants.values() if value.dtype == np.float16)
    single = sum(value.size for value in graph.constants.values() if value.dtype == np.float32)
    if half > single:
        parts.append("float16")
    return "+".join(parts) or "float"
