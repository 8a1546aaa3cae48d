"""What of two ONNX files does not show in a tensor's values: operators, shapes, batch norms, kernels, branches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quantviz.layerwise.diagnosis.specs import Finding
from quantviz.networks.onnx_files import FilePair
from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.grids import MOVING, grid_of, source_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Node
from quantviz.networks.onnx_files.targets import plain

INT16 = 2**15 - 1
_COPIES = frozenset({QUANTIZE, DEQUANTIZE, *MOVING, "Relu", "Clip", "LeakyRelu", "AveragePool"})
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_SHAPING = frozenset(
    {"kernel_shape", "strides", "pads", "dilations", "group", "ceil_mode", "count_include_pad", "mode"}
)
_DEFAULTS: dict[str, Any] = {"group": 1, "ceil_mode": 0, "count_include_pad": 0}
_COMPARED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Pad", "Resize"})


def file_findings(pair: FilePair, kernels: str) -> list[Finding]:
    """Return what the structure of a quantized file shows beside the float one.

    Args:
        pair: the files.
        kernels: the processor's integer instructions, as ``comparison.machine.integer_kernels`` gives them.
    """
    found = list(_different(pair))
    found += _unfolded(pair.quantized.graph)
    found += _in_float(pair)
    if kernels.startswith("x86") and "vnni" not in kernels:
        found += _overflowing(pair.quantized.graph)
    return found


def _different(pair: FilePair) -> Iterator[Finding]:
    """Yield the first operator whose attributes differ, else the first tensor whose shape does."""
    first, second = pair.reference.graph.producers, pair.quantized.graph.producers
    named = {match.float_tensor: match.quantized_tensor for match in pair.matches}
    for tensor, other in named.items():
        node, twin = first.get(tensor), _computing(second.get(other), second)
        if node is not None and twin is not None and node.op in _ACTIVATIONS and twin.op not in _ACTIVATIONS:
            node = first.get(node.inputs[0])  # the quantizer fused the activation
        if node is None or twin is None or node.op != twin.op or node.op not in _COMPARED:
            continue
        for name in sorted(_SHAPING & {*node.attributes, *twin.attributes}):
            values = [_attribute(entry, name) for entry in (node, twin)]
            if values[0] != values[1]:
                words = [value if value is not None else "none" for value in values]
                sentence = f"{node.op} {tensor} has {name} {words[0]} in float and {words[1]} in the quantized file."
                yield Finding("graph_differs", other, {}, sentence)
                return
    if pair.differences:
        entry = pair.differences[0]
        sentence = (
            f"{entry.match.float_tensor} has the shape {entry.float_shape} in float and {entry.quantized_shape} in the "
            "quantized file."
        )
        yield Finding("graph_differs", entry.match.quantized_tensor, {}, sentence)


def _computing(node: Node | None, producers: Mapping[str, Node]) -> Node | None:
    """Return the operator behind a QLinear operator's own quantizer."""
    if node is not None and node.op == QUANTIZE and "~" in node.inputs[0]:
        return producers.get(node.inputs[0])
    return node


def _attribute(node: Node, name: str) -> Any:
    value = node.attributes.get(name, _DEFAULTS.get(name))
    if name in ("pads", "strides", "dilations") and value is not None:
        value = list(value)
        neutral = [0] * len(value) if name == "pads" else [1] * len(value)
        return None if value == neutral else value
    return list(value) if isinstance(value, (list, tuple)) else value


def _unfolded(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op != "BatchNormalization":
            continue
        source = graph.producers.get(node.inputs[0])
        while source is not None and source.op in (QUANTIZE, DEQUANTIZE):
            source = graph.producers.get(source.inputs[0])
        if source is not None and source.op == "Conv":
            sentence = (
                f"A batch norm stands behind convolution {plain(source.outputs[0])} in the quantized file: the "
                "convolution is rounded before its channels are scaled."
            )
            yield Finding("batch_norm_not_folded", plain(source.outputs[0]), {}, sentence)


def _in_float(pair: FilePair) -> Iterator[Finding]:
    quantization = pair.quantized.quantization
    weighted = [entry for entry in quantization.tensors if entry.role == "weight"]
    in_float = quantization.in_float
    # A file of weights alone, or most of which is float, is not so by mistake.
    if not any(entry.role == "activation" for entry in quantization.tensors) or len(in_float) > len(weighted):
        return
    order = pair.quantized.graph.order
    places = [
        order[plain(node.outputs[0])]
        for node in pair.quantized.graph.nodes
        if node.op in ("Conv", "Gemm", "MatMul") and plain(node.outputs[0]) in order
    ]
    ends = {min(places, default=0), max(places, default=0)}
    for op, output in in_float:
        if order.get(output) not in ends:
            sentence = (
                f"{op} {output} computes in float, while {len(weighted)} other weights are on grids: values are "
                "converted before and after it."
            )
            yield Finding("left_in_float", output, {"operators_in_float": float(len(in_float))}, sentence)


def _overflowing(graph: Graph) -> Iterator[Finding]:
    """Yield the layer whose uint8 values times int8 weights can overflow the sum of two products in 16 bits most.

    Processors with AVX2 or AVX512 and without VNNI add two neighbouring products in 16 bits, which saturates.
    """
    worst: tuple[int, str] = (INT16, "")
    for node in graph.nodes:
        if node.op not in ("Conv", "Gemm", "MatMul"):
            continue
        reader, weights = (graph.producers.get(name) for name in node.inputs[:2])
        if reader is None or weights is None or reader.op != DEQUANTIZE or weights.op != DEQUANTIZE:
            continue
        source, integers = source_of(graph, reader.inputs[0]), graph.constants.get(weights.inputs[0])
        grid = None if source is None else grid_of(graph, source)
        if grid is None or grid.dtype != "uint8" or integers is None or integers.dtype != np.int8:
            continue
        rows = np.abs(integers.astype(np.int64)).reshape(len(integers), -1)
        sums = rows[:, :-1] + rows[:, 1:] if rows.shape[1] > 1 else rows
        worst = max(worst, (255 * int(sums.max(initial=0)), plain(node.outputs[0])))
    if worst[1]:
        sentence = (
            f"{worst[1]} multiplies uint8 values by int8 weights: two neighbouring products reach {worst[0]:,}, more "
            f"than the {INT16:,} that this processor, which has no VNNI, adds them up in."
        )
        yield Finding("int16_overflow", worst[1], {"sum": float(worst[0]), "threshold": float(INT16)}, sentence)


def blocks_of_files(pair: FilePair) -> Mapping[str, Sequence[int]]:
    """Return the numbers of channels of the branches that were concatenated to a tensor of the quantized file."""
    graph, shapes = pair.quantized.graph, pair.quantized.shapes
    found: dict[str, list[int]] = {}
    for node in graph.nodes:
        if node.op == "Concat" and int(node.attributes.get("axis", 0)) == 1:
            known = [shapes.get(plain(name), ()) for name in graph.data_inputs(node)]
            if all(len(shape) == 4 for shape in known) and len(known) > 1:
                found[node.outputs[0]] = [shape[1] for shape in known]
        elif node.op in _COPIES and node.inputs[0] in found:
            found[node.outputs[0]] = found[node.inputs[0]]
    return found
