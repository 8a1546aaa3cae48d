"""QuantizeLinear, DequantizeLinear and their relatives in torch, with straight-through gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantviz.networks.onnx_files.grids import Grid


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Rounds to a grid's integers: half to even, saturated, as QuantizeLinear does.

    The gradient passes straight through, saturated values included, so that a class whose score exceeds what was
    calibrated still has a map. Two ends of a grid are more than ends: a Relu that the quantizer fused is the lower end
    of a grid that begins at zero, and a Clip its upper end. There the gradient is zero, as it is of Relu and Clip.

    Attributes:
        grid: with one scale, or one for each channel.
        clipped: whether the upper end stands for a Clip.
        positive: whether what it reads is never below zero, so that the lower end does not matter.
    """

    grid: Grid
    clipped: bool = False
    positive: bool = False

    def __call__(self, values: Tensor) -> Tensor:
        """Return integers, as float32, of real values."""
        scale, zero = _spread(self.grid, values.ndim)
        low, high = self.grid.quant_min, self.grid.quant_max
        limits = (0.0 if self.grid.at_zero and not self.positive else -np.inf, self.top() if self.clipped else np.inf)
        found: Tensor = _Rounded.apply(values, scale, zero, (low, high), limits)
        return found

    def top(self) -> float:
        """The greatest real value of the grid; of several channels, the least of theirs."""
        return float((self.grid.scale * (self.grid.quant_max - self.grid.zero_point)).min())


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        scale: Tensor,
        zero: Tensor,
        ends: tuple[int, int],
        limits: tuple[float, float],
    ) -> Tensor:
        ctx.save_for_backward(values, scale)
        ctx.limits = limits
        return ((values / scale).round() + zero).clamp(*ends)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, scale = ctx.saved_tensors
        low, high = ctx.limits
        found = gradients[0] / scale
        if low != -np.inf:
            found = found.where(values >= low, 0.0)
        if high != np.inf:
            found = found.where(values <= high, 0.0)
        return found, None, None, None, None


@dataclass(frozen=True, eq=False)
class Dequantizer:
    """Gives the real values of a grid's integers.

    Attributes:
        grid: of one scale, one for each channel, or one for each block.
    """

    grid: Grid

    def __call__(self, integers: Tensor) -> Tensor:
        """Return real values, float32, of integers."""
        scale, zero = _spread(self.grid, integers.ndim, tuple(integers.shape) if self.grid.block else ())
        return (integers - zero) * scale


@lru_cache(maxsize=1024)
def _spread(grid: Grid, rank: int, shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Return scale and zero point so that they go with a tensor of this rank."""
    scale, zero = torch.from_numpy(grid.scale.copy()), torch.from_numpy(grid.zero_point.astype(np.float32))
    if grid.block:
        axis = (grid.axis or 0) % rank
        scale, zero = (entry.repeat_interleave(grid.block, axis) for entry in (scale, zero))
        return scale.narrow(axis, 0, shape[axis]), zero.narrow(axis, 0, shape[axis])
    if grid.axis is None:
        return scale.reshape(()), zero.reshape(())
    wide = [1] * rank
    wide[grid.axis % rank] = -1
    return scale.reshape(wide), zero.reshape(wide)


def dynamic(_at: dict[str, Any], values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear: uint8 integers, their scale and zero point, from the values' own range with 0 in it."""
    low, high = values.detach().amin().clamp(max=0), values.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).clamp(0, 255).round()
    limits = (-np.inf, np.inf)
    integers: Tensor = _Rounded.apply(values, scale, zero, (0, 255), limits)
    return integers, scale, zero


def centred(values: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Return integers less their zero point, which may be one for each place along an axis."""
    if zero is None:
        return values
    if zero.ndim == 1 and len(zero) > 1:
        wide = [1] * values.ndim
        wide[axis] = -1
        zero = zero.reshape(wide)
    return values - zero.float()


def matmul_integer(
    _at: dict[str, Any], first: Tensor, second: Tensor, zero: Tensor | None = None, other: Tensor | None = None
) -> Tensor:
    """MatMulInteger: the product of two integer matrices, less their zero points."""
    return centred(first, zero, first.ndim - 2) @ centred(second, other, second.ndim - 1)
