"""A supplied map's values to a binary mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import FloatMap


def to_mask(values: npt.NDArray[Any]) -> tuple[FloatMap, tuple[str, ...]]:
    """Make a mask of a map: 1 where the object is.

    Of two values the larger is object, whatever they are (0 and 1, 0 and 255, ...). Of more, as soft edges and JPEG
    leave them, object is what lies above half of the range, which a note says with the share of values that are not
    within a tenth of either end: a large share shows that the map is a density, or labels of several objects, rather
    than a mask. Of one value, all is object unless it is 0.

    Args:
        values: real (h, w), finite.

    Returns:
        float32 (h, w) of 0 and 1; and notes.
    """
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.asarray(values != 0, np.float32), ()
    if ((values == low) | (values == high)).all():
        return np.asarray(values == high, np.float32), ()
    middle, half = low / 2 + high / 2, high / 2 - low / 2  # halved first, so that huge values cannot overflow
    mask = np.asarray(values > middle, np.float32)
    between = float((np.abs(values - middle) < 0.8 * half).mean())
    return mask, (f"thresholded at half of its range, {low:g} to {high:g}, {between:.0%} of it being in between",)
