"""Ground truth that the user supplies: untrusted files to values in the picture's own pixels, and to ``GroundTruth``.

The way of each kind; ``quantviz.images`` reads maps and takes everything to the crop::

    map        its values (h, w)                                    -> cropped -> to_truth("map", ...)
    mask       its values (h, w)       -> to_mask                   -> cropped -> to_truth("mask", ...)
    fixations  .csv, .mat              -> read_fixations            -> cropped -> to_truth("fixations", ...)
               its values (h, w)       -> fixations_from_map        -> cropped -> to_truth("fixations", ...)
    boxes      .xml, .csv              -> read_boxes                -> cropped -> to_truth("boxes", ...)

Coordinates are continuous: a picture spans [0, W) x [0, H), the centre of pixel (row, column) being at
(column + 0.5, row + 0.5). Notes say what is left out or changed on the way. Whatever is wrong with a file
becomes one ``ImageError``. All functions may be called from several threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import FloatMap, GroundTruth, TruthKind
from quantviz.truth.boxes import read_boxes
from quantviz.truth.files import MAX_BYTES, same_aspect
from quantviz.truth.fixations import fixations_from_map, read_fixations
from quantviz.truth.imagenet import devkit_numbers, devkit_synsets, localized_synsets, object_synset
from quantviz.truth.lossy import check_lossy_mask
from quantviz.truth.masks import to_mask
from quantviz.truth.pairing import SUFFIXES, Pairing, pair

__all__ = [
    "MAX_BYTES",
    "SUFFIXES",
    "Pairing",
    "check_lossy_mask",
    "devkit_numbers",
    "devkit_synsets",
    "fixations_from_map",
    "localized_synsets",
    "object_synset",
    "pair",
    "read_boxes",
    "read_fixations",
    "same_aspect",
    "to_mask",
    "to_truth",
]

_NOUNS = {"fixations": ("fixation", "fixations"), "boxes": ("box", "boxes")}


def to_truth(
    kind: TruthKind,
    array: npt.NDArray[Any],
    shape: tuple[int, int],
    *,
    source: str,
    predicted: bool = False,
    notes: Iterable[str] = (),
    left_out: int = 0,
) -> GroundTruth:
    """Make a ground truth of what has been taken to the crop.

    Args:
        kind: ``"map"``, ``"mask"``, ``"fixations"`` or ``"boxes"``.
        array: in the crop's pixels: a map, or a mask of 0, 1 and NaN (left out), real (H, W); points (n, 2); or
            boxes (n, 4).
        shape: (H, W) of the crop.
        source: the file's or the method's name, always shown.
        predicted: True for a computed prediction.
        notes: of the steps before.
        left_out: how many points or boxes the crop left out, which becomes a note.

    Returns:
        The ground truth. It may hold nothing (no point in the crop, an empty mask), which a note says: metrics then
        have no value.

    Raises:
        ValueError: the array has another shape than its kind needs, or lies outside the crop: a mistake of the
            caller, not of the user.
    """
    if kind in ("map", "mask"):
        values, said = _values(kind, array, shape)
        return GroundTruth(kind, shape, source, predicted, values=values, notes=(*notes, *said))
    coordinates, said = _coordinates(kind, array, shape, left_out)
    points, boxes = (coordinates, None) if kind == "fixations" else (None, coordinates)
    return GroundTruth(kind, shape, source, predicted, points=points, boxes=boxes, notes=(*notes, *said))


def _values(kind: TruthKind, array: npt.NDArray[Any], shape: tuple[int, int]) -> tuple[FloatMap, list[str]]:
    values = np.asarray(array, np.float32)
    if values.shape != tuple(shape) or (kind == "mask" and not (np.isin(values, (0.0, 1.0)) | np.isnan(values)).all()):
        raise ValueError(f"a {kind} of shape {values.shape} is none for a crop of {shape}")
    empty = kind == "mask" and not (values == 1).any()
    return values, ["the mask holds no object in the crop"] if empty else []


def _coordinates(
    kind: TruthKind, array: npt.NDArray[Any], shape: tuple[int, int], left_out: int
) -> tuple[npt.NDArray[np.float64], list[str]]:
    coordinates = np.asarray(array, np.float64)
    width = 2 if kind == "fixations" else 4
    if coordinates.ndim != 2 or coordinates.shape[1] != width:
        raise ValueError(f"{kind} of shape {coordinates.shape} are not (n, {width})")
    corners = coordinates.reshape(-1, 2)
    if (corners < 0).any() or (corners > np.array(shape[::-1])).any():
        raise ValueError(f"{kind} lie outside a crop of {shape}")
    one, many = _NOUNS[kind]
    said = [f"{left_out} of {left_out + len(coordinates)} {many} outside the crop left out"] if left_out else []
    return coordinates, said if len(coordinates) else [*said, f"no {one} lies in the crop"]
