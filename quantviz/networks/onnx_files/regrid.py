"""Other grids for tensors of a quantized file: what remedies change, as edits of its graph."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from quantviz.networks.onnx_files.editing import Draft, made_node
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array, Node
from quantviz.networks.onnx_files.quantization import WEIGHTED
from quantviz.networks.onnx_files.taps import StoredTensor, TappedTensor
from quantviz.specs import UsageError

_CONTRIB: Final = "com.microsoft"
_WIDE_OPSET: Final = 21
"""The first opset whose QuantizeLinear knows 16 bits; before it, ONNX Runtime's own does."""
_TYPES: Final = {(8, True): np.int8, (8, False): np.uint8, (16, True): np.int16, (16, False): np.uint16}
REDUCED: Final = 64
"""Greatest integer of weights in 7 bits, as ONNX Runtime's ``reduce_range`` has it."""


def set_weight(draft: Draft, entry: StoredTensor, *, bits: int, per_channel: bool, greatest: int | None = None) -> None:
    """Round a weight anew from the float file's, symmetric about 0, and the bias of its operator on the new grid.

    Args:
        draft: the copy that is changed.
        entry: the weight.
        bits: 8 or 16.
        per_channel: one scale for each output channel; else one.
        greatest: greatest integer; None for the type's own.

    Raises:
        UsageError: nothing in the float file stands for it.
    """
    if entry.reference is None:
        raise UsageError(f"Nothing in the float file stands for {entry.name}, so that it cannot be rounded anew.")
    node = operator_of(draft, entry)
    values, limit = entry.reference, greatest or 2 ** (bits - 1) - 1
    axis = _channel_axis(node, values)
    others = tuple(at for at in range(values.ndim) if at != axis)
    reach = np.abs(values).max(axis=others if per_channel else None)
    scale = (np.where(reach > 0, reach, 1).astype(np.float64) / limit).astype(np.float32)
    shape = [-1 if at == axis and per_channel else 1 for at in range(values.ndim)]
    steps = np.rint(values / scale.reshape(shape)).clip(-limit, limit)
    _set_stored(draft, entry, steps.astype(_TYPES[bits, True]), scale, axis if per_channel else None)
    set_bias(draft, node)


def set_bias(draft: Draft, node: Node, values: Array | None = None) -> None:
    """Round an operator's bias anew, whose step is that of its input times that of its weight: kernels take it so.

    Args:
        draft: the copy that is changed.
        node: the operator.
        values: of the bias; None for the float file's.
    """
    entry = next(
        (one for one in draft.editor.stored.values() if one.role == "bias" and one.output in node.inputs), None
    )
    steps = [_scale(draft, name) for name in node.inputs[:2]]
    if entry is None or steps[0] is None or steps[1] is None or entry.output not in draft.nodes:
        return
    if values is None:
        values = entry.values if entry.reference is None else entry.reference
    scale = np.atleast_1d(steps[0].astype(np.float64) * steps[1]).astype(np.float32)
    scale = np.broadcast_to(scale, values.shape).copy() if values.ndim else scale.reshape(())
    integers = np.rint(values.astype(np.float64) / scale).clip(-(2**31), 2**31 - 1).astype(np.int32)
    _set_stored(draft, entry, integers, scale, 0 if values.ndim else None)


def set_activation(
    draft: Draft, entry: TappedTensor, low: float, high: float, *, bits: int, symmetric: bool = False
) -> None:
    """Let an activation be rounded to another grid, and the biases of what reads it on theirs.

    Args:
        draft: the copy that is changed.
        entry: the activation.
        low: least value of the range, which always holds 0.
        high: greatest value.
        bits: 8 or 16.
        symmetric: about 0, on signed integers.
    """
    least, top = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        scale, zero = max(high, -low) / top, 0
    else:
        scale = (high - low) / (top - least)
        zero = round(least - low / scale) if scale else least
    names = [
        draft.constant("scale", np.float32(scale or 1.0)),
        draft.constant("zero_point", np.asarray(np.clip(zero, least, top), _TYPES[bits, symmetric])),
    ]
    domain = _domain(draft, bits)
    readers = list(draft.editor.dequantizers(entry))
    quantizer = draft.nodes[entry.rounded]
    draft.set_node(entry.rounded, made_node(QUANTIZE, [quantizer.input[0], *names], entry.rounded, domain))
    for node in readers:
        draft.set_node(node.outputs[0], made_node(DEQUANTIZE, [node.inputs[0], *names], node.outputs[0], domain))
    outputs = {node.outputs[0] for node in readers}
    for node in draft.editor.base.graph.nodes:
        if node.op in WEIGHTED and node.inputs[0] in outputs:
            set_bias(draft, node)


def exclude(draft: Draft, entry: StoredTensor | TappedTensor) -> Node:
    """Leave the operator that reads a tensor in float, as ``nodes_to_exclude`` of ONNX Runtime does, and return it.

    Raises:
        UsageError: no operator reads the tensor.
    """
    node = operator_of(draft, entry)
    own = {one.output: one for one in draft.editor.stored.values()}
    made = _copied(draft.nodes[node.outputs[0]])
    for at, name in enumerate(made.input):
        if name in own and own[name].reference is not None:
            draft.set_float(own[name])
        elif (read := _read(draft, name)) is not None:
            made.input[at] = draft.unrounded(read) if _is_direct(draft, name, read) else name
            if made.input[at] == name:  # moved between: what moves it moves the values as they are
                draft.take_out(read.name)
    if draft.nodes[node.outputs[0]].op_type == made.op_type:
        draft.set_node(node.outputs[0], made)
    return node


