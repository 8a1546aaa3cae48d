"""A map against where the object is: IoU of its box, energy pointing, and the pointing game.

Boxes are (x0, y0, x1, y1) in pixels of the map, at pixel edges: pixel (row, column) covers [column, column + 1) in x.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from quantviz.scores.checks import Array, Float64, Undefined, as_mask, distribution, levels, unit_range, varied
from quantviz.specs import UsageError

CAM_THRESHOLD = 0.2
"""The fraction of a CAM's maximum at which its paper cuts it."""

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""The levels that ``box_iou_max`` tries."""

TOLERANCE = 15.0
"""How far, in pixels, the pointing game's point may miss."""


def box_iou(values: Array, boxes: Array, *, threshold: float = CAM_THRESHOLD) -> float:
    """Intersection over union of the map's box with the best ground-truth box.

    The map's box is the tight one around the largest connected component of the pixels at or above the threshold.
    Among components of one size, the one with the greater sum of the map counts, and then the first in reading order.
    Weakly supervised localization counts a hit where this is at least 0.5.

    Convention:
        Box IoU = largest IoU, over the ground-truth boxes, of the tight box around the largest 8-connected component
        of min-max scaled P ≥ t; from 0 to 1, higher is closer.

    In plain words:
        How well a box drawn around the map's largest hot spot matches the object's box: 1 is exactly.

    Source:
        B. Zhou, A. Khosla, A. Lapedriza, A. Oliva and A. Torralba, "Learning deep features for discriminative
        localization", CVPR 2016, doi 10.1109/CVPR.2016.319; J. Choe et al., "Evaluating weakly supervised object
        localization methods right", CVPR 2020, arXiv 2001.07437.

    Cost:
        O(N), one labelling of connected components.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range has no level to cut at.

    Args:
        values: (h, w), any real dtype.
        boxes: (n, 4), ground truth.
        threshold: level in [0, 1] of the min-max scaled map.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, a box is not x0 < x1 and y0 < y1, there is none, or the threshold is not
            in [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise UsageError(f"The threshold {threshold!r} is not in [0, 1], the range of the scaled map.")
    scaled = unit_range(varied(values, "The box"))
    return _iou(_box_of(scaled, threshold), _boxes(boxes))


def box_iou_max(values: Array, boxes: Array) -> float:
    """Intersection over union of the map's box with the best ground-truth box, at the best threshold.

    Convention:
        Best box IoU = largest box IoU over the thresholds t = 0.05, 0.10, ..., 0.95, chosen for this image (an upper
        bound; MaxBoxAcc chooses one threshold for the whole data set); from 0 to 1, higher is closer.

    In plain words:
        How well a box around the map's largest hot spot can match the object's box at all: 1 is exactly.

    Source:
        J. Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020, arXiv
        2001.07437, which tries a range of thresholds.

    Cost:
        O(N), 19 labellings of connected components.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range has no level to cut at.

    Args:
        values: (h, w), any real dtype.
        boxes: (n, 4), ground truth.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is degenerate, a box is not x0 < x1 and y0 < y1, or there is none.
    """
    scaled, boxes = unit_range(varied(values, "The box")), _boxes(boxes)
    return max(_iou(_box_of(scaled, threshold), boxes) for threshold in THRESHOLDS)


def energy_pointing(values: Array, inside: Array) -> float:
    """Energy-based pointing game: the share of the map's sum that lies inside the object.

    Convention:
        Energy pointing = Σ P inside the object's mask or boxes / Σ P, over the map shifted to a minimum of 0 only if
        it has negative values; from 0 to 1, the object's share of the area is chance, higher is closer.

    In plain words:
        How much of the map's heat lies on the object: 1 is all of it.

    Source:
        H. Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR
        Workshops 2020, doi 10.1109/CVPRW50498.2020.00020.

    Cost:
        O(N), one pass.

    Degenerate maps:
        A constant map above 0 has the object's share of the area; an all-zero map and one with NaN or infinity have
        none.

    Args:
        values: (h, w), any real dtype.
        inside: (h, w), 1 on the object and 0 elsewhere; ``covered`` makes it of boxes.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is not finite or has no positive mass, or ``inside`` is empty, not binary or of another
            shape.
    """
    density = distribution(values)
    return float(np.clip(density[as_mask(inside, density.shape)].sum(), 0.0, 1.0))


def pointing_game(values: Array, inside: Array, *, tolerance: float = TOLERANCE) -> float:
    """Pointing game: whether the map's maximum lies on the object, or near it.

    A hit lies at most ``tolerance`` pixels, in a straight line between pixel centres, from the object. Where several
    pixels share the maximum, the value is the share of them that hit. The 15 pixels are the paper's, for photographs
    of about 500 pixels; they are generous on a smaller map.

    Convention:
        Pointing game = 1 if the pixel of the maximum lies within 15 pixels of the object's mask or boxes, else 0, and
        the share of hits where several pixels tie for the maximum; from 0 to 1, higher is closer.

    In plain words:
        Whether the hottest point of the map is on the object or within 15 pixels of it: 1 is yes, 0 is no.

    Source:
        J. Zhang, Z. Lin, J. Brandt, X. Shen and S. Sclaroff, "Top-down neural attention by excitation backprop", ECCV
        2016, doi 10.1007/978-3-319-46493-0_33.

    Cost:
        O(N), a distance transform.

    Degenerate maps:
        A constant or all-zero map has the share of all pixels that would hit, which is chance; one with NaN or
        infinity has none.

    Args:
        values: (h, w), any real dtype.
        inside: (h, w), 1 on the object and 0 elsewhere; ``covered`` makes it of boxes.
        tolerance: in pixels, from 0 up.

    Returns:
        A value in [0, 1]; higher is closer.

    Raises:
        UsageError: the map is not finite, ``inside`` is empty, not binary or of another shape, or the tolerance is
            below 0.
    """
    if not 0.0 <= tolerance < np.inf:
        raise UsageError(f"The tolerance {tolerance!r} is not a finite number of pixels from 0 up.")
    values = levels(values)
    hits = ndimage.distance_transform_edt(~as_mask(inside, values.shape)) <= tolerance
    return float(hits[values == values.max()].mean())


def covered(boxes: Array, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Make a mask of boxes: the pixels whose centres lie in at least one of them.

    Args:
        boxes: (n, 4), x0, y0, x1, y1 in pixels of the map.
        shape: (h, w) of the map.

    Returns:
        bool (h, w).

    Raises:
        UsageError: there is no box, one is not x0 < x1 and y0 < y1, or none covers a pixel's centre.
    """
    inside = np.zeros(shape, np.bool_)
    y, x = (np.arange(side) + 0.5 for side in shape)
    for x0, y0, x1, y1 in _boxes(boxes):
        inside |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
    if not inside.any():
        raise Undefined(
            f"The boxes cover no pixel of a map of shape {tuple(shape)}; give boxes in the map's own pixels.",
            "the boxes cover no pixel",
        )
    return inside


def _boxes(boxes: Array) -> Float64:
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise UsageError(f"Boxes of shape {boxes.shape} are not (n, 4); give x0, y0, x1 and y1 of each.")
    if not len(boxes):
        raise Undefined("There are no boxes to score with; give at least one.", "there are no boxes")
    boxes = boxes.astype(np.float64)
    sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    if not sound.all():
        numbers = ", ".join(f"{edge:g}" for edge in boxes[~sound][0])
        raise UsageError(f"The box ({numbers}) is not x0 < x1 and y0 < y1; give its edges as x0, y0, x1, y1.")
    return boxes


def _box_of(scaled: Float64, threshold: float) -> Float64:
    labels, count = ndimage.label(scaled >= threshold, structure=np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    sums = ndimage.sum_labels(scaled, labels, numbers)
    largest = np.lexsort((numbers, -sums, -pixels))[0]
    rows, columns = ndimage.find_objects(labels)[largest]
    return np.array([columns.start, rows.start, columns.stop, rows.stop], np.float64)


def _iou(box: Float64, boxes: Float64) -> float:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0.0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return float((shared / (areas - shared)).max())
