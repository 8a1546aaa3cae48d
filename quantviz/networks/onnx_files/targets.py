"""Which tensors of a file a map can be taken at, and which one is by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Node
from quantviz.networks.onnx_files.tokens import Folding, foldings
from quantviz.specs import UsageError

Shapes = dict[str, tuple[int, ...]]

RULE: Final = "the last spatial tensor before pooling"
"""How the target is chosen where the user names none."""

_CONVOLVING = frozenset("Conv ConvTranspose ConvInteger".split())
# Operators that leave places where they are: what they give has the layout of what they read.
_IN_PLACE = frozenset(
    f"""
    {QUANTIZE} {DEQUANTIZE} DynamicQuantizeLinear Identity Dropout Cast Relu LeakyRelu PRelu Clip Elu Selu Celu Sigmoid
    HardSigmoid HardSwish Tanh Softplus Softsign Mish Gelu Swish Erf Exp Log Sqrt Abs Neg Reciprocal Pow Add Sub Mul
    Div Min Max Sum Mean Where BatchNormalization InstanceNormalization GroupNormalization LRN LayerNormalization
    QuickGelu FastGelu BiasGelu
    Concat Slice Pad Split MaxPool AveragePool LpPool Resize Upsample DepthToSpace SpaceToDepth Softmax
    """.split()
)
_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor that a map can be taken at.

    Attributes:
        tensor: its name in the file; of a quantized one, the name before QuantizeLinear where the file has that.
        op: the operator that gives it.
        shape: (channels, rows, columns).
        folding: how its places lie in it, where it is not (1, channels, rows, columns).
    """

    tensor: str
    op: str
    shape: tuple[int, int, int]
    folding: Folding | None = None


def plain(name: str) -> str:
    """Return the file's own name for a tensor of its graph."""
    return name.partition("~")[0]


def shape_of(graph: Graph, shapes: Shapes, name: str) -> tuple[int, ...]:
    """Return a tensor's shape, of those too that only the graph has."""
    if name in shapes or "~" not in name:
        return shapes.get(name, ())
    node = graph.producers.get(name)
    if node is not None and node.op == DEQUANTIZE:
        return shape_of(graph, shapes, node.inputs[0])
    return shapes.get(plain(name), ())


def targets(graph: Graph, shapes: Shapes, logits: str, layout: str) -> list[Target]:
    """Return the tensors that a map can be taken at, in the order of the file.

    They are (1, C, h, w) with more than one place, keep the picture's layout, and the logits follow from them. Of a
    network with attention, they are tokens and channels-last tensors, too, whose places the graph tells; where a class
    token alone is read in the end, none behind the last attention's layer norm is one: the others are not read there.

    Args:
        graph: of the file.
        shapes: of every tensor, for one picture.
        logits: name of the tensor that holds them.
        layout: of the input, ``"NCHW"`` or ``"NHWC"``.
    """
    layouts, computed = dict.fromkeys(graph.inputs, layout), set[str]()
    needed = before(graph, logits)
    chosen: dict[str, Target] = {}
    for node in graph.nodes:
        kept = _layout(node, layouts)
        if node.op in _CONVOLVING or not computed.isdisjoint(node.inputs):  # the picture itself is no target
            computed.update(node.outputs)
        for output in node.outputs:
            shape = shape_of(graph, shapes, output)
            if not kept or len(shape) != 4:
                continue
            layouts[output] = kept
            name = unquantized(graph, output)
            if kept == "NCHW" and output in needed and output in computed and min(shape[2:]) > 1:
                chosen.setdefault(name, Target(name, _operator(graph, name), (shape[1], shape[2], shape[3])))
    return _with_tokens(graph, shapes, logits, list(chosen.values()))


