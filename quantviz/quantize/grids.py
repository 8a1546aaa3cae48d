"""Integer grids, and rounding to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantviz.specs import Granularity, QuantvizError, Scheme

_TINY = torch.finfo(torch.float32).tiny
_SHRINKS = tuple(1 - step / 100 for step in range(0, 75))


@dataclass(frozen=True, slots=True)
class Grid:
    """An integer grid for a whole tensor: real value = scale * (integer - zero_point).

    Attributes:
        scale: step between neighbouring values, greater than 0.
        zero_point: the integer that stands for exactly 0, in [quant_min, quant_max].
        quant_min: least integer.
        quant_max: greatest integer.
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int


@dataclass(frozen=True, slots=True, eq=False)
class WeightGrid:
    """The integer grid of a weight, one scale and zero point for each output channel or for all.

    Attributes:
        scale: float32 (out_channels,), or (1,) per-tensor; greater than 0.
        zero_point: int32, the same shape; 0 throughout where symmetric.
        quant_min: least integer.
        quant_max: greatest integer.
    """

    scale: Tensor
    zero_point: Tensor
    quant_min: int
    quant_max: int

    def round(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Return a weight (out_channels, ...) on the grid, float32, without a gradient; rounding is half to even.

        The same bits as ``values(integers(round(weight)))``: zeros have no sign.

        Args:
            weight: float32.
            out: where to; the weight's shape. None: new memory.
        """
        columns = (-1, *[1] * (weight.ndim - 1))
        scale, zero_point = self.scale.view(columns), self.zero_point.view(columns)
        with torch.no_grad():
            steps = torch.mul(weight, scale.reciprocal(), out=out).round_()
            limits: Any = self.quant_min - zero_point, self.quant_max - zero_point
            if not self.zero_point.any():  # numbers take a third of the time of tensors
                limits = self.quant_min, self.quant_max
            return steps.clamp_(*limits).mul_(scale).add_(0.0)

    def integers(self, weight: Tensor) -> Tensor:
        """Return the integers that stand for a weight on the grid: int32, the weight's shape."""
        columns = (-1, *[1] * (weight.ndim - 1))
        integers = (weight / self.scale.view(columns)).round().to(torch.int32) + self.zero_point.view(columns)
        return integers.clamp(self.quant_min, self.quant_max)

    def of_rows(self, rows: slice) -> WeightGrid:
        """Return the grid of some output channels."""
        if len(self.scale) == 1:
            return self
        return WeightGrid(self.scale[rows], self.zero_point[rows], self.quant_min, self.quant_max)

    def values(self, integers: Tensor) -> Tensor:
        """Return the real values of integers (out_channels, ...), float32: scale * (integer - zero_point)."""
        columns = (-1, *[1] * (integers.ndim - 1))
        return (integers - self.zero_point.view(columns)).float() * self.scale.view(columns)


def round_to(values: Tensor, grid: Grid) -> Tensor:
    """Return values of any shape on a grid, same dtype; rounding is half to even.

    The same bits as ``torch.fake_quantize_per_tensor_affine``, and its gradient: 1 inside the range, 0 where clipped.
    Steps over the whole tensor take a tenth of that kernel's time or less (measured on two CPUs), since it goes value
    by value.

    Args:
        values: float32.
        grid: where to.
    """
    # In float32, as the kernel does it: the inverse of the rounded scale, rounded.
    scale = torch.tensor(grid.scale, dtype=torch.float32)
    limits = grid.quant_min - grid.zero_point, grid.quant_max - grid.zero_point
    if torch.is_grad_enabled() and values.requires_grad:
        rounded: Tensor = _Rounded.apply(values, float(scale.reciprocal()), float(scale), *limits)
        return rounded
    return values.mul(float(scale.reciprocal())).round_().clamp_(*limits).mul_(float(scale))


class _Rounded(torch.autograd.Function):
    """``round_to`` with its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, inverse: float, scale: float, low: int, high: int) -> Tensor:
        steps = values.mul(inverse).round_()
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.saved_tensors[0], None, None, None, None


def affine_grid(low: float, high: float, bits: int) -> Grid:
    """Return the affine grid of ``2 ** bits`` values that covers [low, high] and holds 0 exactly.

    The range is first widened to contain 0. ``scale = (high - low) / (2 ** bits - 1)`` and
    ``zero_point = round(-low / scale)``, as in Jacob et al. 2018 (arXiv 1712.05877), section 3. An empty range
    (a layer that only ever read zeros) gets scale 1.

    Raises:
        QuantvizError: a limit is not finite.
    """
    low, high = _checked(low, high)
    quant_max = 2**bits - 1
    scale = _scale((high - low) / quant_max)
    return Grid(scale, min(max(round(-low / scale), 0), quant_max), 0, quant_max)


def symmetric_grid(low: float, high: float, bits: int) -> Grid:
    """Return the grid symmetric about 0 that covers [low, high]: zero_point 0, integers +-(2 ** (bits - 1) - 1).

    ``scale = max(|low|, |high|) / (2 ** (bits - 1) - 1)``. Half of it goes unused where nothing is negative.

    Raises:
        QuantvizError: a limit is not finite.
    """
    low, high = _checked(low, high)
    limit = 2 ** (bits - 1) - 1
    return Grid(_scale(max(-low, high) / limit), 0, -limit, limit)


def activation_grid(low: float, high: float, bits: int, scheme: Scheme) -> Grid:
    """Return ``affine_grid`` or ``symmetric_grid``.

    Raises:
        QuantvizError: a limit is not finite.
    """
    return affine_grid(low, high, bits) if scheme == "affine" else symmetric_grid(low, high, bits)


def weight_grid(
    weight: Tensor,
    bits: int,
    scheme: Scheme = "symmetric",
    granularity: Granularity = "per_channel",
    *,
    least_squares: bool = False,
) -> WeightGrid:
    """Return the grid of a weight.

    Symmetric: ``scale_c = max |w_c| / (2 ** (bits - 1) - 1)``, integers from ``-(2 ** (bits - 1) - 1)`` to
    ``2 ** (bits - 1) - 1`` (the narrow range of integer kernels), zero_point 0. Affine: as ``affine_grid``.

    Args:
        weight: (out_channels, ...), float32.
        bits: 2 to 16.
        scheme: ``"symmetric"`` or ``"affine"``.
        granularity: ``"per_channel"`` (c is an output channel) or ``"per_tensor"``.
        least_squares: of the ranges 1.00, 0.99, ... 0.26 times the full one, take each channel's with the least
            squared error; the first of equals.
    """
    rows = weight.flatten(1) if granularity == "per_channel" else weight.reshape(1, -1)
    low, high = rows.amin(dim=1).clamp_max(0), rows.amax(dim=1).clamp_min(0)
    best = _row_grid(low, high, bits, scheme)
    if not least_squares:
        return best
    error = _squared_error(rows, best)
    scale, zero_point = best.scale.clone(), best.zero_point.clone()
    for shrink in _SHRINKS[1:]:
        grid = _row_grid(low * shrink, high * shrink, bits, scheme)
        smaller = _squared_error(rows, grid)
        better = smaller < error
        scale[better], zero_point[better], error[better] = grid.scale[better], grid.zero_point[better], smaller[better]
    return WeightGrid(scale, zero_point, best.quant_min, best.quant_max)


def quantize_weight(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a weight to its symmetric per-channel grid.

    Args:
        weight: (out_channels, ...), float32.
        bits: 2 to 16.

    Returns:
        The weight on the grid, same shape and dtype, and the scales, (out_channels,) float32.
    """
    grid = weight_grid(weight, bits)
    return grid.round(weight), grid.scale


class InputQuantizer(nn.Module):
    """Rounds a layer's input to a frozen grid; the gradient is 1 inside the range and 0 where clipped."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values`` on the grid, same shape and dtype."""
        return round_to(values, self.grid)

    def extra_repr(self) -> str:
        """Describe the grid in the printed model."""
        return str(self.grid)


def _checked(low: float, high: float) -> tuple[float, float]:
    low, high = min(low, 0.0), max(high, 0.0)
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise QuantvizError(f"The calibrated range [{low}, {high}] is not finite; check the weights and images.")
    return low, high


def _scale(scale: float) -> float:
    # The kernels work in float32: a step below its least normal number would divide by zero there.
    return 1.0 if scale < _TINY else scale


def _row_grid(low: Tensor, high: Tensor, bits: int, scheme: Scheme) -> WeightGrid:
    if scheme == "symmetric":
        limit = 2 ** (bits - 1) - 1
        scale = torch.maximum(-low, high) / limit
        scale = torch.where(scale < _TINY, torch.ones_like(scale), scale)
        return WeightGrid(scale, torch.zeros_like(scale, dtype=torch.int32), -limit, limit)
    quant_max = 2**bits - 1
    scale = (high - low) / quant_max
    scale = torch.where(scale < _TINY, torch.ones_like(scale), scale)
    zero_point = (-low / scale).round().clamp(0, quant_max).to(torch.int32)
    return WeightGrid(scale, zero_point, 0, quant_max)


def _squared_error(rows: Tensor, grid: WeightGrid) -> Tensor:
    rounded = grid.round(rows)
    return (rounded.double() - rows.double()).square().sum(dim=1)
