"""ONNX Runtime's own fused operators, as its offline optimizer and its quantizers write them, in ONNX's operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from quantviz.networks.onnx_files.nodes import DEQUANTIZE, Array, Node

_FLOAT: Final = 1  # TensorProto.FLOAT
_ACTIVATIONS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}
_PARAMETERS = ("activation_alpha", "activation_beta", "activation_gamma")


def matmul_n_bits(node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """MatMulNBits(A, packed B, scales, zero points, group index, bias): B' dequantized in blocks, A times B."""
    given = [*node.inputs, "", "", ""]
    weights = _unpacked(node, constants)
    if weights is None or given[4]:
        yield node
        return
    integers, scale, zero = weights
    name, output = given[1], node.outputs[0]
    names = [name, f"{name}~scale", f"{name}~zero"]
    constants.update(zip(names, (integers, scale, zero), strict=True))
    block = {"axis": 1, "block_size": int(node.attributes["block_size"])}
    yield Node(DEQUANTIZE, tuple(names), (f"{output}~weight",), block, node.op)
    yield Node("Transpose", (f"{output}~weight",), (f"{output}~turned",), {"perm": [1, 0]}, node.op)
    product = f"{output}~product" if given[5] else output
    yield Node("MatMul", (given[0], f"{output}~turned"), (product,), {}, node.op)
    if given[5]:
        yield Node("Add", (product, given[5]), (output,), {}, node.op)


def _unpacked(node: Node, constants: Mapping[str, Array]) -> tuple[Array, Array, Array] | None:
    """Return integers (N, K), scales and zero points (N, blocks); None where they are kept in another form."""
    import ml_dtypes

    at = node.attributes
    bits, block, rows, columns = (int(at[name]) for name in ("bits", "block_size", "N", "K"))
    packed, scale = (constants.get(name) for name in node.inputs[1:3])
    zero = constants.get(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
    stays_packed = len(node.inputs) > 3 and node.inputs[3] and (zero is None or zero.dtype != np.uint8)
    if packed is None or scale is None or bits not in (2, 4, 8) or stays_packed:
        return None
    blocks = -(-columns // block)
    dtype = np.dtype({2: ml_dtypes.uint2, 4: ml_dtypes.uint4, 8: np.uint8}[bits])
    integers = packed if packed.shape == (rows, columns) else _split(packed.reshape(rows, -1), bits)[:, :columns]
    if zero is None:
        zeros = np.full((rows, blocks), 1 << (bits - 1), np.uint8)
    else:
        zeros = _split(zero.reshape(rows, -1), bits)[:, :blocks]
    return integers.astype(dtype), scale.reshape(rows, blocks), zeros.astype(dtype)


def _split(values: Array, bits: int) -> Array:
    """Return the integers of a matrix of bytes, the lowest bits of a byte first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: Array = (values.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(len(values), -1)


def dynamic_matmul(node: Node, _constants: dict[str, Array]) -> Iterator[Node]:
    """DynamicQuantizeMatMul(A, B, scale of B, zero point of B, bias)."""
    values, weight, scale, zero, bias = [*node.inputs, "", ""][:5]
    output = node.outputs[0]
    integers, step, offset = (f"{output}~{name}" for name in ("integers", "step", "offset"))
    yield Node("DynamicQuantizeLinear", (values,), (integers, step, offset), {}, node.op)
    yield from _integer_product(node, (integers, weight, offset, zero), (step, scale), bias)


def matmul_to_float(node: Node, _constants: dict[str, Array]) -> Iterator[Node]:
    """MatMulIntegerToFloat(A, B, scale of A, scale of B, zero point of A, zero point of B, bias)."""
    values, weight, step, scale, offset, zero, bias = [*node.inputs, "", "", ""][:7]
    yield from _integer_product(node, (values, weight, offset, zero), (step, scale), bias)


def _integer_product(
    node: Node, inputs: tuple[str, str, str, str], scales: tuple[str, str], bias: str
) -> Iterator[Node]:
    output = node.outputs[0]
    summed, real, both, product = (f"{output}~{name}" for name in ("summed", "real", "scale", "product"))
    yield Node("MatMulInteger", inputs, (summed,), {}, node.op)
    yield Node("Cast", (summed,), (real,), {"to": _FLOAT}, node.op)
    yield Node("Mul", scales, (both,), {}, node.op)
    yield Node("Mul", (real, both), (product if bias else output,), {}, node.op)
    if bias:
        yield Node("Add", (product, bias), (output,), {}, node.op)


def conv(node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """FusedConv(X, W, bias, Z): an activation of the convolution, to which Z is added."""
    values = [*node.inputs, "", ""]
    named = {name: value for name, value in node.attributes.items() if not name.startswith("activation")}
    output, added = node.outputs[0], values[3]
    inputs = tuple(values[:3]) if values[2] else tuple(values[:2])
    steps = [("Conv", inputs, named)]
    if added:
        steps.append(("Add", (added,), {}))
    yield from _chained(node, steps, node.attributes.get("activation_params", ()), output, constants)


def gemm(node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """FusedGemm(A, B, C): an activation of the product."""
    named = {name: value for name, value in node.attributes.items() if not name.startswith("activation")}
    given = [node.attributes[name] for name in _PARAMETERS if name in node.attributes]
    yield from _chained(node, [("Gemm", node.inputs, named)], given, node.outputs[0], constants)


def _chained(
    node: Node,
    steps: list[tuple[str, tuple[str, ...], dict[str, Any]]],
    given: Any,
    output: str,
    constants: dict[str, Array],
) -> Iterator[Node]:
    """Yield operators that each read what the one before gives, and the activation at their end."""
    kind = str(node.attributes.get("activation", ""))
    if kind:
        parameters = dict(zip(_ACTIVATIONS.get(kind, ()), given, strict=False))
        inputs: tuple[str, ...] = ()
        if kind == "Clip":  # its limits are inputs
            inputs = (f"{output}~min", f"{output}~max")
            constants.update({name: np.array(value, np.float32) for name, value in zip(inputs, given, strict=False)})
            parameters = {}
        steps = [*steps, (kind, inputs, parameters)]
    before = ""
    for at, (op, inputs, attributes) in enumerate(steps):
        result = output if at == len(steps) - 1 else f"{output}~{op.lower()}"
        yield Node(op, (before, *inputs) if before else inputs, (result,), attributes, node.op)
        before = result


REWRITES: Final = {
    "MatMulNBits": matmul_n_bits,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "MatMulIntegerToFloat": matmul_to_float,
    "FusedConv": conv,
    "FusedGemm": gemm,
}
"""Operator -> what writes it in ONNX's operators, with the graph's constants, to which some are added."""
