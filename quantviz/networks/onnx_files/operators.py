"""ONNX's operators in torch, as far as they stand behind a classifier's target layer: differentiable, float32.

Integers of a grid are kept as float32, so that gradients pass. Sums of products of 8-bit integers are exact in float32
up to 2^24; beyond, they differ by float32's rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from quantviz.networks.onnx_files.rounding import centred, dynamic, matmul_integer
from quantviz.networks.onnx_files.windows import average_pool, conv, conv_transpose, max_pool

Attributes = dict[str, Any]
Operator = Callable[..., Any]
"""Takes the node's attributes, ``opset`` among them, and its inputs, None for those left out; gives its outputs."""


def _ints(values: Any) -> list[int]:
    """Return a tensor or a sequence of numbers as integers."""
    found = values.reshape(-1).tolist() if isinstance(values, Tensor) else list(values)
    return [int(value) for value in found]


def _axes(at: Attributes, given: Tensor | None) -> list[int] | None:
    """Return the axes of a reduction: the attribute of older opsets, or the input."""
    if "axes" in at:
        return _ints(at["axes"])
    return None if given is None else _ints(given)


def _conv_integer(
    at: Attributes, values: Tensor, weight: Tensor, zero: Tensor | None = None, other: Tensor | None = None
) -> Tensor:
    return conv(at, centred(values, zero, 1), centred(weight, other, 0))


