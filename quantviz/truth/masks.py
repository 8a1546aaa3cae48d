"""A supplied map's values to a binary mask."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.specs import FloatMap

VOID: Final = 255
"""What data sets of class numbers (PASCAL VOC, ADE20K, Cityscapes) write where a pixel belongs to no class."""

_MOST_LABELS = 64
_SMALL = 40  # edges of a soft mask take levels up to its own; levels as low as this throughout are class numbers


def to_mask(values: npt.NDArray[Any]) -> tuple[FloatMap, tuple[str, ...]]:
    """Make a mask of a map: 1 where the object is.

    - Of two values the larger is object, whatever they are (0 and 1, 0 and 255, ...); of one value, all is object
      unless it is 0.
    - A few whole numbers from 0 up are class numbers, as data sets write them: what is above 0 is object, and ``VOID``
      beside others is left out, which is NaN. Not so where 255 has most of what is above 0 and the others are not
      small: that is a mask with soft edges.
    - Of other values, as soft edges and JPEG leave them, object is what lies above half of the range, which a note says
      with the share of values that are not within a tenth of either end: a large share shows that the map is a density
      rather than a mask.

    Args:
        values: real (h, w), finite.

    Returns:
        float32 (h, w) of 0 and 1, NaN where a pixel is left out; and notes.
    """
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.asarray(values != 0, np.float32), ()
    if ((values == low) | (values == high)).all():
        return np.asarray(values == high, np.float32), ()
    if labels := _labels(values):
        return _labelled(values, labels)
    middle, half = low / 2 + high / 2, high / 2 - low / 2  # halved first, so that huge values cannot overflow
    mask = np.asarray(values > middle, np.float32)
    between = float((np.abs(values - middle) < 0.8 * half).mean())
    return mask, (f"thresholded at half of its range, {low:g} to {high:g}, {between:.0%} of it being in between",)


def _labels(values: npt.NDArray[np.float64]) -> list[int]:
    """Return the class numbers above 0 that more than two values are, without ``VOID`` beside others; [] for none."""
    found, counts = np.unique(values, return_counts=True)
    if len(found) > _MOST_LABELS or found[0] != 0 or (found != np.floor(found)).any() or found[-1] > 2**31:
        return []
    is_void = found == VOID
    others = ~is_void & (found > 0)
    soft = is_void.any() and counts[is_void].sum() > counts[others].sum() and found[others].max() > _SMALL
    return [] if soft else [int(label) for label in found[others]]


def _labelled(values: npt.NDArray[np.float64], labels: list[int]) -> tuple[FloatMap, tuple[str, ...]]:
    mask = np.asarray(values > 0, np.float32)
    shown = ", ".join(map(str, labels[:8])) + (", ..." if len(labels) > 8 else "")
    words = f"its values are class numbers: {'label' if len(labels) == 1 else 'labels'} {shown} taken as the object"
    void = values == VOID
    if VOID in labels or not void.any():
        return mask, (words,)
    mask[void] = np.nan
    return mask, (f"{words}, and {VOID} (void, {void.mean():.1%} of it) left out of the scores",)
