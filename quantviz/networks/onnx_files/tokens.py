"""Tokens and channels-last tensors of transformers as grids of places, by how the graph makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Node

_CONVOLVING = frozenset("Conv ConvTranspose ConvInteger FusedConv".split())
_WEIGHTED = frozenset("MatMul Gemm MatMulInteger".split())
_IN_PLACE = frozenset(
    f"""
    {QUANTIZE} {DEQUANTIZE} DynamicQuantizeLinear Identity Dropout Cast Relu LeakyRelu Clip Elu Sigmoid HardSigmoid
    HardSwish Tanh Gelu Swish QuickGelu FastGelu BiasGelu Erf Sqrt Pow Add Sub Mul Div LayerNormalization
    BatchNormalization SkipLayerNormalization Pad
    """.split()
)
_MERGED = [0, 1, 3, 4, 2, 5]


@dataclass(frozen=True, slots=True)
class Folding:
    """How the places of a picture lie in a tensor.

    Attributes:
        kind: ``"NCHW"``; ``"NHWC"``; ``"tokens"``, (1, prefix + rows * columns, C); ``"rows"``, (1, C, rows *
            columns); ``"split"``, (1, rows, p, columns, q, C), and ``"merged"``, (1, rows, columns, q, p, C), on the
            way to places of p x q.
        rows: of the grid.
        columns: of the grid.
        prefix: tokens before those of places: class, distillation and register tokens.
    """

    kind: Literal["NCHW", "NHWC", "tokens", "rows", "split", "merged"]
    rows: int
    columns: int
    prefix: int = 0

    @property
    def places(self) -> int:
        """Number of places."""
        return self.rows * self.columns

    def grid(self, values: Any) -> tuple[Any, Any]:
        """Return a tensor of this kind as (N, C, rows, columns), and the tokens before it, or None.

        Args:
            values: a torch tensor, ``"NHWC"`` or ``"tokens"``.
        """
        if self.kind == "NHWC":
            return values.permute(0, 3, 1, 2).contiguous(), None
        count, _, channels = values.shape
        grid = values[:, self.prefix :].transpose(1, 2).reshape(count, channels, self.rows, self.columns)
        return grid.contiguous(), values[:, : self.prefix].contiguous() if self.prefix else None

    def tensor(self, grid: Any, before: Any) -> Any:
        """Return what ``grid`` was given."""
        import torch

        if self.kind == "NHWC":
            return grid.permute(0, 2, 3, 1)
        tokens = grid.flatten(2).transpose(1, 2)
        return tokens if before is None else torch.cat([before.expand(len(tokens), -1, -1), tokens], 1)


def foldings(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Folding]:
    """Return how places lie in each tensor of a graph for which its operators tell; others are left out.

    A tensor is followed from the convolution that makes patches, through operators that leave places where they are,
    and through those that only write them in another order. A shape alone tells nothing.

    Args:
        graph: of the file.
        shapes: of its tensors, for one picture.
    """
    known: dict[str, Folding] = {}
    for node in graph.nodes:
        for output in node.outputs:
            shape = shapes.get(output, ())
            found = _folding(graph, node, known, shapes, shape)
            if found is not None and _fits(found, shape):
                known[output] = found
    return known


def _folding(
    graph: Graph,
    node: Node,
    known: Mapping[str, Folding],
    shapes: Mapping[str, tuple[int, ...]],
    shape: tuple[int, ...],
) -> Folding | None:
    if node.op in _CONVOLVING:
        return Folding("NCHW", *shape[2:]) if len(shape) == 4 else None
    given = [known[name] for name in node.inputs if name in known]
    if not given:
        return None
    first = given[0]
    if node.op == "Transpose":
        return _transposed(first, list(node.attributes.get("perm", [])))
    if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _reshaped(first, shape)
    if node.op == "Concat":
        return _after_others(graph, node, known, shapes)
    if node.op == "Slice" and first.kind == "tokens" and len(shape) == 3:
        rest = shape[1] - first.places  # it begins at a token before the places, or at the first place
        return replace(first, prefix=rest) if rest in (0, first.prefix) and _keeps_end(graph, node) else None
    kept = node.op in _WEIGHTED and node.inputs[0] in known and node.inputs[1] in graph.fixed
    return first if kept or node.op in _IN_PLACE else None


def _fits(folding: Folding, shape: tuple[int, ...]) -> bool:
    """Tell whether a shape is one of a kind."""
    rows, columns = folding.rows, folding.columns
    if folding.kind == "NCHW":
        return len(shape) == 4 and shape[2:] == (rows, columns)
    if folding.kind == "NHWC":
        return len(shape) == 4 and shape[1:3] == (rows, columns)
    if folding.kind == "tokens":
        return len(shape) == 3 and shape[1] == folding.prefix + folding.places
    if folding.kind == "rows":
        return len(shape) == 3 and shape[2] == folding.places
    return len(shape) == 6


def _transposed(folding: Folding, order: list[int]) -> Folding | None:
    kinds: dict[tuple[str, tuple[int, ...]], Any] = {
        ("NCHW", (0, 2, 3, 1)): "NHWC",
        ("NHWC", (0, 3, 1, 2)): "NCHW",
        ("rows", (0, 2, 1)): "tokens",
        ("tokens", (0, 2, 1)): "rows",
        ("split", tuple(_MERGED)): "merged",
    }
    kind = kinds.get((folding.kind, tuple(order)))
    return replace(folding, kind=kind) if kind and not (kind == "rows" and folding.prefix) else None


def _reshaped(folding: Folding, shape: tuple[int, ...]) -> Folding | None:
    """Return what places become where a tensor is written with other dimensions, in the same order."""
    rows, columns, places = folding.rows, folding.columns, folding.places
    if folding.kind == "NCHW" and len(shape) == 3 and shape[2] == places:
        return replace(folding, kind="rows")
    if folding.kind == "rows" and len(shape) == 4 and shape[2:] == (rows, columns):
        return replace(folding, kind="NCHW")
    if folding.kind == "NHWC" and len(shape) == 3 and shape[1] == places:
        return replace(folding, kind="tokens")
    if folding.kind == "tokens" and not folding.prefix and len(shape) == 4 and shape[1:3] == (rows, columns):
        return replace(folding, kind="NHWC")
    if folding.kind in ("NHWC", "tokens") and len(shape) == 6 and not folding.prefix:
        if shape[1] * shape[2] == rows and shape[3] * shape[4] == columns:
            return Folding("split", shape[1], shape[3])
        return None
    if folding.kind == "merged" and len(shape) == 4 and shape[1:3] == (rows, columns):
        return Folding("NHWC", rows, columns)
    if folding.kind == "merged" and len(shape) == 3 and shape[1] == places:
        return Folding("tokens", rows, columns)
    return folding if _fits(folding, shape) else None


def _after_others(
    graph: Graph, node: Node, known: Mapping[str, Folding], shapes: Mapping[str, tuple[int, ...]]
) -> Folding | None:
    """Return tokens behind further ones that no picture decides, put before them."""
    *before, last = node.inputs
    folding = known.get(last)
    if folding is None or folding.kind != "tokens" or int(node.attributes.get("axis", 0)) not in (1, -2):
        return None
    if not all(name in graph.fixed or _is_of_shape(graph, name) for name in before):
        return None
    counts = [_length(graph, name, shapes) for name in before]
    return None if None in counts else replace(folding, prefix=folding.prefix + sum(filter(None, counts)))


def _is_of_shape(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is a constant that was only repeated for as many pictures as there are."""
    node = graph.producers.get(name)
    while node is not None and node.op in ("Expand", "Tile", QUANTIZE, DEQUANTIZE, "Identity"):
        if node.inputs[0] in graph.fixed:
            return True
        node = graph.producers.get(node.inputs[0])
    return False


def _length(graph: Graph, name: str, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    value = graph.constant(name)
    shape: tuple[int, ...] = shapes.get(name) or (() if value is None else value.shape)
    return int(shape[1]) if len(shape) == 3 else None


def _keeps_end(graph: Graph, node: Node) -> bool:
    """Tell whether a Slice goes on to the end of the tokens, one by one."""
    values = [graph.constant(name) for name in (*node.inputs[1:], "", "", "")[:4]]
    ends, axes, steps = values[1], values[2], values[3]
    whole = ends is not None and bool((ends >= 1 << 15).all())
    one = axes is not None and [int(axis) for axis in axes.ravel()] in ([1], [-2])
    return whole and one and (steps is None or math.prod(int(step) for step in steps.ravel()) == 1)
