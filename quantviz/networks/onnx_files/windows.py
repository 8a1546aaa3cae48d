"""ONNX's operators on sliding windows in torch: convolutions and pooling, with paddings on each side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Attributes = dict[str, Any]

_CONV: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX: dict[int, Callable[..., Tensor]] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN: dict[int, Callable[..., Tensor]] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def conv(at: Attributes, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv: values (N, C, ...), weight (M, C / group, ...)."""
    rank = values.ndim - 2
    strides, dilations = at.get("strides", [1] * rank), at.get("dilations", [1] * rank)
    pads = _pads(at, values, list(weight.shape[2:]), strides, dilations)
    if pads[:rank] == pads[rank:]:
        return _CONV[rank](values, weight, bias, strides, pads[:rank], dilations, at.get("group", 1))
    return _CONV[rank](_padded(values, pads), weight, bias, strides, 0, dilations, at.get("group", 1))


def conv_transpose(at: Attributes, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ConvTranspose with the same padding on both sides.

    Raises:
        NotImplementedError: another padding, or a stated output shape.
    """
    rank = values.ndim - 2
    pads = list(at.get("pads", [0] * (2 * rank)))
    if pads[:rank] != pads[rank:] or at.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in at:
        raise NotImplementedError("ConvTranspose with another padding on each side")
    strides, dilations = at.get("strides", [1] * rank), at.get("dilations", [1] * rank)
    further = at.get("output_padding", [0] * rank)
    return _TRANSPOSED[rank](values, weight, bias, strides, pads[:rank], further, at.get("group", 1), dilations)


def max_pool(at: Attributes, values: Tensor) -> Tensor:
    """MaxPool; what lies outside is less than anything."""
    kernel, rank = list(at["kernel_shape"]), values.ndim - 2
    strides, dilations = at.get("strides", [1] * rank), at.get("dilations", [1] * rank)
    pads = _pads(at, values, kernel, strides, dilations)
    if at.get("ceil_mode", 0):
        pads = _to_whole_windows(values, kernel, strides, dilations, pads)
    return _MAX[rank](_padded(values, pads, float("-inf")), kernel, strides, 0, dilations)


def average_pool(at: Attributes, values: Tensor) -> Tensor:
    """AveragePool, with what lies outside counted or not."""
    kernel, rank = list(at["kernel_shape"]), values.ndim - 2
    strides, dilations = at.get("strides", [1] * rank), at.get("dilations", [1] * rank)
    if any(step != 1 for step in dilations):
        raise NotImplementedError("AveragePool with dilations")
    pads = counted = _pads(at, values, kernel, strides, dilations)
    if at.get("ceil_mode", 0):
        pads = _to_whole_windows(values, kernel, strides, dilations, pads)
    if not any(pads):
        return _MEAN[rank](values, kernel, strides)
    ones = torch.ones_like(values[:1, :1])
    if at.get("count_include_pad", 0):  # not what only fills the last window
        ones = _padded(ones, counted, 1.0)
        ones = _padded(ones, [after - before for after, before in zip(pads, counted, strict=True)])
    else:
        ones = _padded(ones, pads)
    return _MEAN[rank](_padded(values, pads), kernel, strides) / _MEAN[rank](ones, kernel, strides)


def _pads(at: Attributes, values: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Return what is added before each dimension, then behind each."""
    rank, automatic = len(kernel), at.get("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        return list(at.get("pads", [0] * (2 * rank)))
    if automatic == "VALID":
        return [0] * (2 * rank)
    before, behind = [], []
    for side, window, stride, dilation in zip(values.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-side // stride) - 1) * stride + (window - 1) * dilation + 1 - side)
        smaller, greater = total // 2, total - total // 2
        before.append(greater if automatic == "SAME_LOWER" else smaller)
        behind.append(smaller if automatic == "SAME_LOWER" else greater)
    return before + behind


def _to_whole_windows(
    values: Tensor, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int]
) -> list[int]:
    """Return paddings that let the last window begin inside, though it ends outside."""
    rank, wider = len(kernel), list(pads)
    for axis, (window, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        side = values.shape[2 + axis] + pads[axis] + pads[axis + rank]
        reach = (window - 1) * dilation + 1
        windows = -(-(side - reach) // stride) + 1
        if (windows - 1) * stride >= values.shape[2 + axis] + pads[axis]:
            windows -= 1  # it would begin in the padding
        wider[axis + rank] += max(0, (windows - 1) * stride + reach - side)
    return wider


def _padded(values: Tensor, pads: list[int], fill: float = 0.0) -> Tensor:
    if not any(pads):
        return values
    rank = len(pads) // 2
    sides = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[axis + rank])]
    return functional.pad(values, sides, value=fill)
