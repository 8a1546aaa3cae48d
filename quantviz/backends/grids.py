"""What a simulated network declares of its integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

ROOM: Final = 2.0**30
"""Steps in int32 that a bias may take: as many are left for the products that are added to it."""

LEVELS: Final = 255
"""Steps between the ends of a grid of uint8."""

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class ActivationGrid:
    """A per-tensor grid of uint8: real value = scale * (integer - zero_point).

    Attributes:
        scale: greater than 0.
        zero_point: in [0, 255].
    """

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLayer:
    """A convolution as the simulated network has it.

    Attributes:
        integers: int8 (out_channels, ...), the weight; its zero point is 0.
        scale: float32 (out_channels,).
        bias: float32 (out_channels,), or None; it is rounded to steps of scale * source.scale, in int32.
        source: the grid of the layer's input.
    """

    integers: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None
    source: ActivationGrid

    def with_room(self) -> tuple[IntegerLayer, int]:
        """Return the layer with a bias that fits into ``ROOM``, and in how many channels its scale was raised for that.

        A nearly pruned channel's scale may be so small that its bias would be clipped, in silence, to what int32 holds.
        Its weight is rounded to steps of the larger scale, as toolkits do (onnxruntime's quantize_static since 1.20).
        """
        if self.bias is None:
            return self, 0
        least = np.abs(self.bias.astype(np.float64)) / (ROOM * self.source.scale)
        raised = least > self.scale
        if not raised.any():
            return self, 0
        scale = np.where(raised, least, self.scale).astype(np.float32)
        shape = (-1, *[1] * (self.integers.ndim - 1))
        real = self.integers * self.scale.astype(np.float64).reshape(shape)
        integers = np.where(raised.reshape(shape), np.rint(real / scale.reshape(shape)), self.integers)
        return replace(self, integers=integers.astype(np.int8), scale=scale), int(raised.sum())


def covering(low: float, high: float) -> ActivationGrid:
    """Return the grid of 256 values that covers [low, high], which holds 0, the zero on one of its values."""
    scale = (high - low) / LEVELS
    scale = scale if scale >= _TINY else 1.0
    return ActivationGrid(scale, min(max(round(-low / scale), 0), LEVELS))
