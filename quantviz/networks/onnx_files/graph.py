"""An ONNX graph as plain values: constants are no nodes, integer operators dequantize, operate and quantize."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from quantviz.networks.onnx_files import fused
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array, Node


@dataclass(frozen=True, eq=False)
class Graph:
    """A network's operations in an order in which they can run.

    Attributes:
        nodes: constants are no nodes, QLinear operators are written as QDQ, and ONNX Runtime's fused ones as ONNX's.
        constants: initializers and the values of Constant nodes, by name.
        inputs: names of the inputs that are no constants.
        outputs: names of the outputs.
        opset: version of the standard operators.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int

    @cached_property
    def producers(self) -> dict[str, Node]:
        """Tensor -> the node that gives it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Tensor -> the nodes that read it."""
        readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    readers[name].append(node)
        return dict(readers)

    @cached_property
    def fixed(self) -> set[str]:
        """The tensors that are made of constants alone."""
        names = set(self.constants)
        for node in self.nodes:
            if node.inputs and all(name in names for name in node.inputs if name):
                names.update(node.outputs)
        return names

    @cached_property
    def order(self) -> dict[str, int]:
        """Tensor -> its place among all, in the order of the nodes; inputs come first, at -1."""
        places = dict.fromkeys(self.inputs, -1)
        places |= {name: at for at, node in enumerate(self.nodes) for name in node.outputs if name}
        return places

    def constant(self, name: str) -> Array | None:
        """Return the value of a tensor that does not depend on the input, or None."""
        return self.constants.get(name) if name else None

    def data_inputs(self, node: Node) -> tuple[str, ...]:
        """Return the inputs of a node that are no constants."""
        return tuple(name for name in node.inputs if name and name not in self.constants)


def graph_of(model: Any, opset: int) -> Graph:
    """Return the graph of an ``onnx.ModelProto``.

    Args:
        model: with its external data, and without functions.
        opset: version of the standard operators.
    """
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes: list[Node] = []
    for proto in model.graph.node:
        node = Node(proto.op_type, tuple(proto.input), tuple(proto.output), _attributes(proto))
        if node.op == "Constant":
            value = _constant(node.attributes)
            if value is not None:
                constants[node.outputs[0]] = value
                continue
        nodes += normal(node, constants)
    inputs = tuple(entry.name for entry in model.graph.input if entry.name not in constants)
    return Graph(tuple(nodes), constants, inputs, tuple(entry.name for entry in model.graph.output), opset)