def fold_batch_norm(draft: Draft, output: str) -> StoredTensor:
    """Fold the batch norm behind a convolution into its weight and bias, and return the weight.

    The weight is the float file's with its batch norm folded in. What was rounded between the two no longer is.

    Args:
        draft: the copy that is changed.
        output: what the convolution gives.

    Raises:
        UsageError: there is no such convolution or batch norm, or the float file has no weight for it.
    """
    graph = draft.editor.base.graph
    conv = graph.producers.get(output) or graph.producers.get(f"{output}__real")
    between, norm = _up_to_norm(draft, conv)
    own = {one.output: one for one in draft.editor.stored.values()}
    weight = own.get(conv.inputs[1]) if conv is not None else None
    if conv is None or norm is None or weight is None or weight.reference is None:
        raise UsageError(f"There is no batch norm behind {output} that a weight of the float file has folded in.")
    gain, offset, mean, variance = (np.asarray(draft.value(name), np.float64) for name in norm.inputs[1:5])
    gain = gain / np.sqrt(variance + float(norm.attributes.get("epsilon", 1e-5)))
    bias = own.get(conv.inputs[2]) if len(conv.inputs) > 2 else None
    for node in between:
        draft.set_node(node.outputs[0], made_node("Identity", [node.inputs[0]], node.outputs[0]))
    draft.set_node(norm.outputs[0], made_node("Identity", [norm.inputs[0]], norm.outputs[0]))
    set_weight(draft, weight, bits=8, per_channel=True)
    values = offset + ((0 if bias is None else bias.values) - mean) * gain
    if bias is not None:
        set_bias(draft, conv, values)
        return weight
    made = _copied(draft.nodes[conv.outputs[0]])
    added = f"{conv.outputs[0]}_folded_bias"
    made.input[:] = [*made.input[:2], added]
    draft.constant_as(added, values.astype(np.float32))
    draft.set_node(conv.outputs[0], made)
    return weight


def _up_to_norm(draft: Draft, conv: Node | None) -> tuple[list[Node], Node | None]:
    """Return the batch norm behind a convolution, and what rounds between the two."""
    norm, between = None, []
    waiting = [] if conv is None else [conv.outputs[0]]
    while waiting:
        for node in draft.editor.base.graph.consumers.get(waiting.pop(), []):
            if node.op in (QUANTIZE, DEQUANTIZE):
                between.append(node)
                waiting += node.outputs
            elif node.op == "BatchNormalization":
                norm = node
    return between, norm


def operator_of(draft: Draft, entry: StoredTensor | TappedTensor) -> Node:
    """Return the first operator that reads a tensor on a grid.

    Raises:
        UsageError: none does.
    """
    graph = draft.editor.base.graph
    names = (
        [entry.output] if isinstance(entry, StoredTensor) else [n.outputs[0] for n in draft.editor.dequantizers(entry)]
    )
    for name in names:
        for node in graph.consumers.get(name, []):
            return node
    raise UsageError(f"No operator reads {entry.name}; name another tensor.")


def _read(draft: Draft, name: str) -> TappedTensor | None:
    """Return the activation on a grid that a dequantized tensor is of."""
    return next(
        (
            entry
            for entry in draft.editor.activations.values()
            if any(node.outputs[0] == name for node in draft.editor.dequantizers(entry))
        ),
        None,
    )


def _is_direct(draft: Draft, name: str, entry: TappedTensor) -> bool:
    return bool(draft.nodes[name].input[0] == entry.rounded)


def _scale(draft: Draft, name: str) -> Array | None:
    """Return the scale on which a tensor is dequantized as of now; None where it is in float."""
    node = draft.nodes.get(name)
    return draft.value(node.input[1]) if node is not None and node.op_type == DEQUANTIZE else None


def _set_stored(draft: Draft, entry: StoredTensor, integers: Array, scale: Array, axis: int | None) -> None:
    bits = integers.dtype.itemsize * 8
    names = [
        draft.constant("integers", integers),
        draft.constant("scale", scale),
        draft.constant("zero_point", np.zeros(scale.shape, integers.dtype)),
    ]
    attributes = {} if axis is None else {"axis": axis}
    domain = _domain(draft, bits if bits == 16 else 8)
    draft.set_node(entry.output, made_node(DEQUANTIZE, names, entry.output, domain, **attributes))


def _domain(draft: Draft, bits: int) -> str:
    return _CONTRIB if bits == 16 and draft.editor.base.graph.opset < _WIDE_OPSET else ""


def _channel_axis(node: Node, values: Array) -> int:
    """Return the axis of a weight's output channels."""
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    if node.op == "MatMul":
        return values.ndim - 1
    return 1 if node.op == "ConvTranspose" else 0


def _copied(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    return made
