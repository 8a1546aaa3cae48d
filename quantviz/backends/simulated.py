"""An exported network with rounded weights and inputs, in float32: what the simulation computes, on ONNX Runtime.

Weights and biases are the simulated network's own. The input of each of its layers is put on the layer's grid by
QuantizeLinear and DequantizeLinear, behind a Clip where the grid has fewer values than the integers' type. The session
must not fuse those into integer kernels (``Session``'s ``fuse_integers``): the convolutions between them then read
and write float32, as in the simulation.

QuantizeLinear divides by the scale where the simulation multiplies by its inverse, and float32 sums depend on their
order. So a value next to the middle between two levels may come to lie on the other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.backends.split import NotSplittableError

_PREFIX: Final = "network."
_WEIGHTED: Final = frozenset({"Conv", "Gemm", "MatMul"})
_TYPES: Final = (np.uint8, np.int8, np.uint16, np.int16)
_OWN_OPERATIONS: Final = "com.microsoft"  # whose QuantizeLinear knows 16 bits in a model of any version


@dataclass(frozen=True, slots=True)
class InputGrid:
    """A per-tensor grid of a layer's input: real value = scale * (integer - zero_point).

    Attributes:
        scale: greater than 0.
        zero_point: in [quant_min, quant_max].
        quant_min: least integer, -32768 or more.
        quant_max: greatest integer, 65535 at most, and less where ``quant_min`` is negative.
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedLayer:
    """A convolution or linear layer as the simulated network has it.

    Attributes:
        weight: float32 (out_channels, ...), on its grid.
        bias: float32 (out_channels,), or None.
        source: the grid of the layer's input; None where it stays in float.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None
    source: InputGrid | None


def simulated_model(model: bytes, layers: Mapping[str, SimulatedLayer]) -> bytes:
    """Return an exported float network with the weights and the rounding of a simulated one.

    Args:
        model: from ``exported``, of the float network that was rounded.
        layers: every quantized layer of the simulated network, by dotted name.

    Returns:
        An ONNX model with the same input and outputs, float32.

    Raises:
        NotSplittableError: a convolution or a product with weights is none of ``layers``.
    """
    import onnx

    proto = onnx.load_from_string(model)
    writer = _Writer(proto, layers)
    for node in list(proto.graph.node):
        writer.add(node)
    return writer.saved()


def rounded_inputs(model: bytes) -> dict[str, str]:
    """Return the tensors of a ``simulated_model`` that are on a grid, each with the layer that reads it first."""
    import onnx

    graph = onnx.load_from_string(model).graph
    rounded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _WEIGHTED and node.input[0] in rounded:
            found.setdefault(node.input[0], _layer_name(node))
    return found


class _Writer:
    """The new graph, node by node."""

    def __init__(self, proto: Any, layers: Mapping[str, SimulatedLayer]) -> None:
        self.proto = proto
        self.layers = layers
        self.constants = {entry.name: entry for entry in proto.graph.initializer}
        self.nodes: list[Any] = []
        self._rounded: dict[tuple[str, InputGrid], str] = {}

    def add(self, node: Any) -> None:
        """Add a node, its weight and input rounded where the simulated network does so."""
        import onnx

        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        weighted = node.op_type in _WEIGHTED and any(name in self.constants for name in node.input[:2])
        if weighted:
            name = _layer_name(node)
            layer = self.layers.get(name)
            if layer is None or not _is_plain(node):
                raise NotSplittableError(f"Node {node.name!r} ({node.op_type}) has weights that no layer has.")
            if layer.source is not None:
                copied.input[0] = self._on_grid(node.input[0], layer.source)
            self._set(f"{_PREFIX}{name}.weight", layer.weight)
            if layer.bias is not None:
                del copied.input[2:]
                copied.input.append(f"{_PREFIX}{name}.bias")
                self._set(f"{_PREFIX}{name}.bias", layer.bias)
        self.nodes.append(copied)

    def saved(self) -> bytes:
        """Return the model."""
        graph = self.proto.graph
        used = {name for node in self.nodes for name in node.input}
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(entry for name, entry in self.constants.items() if name in used)
        if any(node.domain == _OWN_OPERATIONS for node in self.nodes):
            self.proto.opset_import.add(domain=_OWN_OPERATIONS, version=1)
        data: bytes = self.proto.SerializeToString()
        return data

    def _set(self, name: str, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def _on_grid(self, source: str, grid: InputGrid) -> str:
        """Return the tensor that is ``source`` on a grid; it is rounded once for each grid."""
        if (source, grid) not in self._rounded:
            self._rounded[source, grid] = self._round(f"{source}.grid{len(self._rounded)}", source, grid)
        return self._rounded[source, grid]

    def _round(self, name: str, source: str, grid: InputGrid) -> str:
        from onnx import helper

        kind = _type_of(grid)
        limits, scale = np.iinfo(kind), np.float32(grid.scale)
        if (grid.quant_min, grid.quant_max) != (limits.min, limits.max):
            ends = [
                self._set(f"{name}.{which}", np.array(np.float32(end - grid.zero_point) * scale, np.float32))
                for which, end in (("low", grid.quant_min), ("high", grid.quant_max))
            ]
            self.nodes.append(helper.make_node("Clip", [source, *ends], [f"{name}.clipped"]))
            source = f"{name}.clipped"
        inputs = [
            self._set(f"{name}.scale", np.array(scale)),
            self._set(f"{name}.zero_point", np.array(grid.zero_point, kind)),
        ]
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, *inputs], [f"{name}.integers"], domain=_OWN_OPERATIONS),
            helper.make_node(
                "DequantizeLinear", [f"{name}.integers", *inputs], [f"{name}.real"], domain=_OWN_OPERATIONS
            ),
        ]
        return f"{name}.real"


def _layer_name(node: Any) -> str:
    return str(node.input[1]).removeprefix(_PREFIX).removesuffix(".weight")


def _type_of(grid: InputGrid) -> type[np.integer[Any]]:
    """Return the smallest type of integers that holds a grid."""
    for kind in _TYPES:
        limits = np.iinfo(kind)
        if limits.min <= grid.quant_min and grid.quant_max <= limits.max:
            return kind
    raise NotSplittableError(f"A grid from {grid.quant_min} to {grid.quant_max} fits into no 16 bits.")


def _is_plain(node: Any) -> bool:
    """Tell whether a node multiplies its input by the layer's weight as it is."""
    from onnx import helper

    if node.op_type == "Conv":
        return True
    options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    return node.op_type == "Gemm" and {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | options == usual