def _attributes(proto: Any) -> dict[str, Any]:
    from onnx import helper

    values = {entry.name: helper.get_attribute_value(entry) for entry in proto.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def _constant(attributes: Mapping[str, Any]) -> Array | None:
    from onnx import numpy_helper

    for name, value in attributes.items():
        if name == "value":
            return numpy_helper.to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    return None


def normal(node: Node, constants: dict[str, Array]) -> list[Node]:
    """Return a node as operators on real values between DequantizeLinear and QuantizeLinear; others as they are.

    Args:
        node: as it stands in the file.
        constants: the graph's; biases that lie on their layer's own grid are added.
    """
    rewrite = _REWRITES.get(node.op)
    if rewrite is None or node.attributes.get("channels_last"):
        return [node]
    return list(rewrite(node, constants))


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the nodes that stand for one."""

    node: Node

    def dequantized(self, at: int, **attributes: Any) -> tuple[Node, str]:
        """Return the node that dequantizes input ``at``, whose scale and zero point follow it, and what it gives."""
        source, scale, zero_point = self.node.inputs[at : at + 3]
        name = f"{self.node.outputs[0]}~input{at}"
        return Node(DEQUANTIZE, (source, scale, zero_point), (name,), attributes, self.node.op), name

    def operated(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None) -> Node:
        """Return the operator on real values."""
        values = self.node.attributes if attributes is None else attributes
        return Node(op, tuple(inputs), (self.real,), values, self.node.op)

    def quantized(self, scale: str, zero_point: str) -> Node:
        """Return the node that gives the output."""
        return Node(QUANTIZE, (self.real, scale, zero_point), self.node.outputs[:1], {}, self.node.op)

    @property
    def real(self) -> str:
        """Name of the output before it is quantized."""
        return f"{self.node.outputs[0]}~real"


def _unary(node: Node, _constants: dict[str, Array]) -> Iterator[Node]:
    """QLinearX(x, scale, zero point, scale, zero point of the output)."""
    write, op = _Writer(node), node.op.removeprefix("QLinear")
    attributes = {name: value for name, value in node.attributes.items() if name not in ("channels_last", "opset")}
    if "opset" in node.attributes:  # of the softmax that it stands for
        attributes["since"] = node.attributes["opset"]
    first, value = write.dequantized(0)
    yield first
    yield write.operated(op, [value], attributes)
    yield write.quantized(*node.inputs[3:5])


def _binary(node: Node, _constants: dict[str, Array]) -> Iterator[Node]:
    """QLinearX(a, scale, zero point, b, scale, zero point, scale, zero point of the output)."""
    write, op = _Writer(node), node.op.removeprefix("QLinear")
    (first, left), (second, right) = write.dequantized(0), write.dequantized(3, axis=-1 if op == "MatMul" else 1)
    yield from (first, second, write.operated(op, [left, right]), write.quantized(*node.inputs[6:8]))


def _conv(node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """QLinearConv(x, scale, zero point, w, scale, zero point, scale, zero point of the output, bias in int32)."""
    write = _Writer(node)
    (first, values), (second, weight) = write.dequantized(0), write.dequantized(3, axis=0)
    yield from (first, second)
    inputs = [values, weight]
    if len(node.inputs) > 8 and node.inputs[8]:
        bias, name = _bias(node, node.inputs[8], constants)
        inputs.append(name)
        yield bias
    yield write.operated("Conv", inputs)
    yield write.quantized(*node.inputs[6:8])


def _gemm(node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """QGemm(A, scale, zero point, B, scale, zero point, C in int32, scale, zero point of the output)."""
    write, transposed = _Writer(node), bool(node.attributes.get("transB", 0))
    (first, values), (second, weight) = write.dequantized(0), write.dequantized(3, axis=0 if transposed else 1)
    yield from (first, second)
    inputs, given = [values, weight], [*node.inputs, "", "", ""]
    if given[6]:
        bias, name = _bias(node, given[6], constants)
        inputs.append(name)
        yield bias
    if not given[7]:
        yield Node("Gemm", tuple(inputs), node.outputs, node.attributes, node.op)
        return
    yield write.operated("Gemm", inputs)
    yield write.quantized(*given[7:9])


def _bias(node: Node, name: str, constants: dict[str, Array]) -> tuple[Node, str]:
    """Return the node that dequantizes a bias, whose scale is the product of the input's and the weight's."""
    scale, real = f"{node.outputs[0]}~bias_scale", f"{node.outputs[0]}~bias"
    factors = [constants.get(node.inputs[at]) for at in (1, 4)]
    if factors[0] is not None and factors[1] is not None:
        constants[scale] = np.asarray(factors[0], np.float32) * np.asarray(factors[1], np.float32)
    return Node(DEQUANTIZE, (name, scale), (real,), {"axis": 0}, node.op), real


def _concat(node: Node, _constants: dict[str, Array]) -> Iterator[Node]:
    """QLinearConcat(scale, zero point of the output, then x, scale, zero point of each input)."""
    write = _Writer(node)
    values = []
    for at in range(2, len(node.inputs), 3):
        first, value = write.dequantized(at)
        values.append(value)
        yield first
    yield write.operated("Concat", values)
    yield write.quantized(*node.inputs[:2])


def _where(node: Node, _constants: dict[str, Array]) -> Iterator[Node]:
    """QLinearWhere(condition, x, scale, zero point, y, scale, zero point, scale, zero point of the output)."""
    write = _Writer(node)
    (first, left), (second, right) = write.dequantized(1), write.dequantized(4)
    yield from (first, second, write.operated("Where", [node.inputs[0], left, right]))
    yield write.quantized(*node.inputs[7:9])


_REWRITES = {
    **fused.REWRITES,
    "QLinearConv": _conv,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    "QLinearWhere": _where,
    **dict.fromkeys(("QLinearMatMul", "QLinearAdd", "QLinearMul"), _binary),
    **dict.fromkeys(
        (
            "QLinearGlobalAveragePool",
            "QLinearAveragePool",
            "QLinearSoftmax",
            "QLinearSigmoid",
            "QLinearLeakyRelu",
            "QLinearReduceMean",
        ),
        _unary,
    ),
}
