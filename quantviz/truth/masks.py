"""A supplied map's values to a binary mask."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.specs import FloatMap

VOID: Final = 255
"""What data sets of class numbers (PASCAL VOC, ADE20K, Cityscapes) write where a pixel belongs to no class."""

_VOIDS: Final = (VOID, 65535, -1)
"""The same in 16 bits, and in arrays of signed numbers (ignore_index)."""

_TRIMAP: Final = (1, 2, 3)
"""Object, background and neither, as Oxford-IIIT Pet writes them: there is no 0."""

_MATTES: Final = {1.0: (0.5, 0.5), 255.0: (127, 128), 65535.0: (32767, 32768)}
"""What alpha-matting trimaps write for the object, and for what is not known."""

_MOST_LABELS = 64
_MOST_INSTANCES = 4096
_SMALL = 40  # edges of a soft mask take levels up to its own; levels as low as this throughout are class numbers


def to_mask(values: npt.NDArray[Any], *, lossy: bool = False) -> tuple[FloatMap, tuple[str, ...]]:
    """Make a mask of a map: 1 where the object is.

    - Of two values the larger is object, whatever they are (0 and 1, 0 and 255, ...); of one value, all is object
      unless it is 0. But 255 or 65535 beside a small number above 0, and -1 beside one above 1, is left out: a class
      number that fills what is known.
    - 0, 255 and the middle between them (0 to 1 and 0 to 65535 alike) are an alpha-matting trimap: the middle is
      where nobody knows, and is left out.
    - 1, 2 and 3 without a 0 are object, background and neither, as in Oxford-IIIT Pet; the last is left out.
    - A few whole numbers from 0 up are class numbers, as data sets write them: what is above 0 is object, and 255,
      65535 or -1 beside others is left out, which is NaN. Not so where 255 has most of what is above 0 and the others
      are not small: that is a mask with soft edges. Many whole numbers are instances where none below the largest is
      missing, or where they exceed 255.
    - Of other values, as soft edges and JPEG leave them, object is what lies above half of the range, which a note says
      with the share of values that are not within a tenth of either end: a large share shows that the map is a density
      rather than a mask.

    Args:
        values: real (h, w), finite.
        lossy: they are of a JPEG or lossy WebP file, whose levels are not exact: no class numbers and no trimap.

    Returns:
        float32 (h, w) of 0 and 1, NaN where a pixel is left out; and notes.
    """
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.asarray(values != 0, np.float32), ()
    found = _two_values(values, low, high) or (None if lossy else _trimap(values, low, high))
    if found is not None:
        return found
    labels = None if lossy else _labels(values)
    if labels is not None:
        return _labelled(values, *labels)
    middle, half = low / 2 + high / 2, high / 2 - low / 2  # halved first, so that huge values cannot overflow
    mask = np.asarray(values > middle, np.float32)
    between = float((np.abs(values - middle) < 0.8 * half).mean())
    return mask, (f"thresholded at half of its range, {low:g} to {high:g}, {between:.0%} of it being in between",)


def _two_values(values: npt.NDArray[np.float64], low: float, high: float) -> tuple[FloatMap, tuple[str, ...]] | None:
    """Return the mask of a map of two values, or None where there are more."""
    if not ((values == low) | (values == high)).all():
        return None
    if (high in _VOIDS and 0 < low < _SMALL and low == np.floor(low)) or (low == -1 and high > 1):
        number, void = (high, -1) if low == -1 else (low, int(high))
        return _labelled(values, [int(number)], void)
    return np.asarray(values == high, np.float32), ()


def _trimap(values: npt.NDArray[np.float64], low: float, high: float) -> tuple[FloatMap, tuple[str, ...]] | None:
    """Return the mask of a map that tells object, background and neither, or None where it tells something else."""
    if (low, high) == (1, 3) and np.isin(values, _TRIMAP).all():
        mask = np.where(values == 3, np.nan, values == 1).astype(np.float32)
        left = f"{(values == 3).mean():.1%}"
        words = f"its values are 1, 2 and 3, never 0: 1 taken as the object, 3 ({left} of it) left out of the scores"
        return mask, (words,)
    unknown = np.isin(values, _MATTES.get(high, ()))
    if low != 0 or not (unknown | (values == 0) | (values == high)).all():
        return None
    mask = np.where(unknown, np.nan, values == high).astype(np.float32)
    left = f"{unknown.mean():.1%}"
    words = f"its values are those of a trimap: {high:g} taken as the object, the middle ({left} of it) left out"
    return mask, (f"{words} of the scores",)


def _labels(values: npt.NDArray[np.float64]) -> tuple[list[int], int | None] | None:
    """Return the class numbers above 0 that more than two values are, and which number is void; None for no labels."""
    void: int | None
    found, counts = np.unique(values, return_counts=True)
    if found[0] == -1:
        found, counts, void = found[1:], counts[1:], _VOIDS[-1]
    else:
        void = next((number for number in _VOIDS if (found == number).any()), None)
    if len(found) > _MOST_INSTANCES or found[0] != 0 or (found != np.floor(found)).any() or found[-1] > 2**31:
        return None
    is_void = found == void
    others = ~is_void & (found > 0)
    if not others.any():
        return None
    labels = found[others]
    if len(labels) >= _MOST_LABELS and not (labels[-1] == len(labels) or labels[-1] > VOID):
        return None
    soft = is_void.any() and counts[is_void].sum() > counts[others].sum() and labels[-1] > _SMALL and void == VOID
    return None if soft else ([int(label) for label in labels], void)


def _labelled(
    values: npt.NDArray[np.float64], labels: list[int], void_label: int | None
) -> tuple[FloatMap, tuple[str, ...]]:
    mask = np.asarray(values > 0, np.float32)
    shown = ", ".join(map(str, labels[:8])) + (", ..." if len(labels) > 8 else "")
    words = f"its values are class numbers: {'label' if len(labels) == 1 else 'labels'} {shown} taken as the object"
    void = values == void_label
    if not void.any():
        return mask, (words,)
    mask[void] = np.nan
    return mask, (f"{words}, and {void_label} (void, {void.mean():.1%} of it) left out of the scores",)
