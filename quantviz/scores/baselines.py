"""Maps that know nothing of the image: what any score has to beat."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from quantviz.specs import FloatMap, UsageError

CENTRE_SIGMA = 0.25
"""Standard deviation of the centre Gaussian, as a fraction of the map's height and width."""


def centre_gaussian(shape: Sequence[int], sigma: float = CENTRE_SIGMA) -> FloatMap:
    """Make a Gaussian blob at the centre, stretched to the map's aspect ratio.

    exp(-((x - w/2)^2 / (sigma w)^2 + (y - h/2)^2 / (sigma h)^2) / 2) at the pixels' centres. The stretched Gaussian is
    the centre baseline of T. Judd, F. Durand and A. Torralba, "A benchmark of computational models of saliency to
    predict human fixations", MIT-CSAIL-TR-2012-001, which fits its width to data; sigma = 0.25, which puts the map's
    edges at two standard deviations, is quantviz's own choice.

    Args:
        shape: (h, w) in pixels.
        sigma: fraction of each side, above 0.

    Returns:
        float32 (h, w) in [0, 1].

    Raises:
        UsageError: the shape is not two whole numbers above 0, or sigma is not above 0.
    """
    height, width = _sides(shape)
    if not 0.0 < sigma < np.inf:
        raise UsageError(f"The centre Gaussian's sigma {sigma!r} is not a finite number above 0.")
    y, x = (((np.arange(side) + 0.5) / side - 0.5) / sigma for side in (height, width))
    return np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)).astype(np.float32)


def uniform(shape: Sequence[int]) -> FloatMap:
    """Make a map that is 1 everywhere.

    It is constant: metrics that need a map to vary have no value for it (``describe`` tells which).

    Args:
        shape: (h, w) in pixels.

    Returns:
        float32 (h, w) of ones.

    Raises:
        UsageError: the shape is not two whole numbers above 0.
    """
    return np.ones(_sides(shape), np.float32)


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (operator.index(side) for side in shape)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise UsageError(f"A map's shape {shape!r} is not two whole numbers above 0.")
    return height, width
