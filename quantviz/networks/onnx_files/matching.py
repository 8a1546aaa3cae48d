"""The same tensor in a float and a quantized file, whose tools rename, fuse and fold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Node
from quantviz.networks.onnx_files.targets import plain, unquantized

BY_NAME: Final = "by name"
BY_HABIT: Final = "by name, as tools rename it"
BY_FUSED: Final = "by the name of what its activation reads, which the quantizer fused"
BEHIND: Final = "by name; in the quantized file it stands behind its activation, which the quantizer fused"
BY_TOPOLOGY: Final = "by its place in the graph"
BY_ORDER: Final = "by the order of operators"

_ACTIVATIONS = frozenset({"Relu", "Clip"})
_SAME = frozenset({QUANTIZE, DEQUANTIZE, "Identity", "Dropout", "Cast"})
_FAMILIES = {
    "ConvInteger": "Conv",
    "MatMulInteger": "MatMul",
    "Gemm": "MatMul",
    "FusedMatMul": "MatMul",
    "ReduceMean": "GlobalAveragePool",
} | {name: "Clip" for name in _ACTIVATIONS}
_FOLDED = frozenset({"BatchNormalization", "Add", "Sub", "Mul", "Div", "Flatten", "Reshape", "Squeeze"})
_SUFFIXES = (
    "_quantized",
    "_QuantizeLinear_Input",
    "_QuantizeLinear_Output",
    "_DequantizeLinear_Output",
    "_dequantized",
    "_fused_bn",
)
_PREFIXES = ("dq_output_", "q_output_")
_NUMBERED = re.compile(r"_\d+$")
# Names that say no more than a number: two exports may give one to different tensors.
_GENERIC = re.compile(r"(\d+|(val|node|tensor|output|[a-z_0-9]*?)_?\d*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TensorMatch:
    """A tensor of the float file and the one that stands for it in the quantized file.

    Attributes:
        float_tensor: name in the float file.
        quantized_tensor: name in the quantized file, before QuantizeLinear where the file has that.
        how: how they were matched, in words.
    """

    float_tensor: str
    quantized_tensor: str
    how: str


class Matching:
    """Finds the tensors of a float file in a quantized file.

    Args:
        reference: graph of the float file.
        quantized: graph of the quantized file.
        ends: the tensors that hold the logits, of the float and of the quantized file.
    """

    def __init__(self, reference: Graph, quantized: Graph, ends: tuple[str, str]) -> None:
        self._float, self._quantized = _Skeleton(reference), _Skeleton(quantized)
        self._ends = ends

    def of(self, tensor: str) -> TensorMatch | None:
        """Return the match of a tensor of the float file, or None."""
        named, placed = self._by_name(tensor), self.topology.get(self._float.root(tensor))
        # A name that says nothing may be another tensor's: the place in the graph decides then.
        if named is not None and placed not in (None, named.quantized_tensor) and _GENERIC.fullmatch(tensor):
            named = None
        if named is not None:
            return named
        if placed is not None:
            return TensorMatch(tensor, placed, BY_TOPOLOGY)
        return self._by_order(tensor)

    def all(self) -> Iterator[TensorMatch]:
        """Yield the match of every tensor of the float file that has one, in its order."""
        for name in self._float.tensors:
            match = self.of(name)
            if match is not None and match.how not in (BY_ORDER, BEHIND):
                yield match

    def fused(self) -> set[str]:
        """Return the tensors of the quantized file whose quantizer also stands for a Relu6 that the float file has."""
        clipped = set()
        for match in self.all():
            node, other = self._float.producer(match.float_tensor), self._quantized.producer(match.quantized_tensor)
            if node is not None and node.op == "Clip" and (other is None or other.op not in _ACTIVATIONS):
                clipped.add(match.quantized_tensor)
        return clipped

    def swallowed(self, match: TensorMatch) -> str | None:
        """Return the float file's activation function right behind a tensor, where the quantized file has none there.

        Quantizers leave a ReLU out before a grid without negative values, which cuts them as well.
        """
        readers = self._float.graph.consumers.get(match.float_tensor, [])
        if len(readers) != 1 or readers[0].op not in _ACTIVATIONS:
            return None
        waiting = [match.quantized_tensor]
        while waiting:
            for node in self._quantized.graph.consumers.get(waiting.pop(), []):
                if node.op in _ACTIVATIONS:
                    return None
                if node.op in (QUANTIZE, DEQUANTIZE):
                    waiting += node.outputs
        return readers[0].outputs[0]

    @cached_property
    def topology(self) -> Mapping[str, str]:
        """Float tensor -> quantized tensor, walking back from the logits through operators of the same kind."""
        pairs: dict[str, str] = {}
        taken: set[str] = set()
        seen: set[tuple[str, str]] = set()
        waiting = [(self._float.root(self._ends[0]), self._quantized.root(self._ends[1]))]
        while waiting:
            first, second = self._unpadded(*waiting.pop())
            if (first, second) in seen:
                continue
            seen.add((first, second))
            if first not in pairs and second not in taken:
                pairs[first] = second
                taken.add(second)
            waiting += reversed(list(self._earlier(first, second)))
        return {first: unquantized(self._quantized.graph, second) for first, second in pairs.items()}

    def _unpadded(self, first: str, second: str) -> tuple[str, str]:
        """Return two tensors, of one that only one file pads apart from its convolution, the one before padding."""
        node, other = self._float.producer(first), self._quantized.producer(second)
        padded = [entry is not None and entry.op == "Pad" for entry in (node, other)]
        if padded == [True, False] and node is not None:
            return self._float.inputs(node)[0], second
        if padded == [False, True] and other is not None:
            return first, self._quantized.inputs(other)[0]
        return first, second

    def _earlier(self, first: str, second: str) -> Iterator[tuple[str, str]]:
        """Yield what has to be the same where two tensors are."""
        node, other = self._float.producer(first), self._quantized.producer(second)
        if node is None or other is None:
            return
        inputs, others = self._float.inputs(node), self._quantized.inputs(other)
        if _family(node) == _family(other) and len(inputs) == len(others):
            yield from zip(inputs, others, strict=True)
        elif _is_passed(node, inputs) and (node.op in _ACTIVATIONS or not _is_passed(other, others)):
            yield inputs[0], second
        elif _is_passed(other, others):
            yield first, others[0]

    def _by_name(self, tensor: str) -> TensorMatch | None:
        graph = self._quantized.graph
        same = tensor if tensor in graph.order else self._quantized.bare.get(_bare(tensor))
        if same is not None:
            name = unquantized(graph, same)
            behind = self._is_activated(self._float, tensor) and not self._is_activated(self._quantized, name)
            return TensorMatch(tensor, name, BEHIND if behind else BY_NAME if same == tensor else BY_HABIT)
        node = self._float.graph.producers.get(tensor)
        source = self._by_name(node.inputs[0]) if node is not None and node.op in _ACTIVATIONS else None
        if source is None or source.how != BEHIND:
            return None
        return TensorMatch(tensor, source.quantized_tensor, BY_FUSED)

    @staticmethod
    def _is_activated(skeleton: _Skeleton, tensor: str) -> bool:
        """Tell whether an activation reads a tensor, and nothing else does."""
        readers = skeleton.readers.get(skeleton.root(tensor), [])
        return bool(readers) and all(node.op in _ACTIVATIONS for node in readers)

    def _by_order(self, tensor: str) -> TensorMatch | None:
        """Match the k-th operator of a kind with the k-th, where both files have as many."""
        node = self._float.producer(tensor)
        if node is None:
            return None
        own, others = self._float.kind(node), self._quantized.kind(node)
        if len(own) != len(others) or node not in own:
            return None
        output = others[own.index(node)].outputs[0]
        return TensorMatch(tensor, unquantized(self._quantized.graph, output), BY_ORDER)


class _Skeleton:
    """A graph without what quantizers add to it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._roots: dict[str, str] = {}
        integers: set[str] = set()
        self._weights = graph.fixed
        for node in graph.nodes:
            data = [name for name in node.inputs if name and name not in self._weights]
            if not data:
                continue
            if node.op in ("ConvInteger", "MatMulInteger"):
                integers.update(node.outputs)
            summed = [name for name in data if self.root(name) in integers]
            if node.op in _SAME and data:
                self._roots[node.outputs[0]] = self.root(data[0])
            elif node.op == "Mul" and summed:  # by the scales of what was multiplied
                self._roots[node.outputs[0]] = self.root(summed[0])
            elif node.op == "DynamicQuantizeLinear":
                self._roots |= dict.fromkeys(node.outputs, self.root(data[0]))
        self.tensors = [
            name
            for name in graph.order
            if self.root(name) == name and "~" not in name and name not in (*graph.inputs, *self._weights)
        ]
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            if node.op not in _SAME:
                for name in {self.root(name) for name in node.inputs if name}:
                    self.readers[name].append(node)
        # Of tensors that differ by what tools add to a name, the one that is computed, not what is made of it.
        self.bare = {_bare(name): name for name in reversed(list(graph.order)) if "~" not in name}

    def root(self, name: str) -> str:
        """Return the tensor that this one is a rounded or a plain copy of."""
        return self._roots.get(name, name)

    def producer(self, name: str) -> Node | None:
        """Return the operator that a tensor's values come from."""
        root = self.root(name)
        return self.graph.producers.get(f"{plain(root)}~real") or self.graph.producers.get(root)

    def inputs(self, node: Node) -> list[str]:
        """Return what an operator reads, without constants and copies."""
        roots = [self.root(name) for name in node.inputs if name and name not in self._weights]
        return roots[:1] if node.op in ("ConvInteger", "MatMulInteger") else list(dict.fromkeys(roots))

    def kind(self, node: Node) -> list[Node]:
        """Return the operators of the same kind, in their order."""
        return [other for other in self.graph.nodes if _family(other) == _family(node) and other.op not in _SAME]


def _family(node: Node) -> str:
    return _FAMILIES.get(node.op, node.op)


def _is_passed(node: Node, inputs: list[str]) -> bool:
    """Tell whether a tool may have left an operator out of one of the files: fused, or folded into its neighbour."""
    return len(inputs) == 1 and (node.op in _ACTIVATIONS or node.op in _FOLDED)


def _bare(name: str) -> str:
    """Return a name without what quantizers put before and behind it."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return _NUMBERED.sub("", name.removeprefix(prefix))
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
