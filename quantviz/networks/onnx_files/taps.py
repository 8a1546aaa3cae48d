"""Tensors of a float and a quantized file side by side, before and after rounding, as they run without optimization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.grids import Grid, grid_of, source_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array, Node
from quantviz.networks.onnx_files.opened import Opened
from quantviz.networks.onnx_files.pairs import FilePair
from quantviz.networks.onnx_files.quantization import WEIGHTED
from quantviz.networks.onnx_files.running import session, with_outputs
from quantviz.networks.onnx_files.targets import plain


@dataclass(frozen=True, slots=True, eq=False)
class TappedTensor:
    """A tensor that lies on a grid in the quantized file, and where its values are read.

    Attributes:
        name: in the quantized file, before QuantizeLinear.
        reader: output of the first operator that reads it.
        grid: None where the file computes it for each input.
        reference: the float file's tensor, or None where nothing stands for it.
        before: tensor of the quantized file before rounding; "" where it has none, as in QOperator files.
        after: tensor of the quantized file after rounding; integers where ``integers``.
        integers: whether ``after`` holds integers on ``grid``.
        limits: least and greatest value that the float file's activation function lets through, which the quantizer
            may have fused into the rounding; None where the tensor is not of one.
        rounded: the integers that its QuantizeLinear gives.
        nodes: names of the operators that read it, as quantizers are told them, or of an output the one that gives it;
            () where they have none.
    """

    name: str
    reader: str
    grid: Grid | None
    reference: str | None
    before: str
    after: str
    integers: bool = False
    limits: tuple[float, float] | None = None
    rounded: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A weight or a bias that is stored on a grid.

    Attributes:
        name: in the quantized file, without what the quantizer added.
        role: ``"weight"`` or ``"bias"``.
        reader: output of the operator that reads it.
        grid: of its integers.
        reference: float32, the float file's values, a batch norm behind the operator folded in where the quantized
            file has none; None where nothing stands for it.
        values: float32, what the integers stand for.
        output: the real values that its DequantizeLinear gives.
        nodes: name of the operator that reads it; () where it has none.
    """

    name: str
    role: str
    reader: str
    grid: Grid
    reference: Array | None
    values: Array
    output: str = ""
    nodes: tuple[str, ...] = ()


def tapped(pair: FilePair) -> list[TappedTensor]:
    """Return the activations on a grid, in the quantized file's order."""
    graph = pair.quantized.graph
    stands_for = {match.quantized_tensor: match.float_tensor for match in pair.matches}
    for first, second in zip(pair.reference.graph.inputs, graph.inputs, strict=False):
        stands_for[second] = first
    moved, names = _moved(graph), _names(pair.quantized)
    found: dict[str, TappedTensor] = {}
    for node in graph.nodes:
        if node.op != QUANTIZE or node.inputs[0] in graph.fixed:
            continue
        name, integers = node.inputs[0], node.outputs[0]
        direct = [reader for reader in graph.consumers.get(integers, []) if reader.op == DEQUANTIZE]
        readers = direct or moved.get(integers, [])
        if not readers:
            continue
        real = plain(name) if "~" in name else name
        reference = stands_for.get(integers if "~" in name else name) or stands_for.get(real)
        own = "~" not in name and bool(direct) and "~" not in readers[0].outputs[0]
        found[real if own else integers] = TappedTensor(
            name=real if own else integers,
            reader=_reader(graph, readers[0]),
            grid=grid_of(graph, node),
            reference=reference,
            before=name if own else "",
            after=readers[0].outputs[0] if own else integers,
            integers=not own,
            limits=limits_of(pair.reference.graph, reference),
            rounded=integers,
            nodes=_read_by(graph, readers, names) or tuple(filter(None, [names.get(real)])),
        )
    return list(found.values())


def _names(opened: Opened) -> dict[str, str]:
    """Return tensor -> the name of the operator that gives it, without what ONNX Runtime's quantizer puts behind it."""
    nodes = opened.file.model.graph.node
    return {output: node.name.removesuffix("_quant") for node in nodes for output in node.output if node.name}


