"""Where a file is cut for a map: how the target is read, and what else the part behind it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.grids import grid_of, source_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array, Node
from quantviz.networks.onnx_files.running import Tap


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A network parted at a tensor.

    Attributes:
        target: how the target's activation is read; with a grid, its integers are.
        start: name in the graph of the tensor that is cut.
        beside: what else is read of what is before, in the order of ``nodes``.
        nodes: the operations behind, up to the logits.
        logits: name of the tensor that holds the logits.
    """

    target: Tap
    start: str
    beside: tuple[Tap, ...]
    nodes: tuple[Node, ...]
    logits: str

    @property
    def words(self) -> str:
        """How the target is read, in words."""
        if self.target.grid is None:
            return self.target.tensor
        return f"{self.target.tensor} ({self.target.grid.dtype}, dequantized)"


def cuts(graph: Graph, target: str, logits: str) -> Iterator[Cut]:
    """Yield the ways to part a network at a tensor, the one first that should change least of how it runs.

    A quantized activation is read behind its QuantizeLinear: its integers are what ONNX Runtime's fused kernels give.
    To ask for the real values before it would take these kernels apart; so would a second reader of the integers,
    where they have one alone.

    Args:
        graph: of the file.
        target: name of the target, as ``targets`` gives it.
        logits: name of the tensor that holds the logits.
    """
    for tap in _representations(graph, target):
        nodes = between(graph, tap.tensor, logits)
        if nodes:
            beside = tuple(_taps(graph, tap.tensor, nodes))
            yield Cut(tap, tap.tensor, beside, nodes, logits)


def between(graph: Graph, start: str, end: str) -> tuple[Node, ...]:
    """Return the nodes that the end needs and that follow from the start, in their order; () where none do.

    What follows from neither the start nor the input (constants computed by nodes) is part of them.
    """
    after: set[str] = {start}
    for node in graph.nodes:
        if not after.isdisjoint(node.inputs):
            after.update(node.outputs)
    if end not in after or end == start:
        return ()
    needed: set[str] = set()
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name in needed or name == start or name in graph.constants:
            continue
        needed.add(name)
        source = graph.producers.get(name)
        if source is not None and (name in after or _is_remade(graph, source)):
            waiting += [entry for entry in source.inputs if entry]
    return tuple(node for node in graph.nodes if _belongs(graph, node, needed, after))


def _belongs(graph: Graph, node: Node, needed: set[str], after: set[str]) -> bool:
    if needed.isdisjoint(node.outputs):
        return False
    return not after.isdisjoint(node.outputs) or _is_remade(graph, node)


def _is_remade(graph: Graph, node: Node) -> bool:
    """Tell whether an operation before the cut is done again behind it: it is none of the file's, or of constants."""
    return node.op == DEQUANTIZE or all(name in graph.fixed for name in node.inputs if name)


def _representations(graph: Graph, target: str) -> Iterator[Tap]:
    real = f"{target}~real"
    if real in graph.producers:  # of an integer operator
        (quantizer,) = [node for node in graph.consumers[real] if node.op == QUANTIZE]
        yield Tap(target, grid_of(graph, quantizer))
        return
    readers = graph.consumers.get(target, [])
    source = source_of(graph, target)
    if source is not None:  # integers that were moved
        yield Tap(target, grid_of(graph, source))
        return
    if len(readers) == 1 and readers[0].op == QUANTIZE:
        integers, grid = readers[0].outputs[0], grid_of(graph, readers[0])
        if grid is not None and grid.axis is None and not grid.block:
            if _is_read_once(graph, integers):
                yield Tap(integers, grid, spliced=True)
            yield Tap(integers, grid)
        for node in graph.consumers.get(integers, []):
            if node.op == DEQUANTIZE and len(graph.consumers[integers]) == 1:
                yield Tap(node.outputs[0])
    yield Tap(target)


def _is_read_once(graph: Graph, integers: str) -> bool:
    """Tell whether one operator reads what one DequantizeLinear makes of integers: only then are kernels fused."""
    names = [integers]
    for _ in range(2):
        readers = graph.consumers.get(names[-1], [])
        if len(readers) != 1 or names[-1] in graph.outputs:
            return False
        names.append(readers[0].outputs[0])
    reader = graph.producers[names[1]]
    return reader.op == DEQUANTIZE and not reader.origin  # that stands in the file


def _taps(graph: Graph, start: str, nodes: tuple[Node, ...]) -> Iterator[Tap]:
    """Yield what the nodes read that they do not make."""
    made = {name for node in nodes for name in node.outputs} | set(graph.constants) | {start, ""}
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    yield from (Tap(name) for name in read if name not in made)


def is_index(values: Array) -> bool:
    """Tell whether a tensor holds places or sizes, not activations."""
    return bool(values.dtype == np.int64 or values.dtype == np.bool_)