def _with_tokens(graph: Graph, shapes: Shapes, logits: str, others: list[Target]) -> list[Target]:
    """Return the targets, those of a transformer's tokens among them, in the order of the file."""
    needed = before(graph, logits)
    attention = [node for node in graph.nodes if node.op == "Softmax" and logits not in before(graph, node.outputs[0])]
    attention = [node for node in attention if node.outputs[0] in needed]
    if not attention:
        return others
    mixed = _up_to_its_norm(graph, before(graph, attention[-1].outputs[0]))
    known = foldings(graph, {name: shape_of(graph, shapes, name) for name in graph.order})
    by_class_token = any(_reads_class_token(graph, node, known) for node in graph.nodes if node.outputs[0] in needed)
    chosen = {target.tensor: target for target in others}
    for name, folding in known.items():
        if folding.kind not in ("NHWC", "tokens") or name not in needed or folding.rows < 2 or folding.columns < 2:
            continue
        if by_class_token and name not in mixed:
            continue
        tensor, shape = unquantized(graph, name), shape_of(graph, shapes, name)
        chosen.setdefault(
            tensor, Target(tensor, _operator(graph, tensor), (shape[-1], folding.rows, folding.columns), folding)
        )
    order = {tensor: at for at, tensor in enumerate(dict.fromkeys(unquantized(graph, name) for name in graph.order))}
    return sorted(chosen.values(), key=lambda target: order.get(target.tensor, 0))


def _up_to_its_norm(graph: Graph, names: set[str]) -> set[str]:
    """Return the tensors that an attention follows from, up to the layer norm before it."""
    norms = [node for node in graph.nodes if node.op == "LayerNormalization" and node.outputs[0] in names]
    return before(graph, norms[-1].outputs[0]) if norms else names


def _reads_class_token(graph: Graph, node: Node, known: dict[str, Folding]) -> bool:
    """Tell whether an operator takes one of the tokens before those of places, and nothing else."""
    folding = known.get(node.inputs[0]) if node.inputs else None
    if folding is None or folding.kind != "tokens" or node.op not in ("Gather", "Slice"):
        return False
    if node.op == "Gather":
        index = graph.constant(node.inputs[1])
        return index is not None and index.size == 1 and 0 <= int(index.ravel()[0]) < folding.prefix
    ends = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return ends is not None and 0 < int(ends.ravel()[0]) <= folding.prefix


def default(choices: list[Target], name: str) -> Target:
    """Return the target that is taken where the user names none.

    Raises:
        UsageError: there is none.
    """
    if not choices:
        raise UsageError(f"{name} has no tensor with a grid of places; a map needs a convolution's output.")
    return choices[-1]


def candidates(choices: list[Target]) -> list[Target]:
    """Return the last target of each grid, and of the last grid the one with other channels before it."""
    last = {target.shape[1:]: target for target in choices}
    final = choices[-1:]
    others = [target for target in choices if final and target.shape[1:] == final[0].shape[1:]]
    earlier = [target for target in others if target.shape[0] != final[0].shape[0]][-1:]
    picked = {target.tensor for target in (*last.values(), *earlier)}
    return [target for target in choices if target.tensor in picked]


def before(graph: Graph, name: str) -> set[str]:
    """Return the tensors that a tensor follows from, itself included."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        tensor = waiting.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        node = graph.producers.get(tensor)
        waiting += graph.data_inputs(node) if node is not None else []
    return seen


def unquantized(graph: Graph, name: str) -> str:
    """Return the file's name for a tensor before it was quantized, or was copied; itself where it was neither."""
    node = graph.producers.get(name)
    while node is not None and node.op in (QUANTIZE, DEQUANTIZE, "Identity", "Dropout"):
        if "~" in node.inputs[0]:
            return plain(node.outputs[0] if node.op == QUANTIZE else node.inputs[0])
        name = node.inputs[0]
        node = graph.producers.get(name)
    return plain(name)


def _operator(graph: Graph, name: str) -> str:
    node = graph.producers.get(f"{name}~real") or graph.producers.get(name)
    return (node.origin or node.op) if node is not None else ""


def _layout(node: Node, layouts: dict[str, str]) -> str:
    """Return the layout of what a node gives, "" where it has none."""
    if node.op in _CONVOLVING:
        return "NCHW"
    known = [layouts[name] for name in node.inputs if name in layouts]
    if not known:
        return ""
    if node.op == "Transpose":
        order = list(node.attributes.get("perm", []))
        if known[0] == "NHWC" and order == _TO_NCHW:
            return "NCHW"
        return "NHWC" if known[0] == "NCHW" and order == _TO_NHWC else ""
    if node.op in {"MatMul", "Gemm", "MatMulInteger"}:
        return known[0] if known[0] == "NHWC" else ""
    return known[0] if node.op in _IN_PLACE else ""
