"""Properties of a picture that drift may go with: its brightness, and how much of it is the object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quantviz import scores
from quantviz.specs import GroundTruth, UsageError
from quantviz.study.specs.plan import BRIGHTNESS, OBJECT_SHARE

_LUMA = (299, 587, 114)  # thousandths


def picture_properties(
    columns: Sequence[str], crop: npt.NDArray[np.uint8], truth: GroundTruth | str | None
) -> dict[str, float | None]:
    """Return the properties of a picture that a study has columns for; None where one is not known.

    Args:
        columns: ``StudyPlan.property_columns``.
        crop: uint8 (h, w, 3), what the network sees of the picture, before it is normalized.
        truth: as in ``Picture``.
    """
    found: dict[str, float | None] = {BRIGHTNESS: brightness(crop)}
    found[OBJECT_SHARE] = object_share(truth) if isinstance(truth, GroundTruth) else None
    return {name: found[name] for name in columns}


def brightness(crop: npt.NDArray[np.uint8]) -> float:
    """Return the mean luma of a crop, in [0, 1].

    The luma is 0.299 R + 0.587 G + 0.114 B of the gamma-coded values (ITU-R BT.601-7, section 2.5.1), each of 0 to 255
    divided by 255. Whole numbers are summed, so that every machine gets the same bits.

    Args:
        crop: uint8 (h, w, 3).
    """
    sums = crop.sum(axis=(0, 1), dtype=np.int64).tolist()
    total = sum(weight * part for weight, part in zip(_LUMA, sums, strict=True))
    return float(total / (1000 * 255 * crop.shape[0] * crop.shape[1]))


def object_share(truth: GroundTruth) -> float | None:
    """Return the share of the crop's pixels on the object, in [0, 1]; None where the truth has neither mask nor boxes.

    Of boxes these are the pixels whose centres lie in at least one, as ``scores.covered`` says; of a mask those of
    value 1, and what is left out of the scores counts as none.

    Args:
        truth: in the crop's pixels.
    """
    if truth.kind == "mask" and truth.values is not None:
        return float(np.count_nonzero(truth.values == 1) / truth.values.size)
    if truth.kind != "boxes" or truth.boxes is None:
        return None
    try:
        return float(np.count_nonzero(scores.covered(truth.boxes, truth.shape)) / (truth.shape[0] * truth.shape[1]))
    except UsageError:  # boxes so small that no pixel's centre lies in one
        return 0.0
