"""Coordinates and arrays of a stored picture in the upright one, by the EXIF orientation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def turned_points(
    points: npt.NDArray[np.float64], stored: tuple[int, int], orientation: int
) -> npt.NDArray[np.float64]:
    """Return points of a stored picture in the upright one.

    Args:
        points: (n, 2), x in [0, W] and y in [0, H].
        stored: (H, W) of the stored picture.
        orientation: EXIF's, 1 to 8 (CIPA DC-008, table of the Orientation tag).

    Returns:
        float64 (n, 2).
    """
    (height, width), (x, y) = stored, np.asarray(points, np.float64).T
    upright = {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }
    return np.stack(upright[orientation], axis=1)


def turned_boxes(boxes: npt.NDArray[np.float64], stored: tuple[int, int], orientation: int) -> npt.NDArray[np.float64]:
    """Return boxes (n, 4) of a stored picture in the upright one: x0, y0, x1, y1 with x0 < x1 and y0 < y1."""
    corners = [turned_points(boxes[:, place], stored, orientation) for place in ([0, 1], [2, 3])]
    return np.concatenate([np.minimum(*corners), np.maximum(*corners)], axis=1)


def turned_map(values: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return a map (h, w) of a stored picture as one of the upright picture."""
    if orientation >= 5:
        values = values.T
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