def _gemm(at: Attributes, first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
    first = first.T if at.get("transA", 0) else first
    weight = second if at.get("transB", 0) else second.T
    alpha, beta = at.get("alpha", 1.0), at.get("beta", 1.0)
    if alpha != 1.0:
        weight = weight * alpha
    if bias is None or bias.ndim != 1 or len(bias) != len(weight):
        product = functional.linear(first, weight)
        return product if bias is None else product + beta * bias
    return functional.linear(first, weight, bias if beta == 1.0 else beta * bias)


def _fused_matmul(at: Attributes, first: Tensor, second: Tensor) -> Tensor:
    """FusedMatMul: alpha times the product, either side transposed.

    Raises:
        NotImplementedError: the batch is transposed as well.
    """
    if at.get("transBatchA", 0) or at.get("transBatchB", 0):
        raise NotImplementedError("FusedMatMul with a transposed batch")
    first = first.mT if at.get("transA", 0) else first
    second = second.mT if at.get("transB", 0) else second
    product: Tensor = at.get("alpha", 1.0) * (first @ second)
    return product


def _clip(at: Attributes, values: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = at.get("min") if low is None else low.item()
    most = at.get("max") if high is None else high.item()
    return values if least is None and most is None else values.clamp(least, most)


def _batch_norm(at: Attributes, values: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(values, mean, variance, scale, bias, False, 0.0, at.get("epsilon", 1e-5))


def _layer_norm(at: Attributes, values: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = at.get("axis", -1) % values.ndim
    return functional.layer_norm(values, list(values.shape[axis:]), scale, bias, at.get("epsilon", 1e-5))


def _instance_norm(at: Attributes, values: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(values, weight=scale, bias=bias, eps=at.get("epsilon", 1e-5))


def _group_norm(at: Attributes, values: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = at["num_groups"]
    if len(scale) == groups and len(scale) != values.shape[1]:  # one value a group before opset 21
        scale, bias = (entry.repeat_interleave(values.shape[1] // groups) for entry in (scale, bias))
    return functional.group_norm(values, groups, scale, bias, at.get("epsilon", 1e-5))


def _local_norm(at: Attributes, values: Tensor) -> Tensor:
    alpha, beta, bias = at.get("alpha", 1e-4), at.get("beta", 0.75), at.get("bias", 1.0)
    return functional.local_response_norm(values, at["size"], alpha, beta, bias)


def _softmax(at: Attributes, values: Tensor) -> Tensor:
    return _flat_before_13(torch.softmax, at, values)


def _log_softmax(at: Attributes, values: Tensor) -> Tensor:
    return _flat_before_13(torch.log_softmax, at, values)


def _flat_before_13(function: Callable[[Tensor, int], Tensor], at: Attributes, values: Tensor) -> Tensor:
    """Softmax over one axis; before opset 13, over all dimensions from the axis on."""
    if int(at.get("since") or at["opset"]) >= 13:
        return function(values, at.get("axis", -1))
    axis = at.get("axis", 1) % values.ndim
    return function(values.flatten(axis), -1).reshape(values.shape)


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def reduce(at: Attributes, values: Tensor, given: Tensor | None = None) -> Tensor:
        axes = _axes(at, given)
        if not axes:
            if at.get("noop_with_empty_axes", 0):
                return values
            axes = list(range(values.ndim))
        return function(values, dim=axes, keepdim=bool(at.get("keepdims", 1)))

    return reduce


def _global(function: Callable[..., Tensor]) -> Operator:
    return lambda _at, values: function(values, dim=list(range(2, values.ndim)), keepdim=True)


def _flatten(at: Attributes, values: Tensor) -> Tensor:
    axis = at.get("axis", 1)
    axis = axis + values.ndim if axis < 0 else axis
    return values.reshape(math.prod(values.shape[:axis]), -1)


def _reshape(at: Attributes, values: Tensor, shape: Tensor) -> Tensor:
    wanted = _ints(shape)
    if not at.get("allowzero", 0):
        wanted = [values.shape[place] if side == 0 else side for place, side in enumerate(wanted)]
    return values.reshape(wanted)


def _squeeze(at: Attributes, values: Tensor, given: Tensor | None = None) -> Tensor:
    axes = _axes(at, given)
    return values.squeeze() if axes is None else values.squeeze(tuple(axes))


def _unsqueeze(at: Attributes, values: Tensor, given: Tensor | None = None) -> Tensor:
    axes = _axes(at, given) or []
    rank = values.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return values


def _transpose(at: Attributes, values: Tensor) -> Tensor:
    return values.permute(at.get("perm") or list(reversed(range(values.ndim))))


def _slice(at: Attributes, values: Tensor, *given: Tensor | None) -> Tensor:
    names = ("starts", "ends", "axes", "steps")
    told: dict[str, Any] = dict(zip(names, given, strict=False)) if given else at
    starts, ends = _ints(told["starts"]), _ints(told["ends"])
    axes = _ints(range(len(starts)) if told.get("axes") is None else told["axes"])
    steps = _ints([1] * len(starts) if told.get("steps") is None else told["steps"])
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = end if step > 0 or end >= -values.shape[axis] else None
        chosen = range(values.shape[axis])[slice(start, stop, step)]
        if step == 1:
            values = values.narrow(axis, chosen.start, len(chosen))
        else:
            values = values.index_select(axis, torch.tensor(list(chosen), dtype=torch.long))
    return values


def _gather(at: Attributes, values: Tensor, indices: Tensor) -> Tensor:
    axis = at.get("axis", 0)
    places = indices.long()
    places = torch.where(places < 0, places + values.shape[axis], places)
    found = values.index_select(axis, places.reshape(-1))
    axis = axis % values.ndim
    return found.reshape(*values.shape[:axis], *places.shape, *values.shape[axis + 1 :])


def _pad(
    at: Attributes, values: Tensor, given: Tensor | None = None, fill: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    pads = _ints(at["pads"] if given is None else given)
    chosen = list(range(values.ndim)) if axes is None else [axis % values.ndim for axis in _ints(axes)]
    sides = [0] * (2 * values.ndim)
    for place, axis in enumerate(chosen):  # torch names the last dimension first
        sides[2 * (values.ndim - 1 - axis)] = pads[place]
        sides[2 * (values.ndim - 1 - axis) + 1] = pads[place + len(chosen)]
    mode = str(at.get("mode", "constant"))
    if mode == "constant":
        return functional.pad(values, sides, value=float(at.get("value", 0.0)) if fill is None else float(fill))
    while len(sides) > 4 and sides[-2:] == [0, 0]:
        sides = sides[:-2]
    return functional.pad(values, sides, mode={"edge": "replicate", "wrap": "circular"}.get(mode, mode))


def _split(at: Attributes, values: Tensor, given: Tensor | None = None) -> Sequence[Tensor]:
    axis = at.get("axis", 0)
    if given is not None or "split" in at:
        return torch.split(values, _ints(at["split"] if given is None else given), axis)
    return torch.split(values, -(-values.shape[axis] // at["outputs"]), axis)


def _expand(_at: Attributes, values: Tensor, shape: Tensor) -> Tensor:
    return torch.broadcast_to(values, np.broadcast_shapes(tuple(values.shape), tuple(_ints(shape))))


def _cast(at: Attributes, values: Tensor) -> Tensor:
    """Integers of 64 bits stay integers, as places and sizes are; all other types are float32 here."""
    if at["to"] in (6, 7, 9):
        return values.long() if at["to"] == 7 or not values.is_floating_point() else values
    return values.float()


def _gelu(at: Attributes, values: Tensor) -> Tensor:
    return functional.gelu(values, approximate=at.get("approximate", "none"))


def _hard_sigmoid(at: Attributes, values: Tensor) -> Tensor:
    return torch.clamp(at.get("alpha", 0.2) * values + at.get("beta", 0.5), 0, 1)


def _elementwise(function: Callable[..., Tensor]) -> Operator:
    return lambda _at, *inputs: function(*inputs)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def fold(_at: Attributes, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return fold


def _divide(first: Tensor, second: Tensor) -> Tensor:
    if first.is_floating_point() or second.is_floating_point():
        return first / second
    return torch.div(first, second, rounding_mode="trunc")


def _mean(at: Attributes, *inputs: Tensor) -> Tensor:
    total: Tensor = _folded(torch.add)(at, *inputs)
    return total / len(inputs)


def _shape(at: Attributes, values: Tensor) -> Tensor:
    return torch.tensor(values.shape[at.get("start", 0) : at.get("end")], dtype=torch.long)


def _constant_of_shape(at: Attributes, shape: Tensor) -> Tensor:
    from onnx import numpy_helper

    value = numpy_helper.to_array(at["value"]).reshape(()) if "value" in at else 0.0
    return torch.full(_ints(shape), value.item() if hasattr(value, "item") else value)


OPERATORS: dict[str, Operator] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "ConvInteger": _conv_integer,
    "MatMulInteger": matmul_integer,
    "DynamicQuantizeLinear": dynamic,
    "Gemm": _gemm,
    "MatMul": _elementwise(torch.matmul),
    "FusedMatMul": _fused_matmul,
    "Add": _elementwise(torch.add),
    "Sub": _elementwise(torch.sub),
    "Mul": _elementwise(torch.mul),
    "Div": _elementwise(_divide),
    "Pow": lambda _at, values, exponent: torch.pow(values, exponent.to(values.dtype)),
    "Sum": _folded(torch.add),
    "Mean": _mean,
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Where": lambda _at, condition, first, second: torch.where(condition.bool(), first, second),
    "Relu": _elementwise(torch.relu),
    "LeakyRelu": lambda at, values: functional.leaky_relu(values, at.get("alpha", 0.01)),
    "PRelu": lambda _at, values, slope: torch.where(values < 0, values * slope, values),
    "Elu": lambda at, values: functional.elu(values, at.get("alpha", 1.0)),
    "Selu": _elementwise(functional.selu),
    "Celu": lambda at, values: functional.celu(values, at.get("alpha", 1.0)),
    "Clip": _clip,
    "Sigmoid": _elementwise(torch.sigmoid),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _elementwise(functional.hardswish),
    "Swish": lambda at, values: values * torch.sigmoid(at.get("alpha", 1.0) * values),
    "QuickGelu": lambda at, values: values * torch.sigmoid(at.get("alpha", 1.702) * values),
    "Mish": _elementwise(functional.mish),
    "Gelu": _gelu,
    "FastGelu": lambda _at, *values: functional.gelu(sum(values), approximate="tanh"),
    "BiasGelu": lambda _at, values, bias: functional.gelu(values + bias),
    "Erf": _elementwise(torch.erf),
    "Tanh": _elementwise(torch.tanh),
    "Softplus": _elementwise(functional.softplus),
    "Softsign": _elementwise(functional.softsign),
    "Exp": _elementwise(torch.exp),
    "Log": _elementwise(torch.log),
    "Sqrt": _elementwise(torch.sqrt),
    "Abs": _elementwise(torch.abs),
    "Neg": _elementwise(torch.neg),
    "Floor": _elementwise(torch.floor),
    "Ceil": _elementwise(torch.ceil),
    "Reciprocal": _elementwise(torch.reciprocal),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LRN": _local_norm,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMin": _reduced(torch.amin),
    "ReduceL2": _reduced(torch.linalg.vector_norm),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": lambda at, *inputs: torch.cat(inputs, at["axis"]),
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Split": _split,
    "Expand": _expand,
    "Tile": lambda _at, values, times: values.repeat(_ints(times)),
    "Identity": lambda _at, values: values,
    "Dropout": lambda _at, values, *_rest: values,
    "Cast": _cast,
    "Shape": _shape,
    "ConstantOfShape": _constant_of_shape,
    "Equal": _elementwise(torch.eq),
    "Greater": _elementwise(torch.gt),
    "Less": _elementwise(torch.lt),
    "Not": _elementwise(torch.logical_not),
}
"""Operator -> its function."""