def _read_by(graph: Graph, dequantizers: Sequence[Node], names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the operators that read what these nodes give."""
    found = (plain(node.outputs[0]) for one in dequantizers for node in graph.consumers.get(one.outputs[0], []))
    return tuple(dict.fromkeys(names[output] for output in found if output in names))


def _moved(graph: Graph) -> dict[str, list[Node]]:
    """Return integers -> what dequantizes them behind operators that only move them, max pooling say."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        source = source_of(graph, node.inputs[0]) if node.op == DEQUANTIZE else None
        if source is not None:
            found.setdefault(source.outputs[0], []).append(node)
    return found


def limits_of(graph: Graph, tensor: str | None) -> tuple[float, float] | None:
    """Return the least and greatest value that a float tensor's activation lets through; None where it is of none."""
    node = graph.producers.get(tensor or "")
    if node is None or node.op not in ("Relu", "Clip"):
        return None
    if node.op == "Relu":
        return 0.0, np.inf
    ends = [graph.constants.get(name) for name in (*node.inputs[1:], "", "")[:2]]
    return tuple(
        other if end is None else float(end.item()) for end, other in zip(ends, (-np.inf, np.inf), strict=True)
    )  # type: ignore[return-value]


def _reader(graph: Graph, node: Node) -> str:
    readers = graph.consumers.get(node.outputs[0], [])
    return plain(readers[0].outputs[0]) if readers else node.outputs[0]


def stored(pair: FilePair) -> list[StoredTensor]:
    """Return the weights and biases that the quantized file stores on a grid, in its order."""
    graph, other = pair.quantized.graph, pair.reference.graph
    operators, names = _operators(pair), _names(pair.quantized)
    found = []
    for node in graph.nodes:
        if node.op not in WEIGHTED:
            continue
        for place, role in ((1, "weight"), (2, "bias")):
            source = graph.producers.get(node.inputs[place]) if len(node.inputs) > place else None
            if source is None or source.op != DEQUANTIZE or source.inputs[0] not in graph.constants:
                continue
            grid = grid_of(graph, source)
            if grid is None or grid.block:
                continue
            integers = graph.constants[source.inputs[0]]
            name = source.inputs[0].removesuffix("_quantized")
            reference = _float_values(other, operators.get(plain(node.outputs[0])), name, place, integers.shape)
            values = dequantized(integers, grid)
            reader, output = plain(node.outputs[0]), source.outputs[0]
            nodes = (names[reader],) if names.get(reader) else ()
            found.append(StoredTensor(name, role, reader, grid, reference, values, output, nodes))
    return found


def dequantized(integers: Array, grid: Grid) -> Array:
    """Return the real values, float32, of integers on a grid of one scale, or of one for each channel."""
    shape = [1] * integers.ndim
    if grid.axis is not None:
        shape[grid.axis % integers.ndim] = -1
    scale, zero = (
        value.reshape(shape) if integers.ndim else value.reshape(()) for value in (grid.scale, grid.zero_point)
    )
    return ((integers.astype(np.float64) - zero) * scale).astype(np.float32)


def _operators(pair: FilePair) -> dict[str, Node]:
    """Return the float file's operator for each operator with weights of the quantized file, by its output's name."""
    first = [node for node in pair.reference.graph.nodes if node.op in WEIGHTED]
    second = [node for node in pair.quantized.graph.nodes if node.op in WEIGHTED]
    by_output = {node.outputs[0]: node for node in first}
    # Quantizers that fuse what follows an operator call the result as that called it.
    for node in pair.reference.graph.nodes:
        if node.op in _FUSED and (source := by_output.get(_fused_input(pair.reference.graph, node))) is not None:
            by_output.setdefault(node.outputs[0], source)
    found = {
        plain(node.outputs[0]): by_output[name] for node in second if (name := plain(node.outputs[0])) in by_output
    }
    for match in pair.matches:
        if match.float_tensor in by_output:
            found.setdefault(plain(match.quantized_tensor), by_output[match.float_tensor])
    if len(first) == len(second):  # in their order, where tools renamed or fused what they give
        for node, other in zip(second, first, strict=True):
            found.setdefault(plain(node.outputs[0]), other)
    return found


_FUSED = frozenset({"Relu", "Clip", "BatchNormalization", "Add"})


def _fused_input(graph: Graph, node: Node) -> str:
    """Return what an operator reads that can be fused into the one before it; "" of an addition of two tensors."""
    data = graph.data_inputs(node)
    return data[0] if len(data) == 1 else ""


def _added(graph: Graph, node: Node) -> Array | None:
    """Return the constant that is added to an operator's output, its bias once fused; None where there is none."""
    readers = graph.consumers.get(node.outputs[0], [])
    if len(readers) != 1 or readers[0].op != "Add" or not _fused_input(graph, readers[0]):
        return None
    return next(graph.constants[name] for name in readers[0].inputs if name in graph.constants)


def _float_values(graph: Graph, node: Node | None, name: str, place: int, shape: tuple[int, ...]) -> Array | None:
    if node is None:
        values = graph.constants.get(name)
        return values.astype(np.float32) if values is not None and values.shape == shape else None
    inputs = [*node.inputs, "", ""]
    weight, bias = graph.constants.get(inputs[1]), graph.constants.get(inputs[2])
    if weight is None:
        return None
    if bias is None:
        bias = _added(graph, node)
    values = weight if place == 1 else bias
    gain, offset = _batch_norm(graph, node)
    if gain is not None and offset is not None:
        if place == 1:
            values = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
        else:
            values = offset + (0 if bias is None else bias * gain)
    if values is None or values.size != int(np.prod(shape)):
        return None
    if values.shape != shape:
        values = values.T if values.T.shape == shape else values.reshape(shape)
    return np.ascontiguousarray(values, np.float32)


def _batch_norm(graph: Graph, node: Node) -> tuple[Array | None, Array | None]:
    """Return gain and offset of the batch norm that alone reads an operator's output, or None."""
    readers = graph.consumers.get(node.outputs[0], [])
    if len(readers) != 1 or readers[0].op != "BatchNormalization":
        return None, None
    values = [graph.constants.get(name) for name in readers[0].inputs[1:5]]
    if any(value is None for value in values):
        return None, None
    scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
    gain = scale / np.sqrt(variance + float(readers[0].attributes.get("epsilon", 1e-5)))
    return gain, bias - mean * gain


class PairRunner:
    """Runs two files on an input and gives tensors of both, without optimization, as ``qdq_loss_debug`` does.

    Args:
        pair: the files.
        tensors: which ones.
        threads: how many to compute in; their number decides the last bits.

    Raises:
        CheckpointError: ONNX Runtime cannot run a file.
    """

    def __init__(self, pair: FilePair, tensors: Sequence[TappedTensor], threads: int = 1) -> None:
        self._pair = pair
        self._tensors = [entry for entry in tensors if entry.reference is not None and entry.grid is not None]
        first = {entry.reference or "" for entry in self._tensors}
        second = {name for entry in self._tensors for name in (entry.before, entry.after) if name}
        self._names = sorted(first - {*pair.reference.graph.inputs}), sorted(second - {*pair.quantized.graph.inputs})
        opened = pair.reference, pair.quantized
        self._sessions = [
            session(_tapped(one, names), one.file, threads, optimized=False)
            for one, names in zip(opened, self._names, strict=True)
        ]

    def __call__(self, image: Array) -> Iterator[tuple[TappedTensor, Array, Array | None, Array]]:
        """Yield each tensor with its values: the float file's, the quantized file's before and after rounding.

        Args:
            image: (1, 3, side, side) float32, preprocessed.
        """
        first, second = self.values(image)
        for entry in self._tensors:
            assert entry.reference is not None
            assert entry.grid is not None
            after = second[entry.after]
            after = dequantized(after, entry.grid) if entry.integers else after
            before = second.get(entry.before)
            if before is not None and entry.limits is not None:
                before = before.clip(*entry.limits)
            yield entry, first[entry.reference], before, after

    def values(self, image: Array) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """Return the values of the float and of the quantized file, by tensor."""
        found = []
        for opened, names, one in zip(
            (self._pair.reference, self._pair.quantized), self._names, self._sessions, strict=True
        ):
            given = opened.form.given(image)
            entry = one.get_inputs()[0].name
            found.append({entry: given, **dict(zip(names, one.run(names, {entry: given}), strict=True))})
        return found[0], found[1]


def _tapped(opened: Opened, names: Sequence[str]) -> object:
    own = {entry.name for entry in opened.file.model.graph.output}
    return with_outputs(opened.file.model, [name for name in names if name not in own])
