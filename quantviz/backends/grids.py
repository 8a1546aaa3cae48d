"""What a simulated network declares of its integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

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


def covering(low: float, high: float) -> ActivationGrid:
    """Return the grid of 256 values that covers [low, high], which holds 0, the zero on one of its values."""
    scale = (high - low) / LEVELS
    scale = scale if scale >= _TINY else 1.0
    return ActivationGrid(scale, min(max(round(-low / scale), 0), LEVELS))
