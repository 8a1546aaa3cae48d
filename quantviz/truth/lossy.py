"""Masks in lossy files: whether they are of class numbers, which such files do not keep."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.specs import ImageError

_BLOCK: Final = 8  # pixels: a JPEG file's blocks, in which what is flat stays flat
_DARKEST_OBJECT: Final = 40  # no mask of one object is as dark as this; class numbers are
_APART: Final = 4  # levels between two plateaus; those of a smooth map follow each other
_LEAST: Final = 0.004  # of all blocks


def check_lossy_mask(values: npt.NDArray[Any], name: str) -> None:
    """Refuse a mask of class numbers, or of three parts, in a lossy file: at each edge it has numbers of other classes.

    An object's mask in such a file has two levels, with others between them along the edge only. More levels show as
    blocks of one value, apart from each other, as a mask with soft edges and a smooth map have none.

    Args:
        values: grey levels (h, w) of a JPEG or lossy WebP file.
        name: of the file.

    Raises:
        ImageError: it is such a mask.
    """
    if values.size == 0 or values.min() == values.max() or len(np.unique(values)) == 2:
        return
    levels = _plateaus(values)
    if levels or values.max() <= _DARKEST_OBJECT:
        ends = [float(values.min()), float(values.max())]
        shown = ", ".join(f"{level:g}" for level in sorted({*ends, *levels})[:8])
        raise ImageError(
            f"{name} is a lossy file with areas of several levels ({shown}), as class numbers and trimaps are, which "
            "lossy compression changes at every edge; give the mask as PNG or .npy."
        )


def _plateaus(values: npt.NDArray[Any]) -> list[float]:
    """Return the levels between the ends that whole blocks have, each far from the next."""
    down, right = (side // _BLOCK for side in values.shape)
    blocks = values[: down * _BLOCK, : right * _BLOCK].reshape(down, _BLOCK, right, _BLOCK).swapaxes(1, 2)
    flat = blocks.reshape(down * right, _BLOCK * _BLOCK)
    levels, counts = np.unique(flat[(flat == flat[:, :1]).all(axis=1), 0], return_counts=True)
    runs = np.split(np.arange(len(levels)), np.flatnonzero(np.diff(levels) > 1) + 1)
    low, high, found = values.min() + _APART, values.max() - _APART, []
    for place, run in enumerate(runs):
        if not len(run) or levels[run[0]] < low or levels[run[-1]] > high or len(run) >= _APART:
            continue
        before = levels[run[0]] - levels[runs[place - 1][-1]] if place else _APART
        after = levels[runs[place + 1][0]] - levels[run[-1]] if place + 1 < len(runs) else _APART
        if min(before, after) >= _APART and counts[run].sum() >= max(4, _LEAST * len(flat)):
            found.append(float(levels[run[0]]))
    return found
