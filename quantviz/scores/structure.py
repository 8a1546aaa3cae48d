"""Two maps as pictures: SSIM, by scikit-image."""

from __future__ import annotations

import importlib
from typing import Any

from quantviz.scores.checks import Array, Undefined, pair, unit_range, varied

WINDOW = 11
"""Side in pixels of SSIM's Gaussian window."""


def ssim(p: Array, q: Array) -> float:
    """Structural similarity index, averaged over all windows that lie in the map.

    ``skimage.metrics.structural_similarity`` with the settings of the paper. Symmetric; unchanged when either map is
    scaled by a positive factor or shifted, because both are min-max scaled first: a map's unit is arbitrary.

    Convention:
        SSIM = mean of (2 μp μq + C1)(2 σpq + C2) / ((μp² + μq² + C1)(σp² + σq² + C2)) over 11x11 Gaussian windows of
        sigma 1.5 with population covariances, C1 = 0.01² and C2 = 0.03², over maps min-max scaled to [0, 1] (data
        range 1); from -1 to 1, higher is closer.

    In plain words:
        Whether the maps look alike patch by patch, in level, contrast and pattern: 1 is identical.

    Source:
        Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from error visibility to
        structural similarity", IEEE TIP 13(4), 2004, doi 10.1109/TIP.2003.819861; scikit-image.

    Cost:
        O(N), five Gaussian filters.

    Degenerate maps:
        None of the three kinds has a value, because a map without a range cannot be scaled to [0, 1].

    Args:
        p: (h, w), any real dtype, finite, at least 11 pixels high and wide.
        q: the same shape.

    Returns:
        A value in [-1, 1]; higher is closer.

    Raises:
        UsageError: the shapes differ, or a map is degenerate or smaller than the window.
    """
    library: Any = importlib.import_module("skimage.metrics")  # here, because it is slow to import
    p, q = pair(p, q)
    p, q = (unit_range(varied(values, "SSIM")) for values in (p, q))
    if min(p.shape) < WINDOW:
        raise Undefined(
            f"SSIM is undefined for a map of shape {p.shape}; give maps of at least {WINDOW}x{WINDOW} pixels.",
            f"the map is smaller than {WINDOW}x{WINDOW} pixels",
        )
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(library.structural_similarity(p, q, data_range=1.0, **settings))
