"""Any map's values to a heatmap, and to another resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quantviz.specs import Heatmap

_FLAT = 1e-6  # range, relative to the largest magnitude, at and below which values count as constant


def to_heatmap(values: npt.NDArray[Any]) -> Heatmap:
    """Min-max scale a map, or flag it when it carries no evidence.

    Args:
        values: (h, w), any real dtype and range.

    Returns:
        float32 values in [0, 1] that reach both ends; or zeros with ``degenerate`` set to
        ``"contains NaN or infinity"``, ``"all zero"`` or ``"constant"`` (a range of at most 1e-6 of the largest
        magnitude).
    """
    values = np.asarray(values, dtype=np.float64)
    if reason := degenerate(values):
        return Heatmap(np.zeros(values.shape, np.float32), reason)
    values = values / np.abs(values).max()  # so that the range of huge values cannot overflow
    low, high = values.min(), values.max()
    return Heatmap(((values - low) / (high - low)).astype(np.float32))


def degenerate(values: npt.NDArray[np.float64]) -> str:
    """Return why a map carries no evidence, or "" when it does."""
    if not np.isfinite(values).all():
        return "contains NaN or infinity"
    peak = np.abs(values).max()
    if peak == 0.0:
        return "all zero"
    return "constant" if values.max() / peak - values.min() / peak <= _FLAT else ""


def resized(
    values: npt.NDArray[np.floating[Any]], height: int, width: int, resample: Image.Resampling
) -> npt.NDArray[np.float64]:
    """Resize a map (h, w), antialiased where it shrinks, in float32."""
    image = Image.fromarray(values.astype(np.float32, copy=False)).resize((width, height), resample)
    return np.asarray(image, dtype=np.float64)
