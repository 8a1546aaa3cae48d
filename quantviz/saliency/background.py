"""Salient objects, predicted as what is not background: robust background detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

from quantviz.saliency.maps import resized, to_heatmap
from quantviz.specs import RGB, Heatmap

LONGEST = 300
"""Pixels of the longer side of the image that the method works on."""

SUPERPIXEL = 600
"""Pixels in a superpixel, on average, of that image."""

_COMPACTNESS = 20.0  # SLIC's balance of colour against position
_SIGMA_GEODESIC = 7.0  # in units of Lab, as the next
_SIGMA_NEIGHBOUR = 10.0
_SIGMA_SPACE = 0.4  # of the image's height and width
_SIGMA_BOUNDARY = 1.0
_MU = 0.1  # least weight of the smoothness between adjacent superpixels
_LAMBDA = 5.0  # weight of the background's term
_CERTAIN, _CERTAIN_WEIGHT = 3.0, 1000.0  # boundary connectivity beyond which it is background for sure, and its weight
_VISIBLE = 1.0  # Lab distance below which two colours look the same
_TINY = 1e-9  # length of an edge of no colour difference; a zero would be no edge in a sparse matrix

_Array = npt.NDArray[np.float64]


def robust_background(rgb: RGB) -> Heatmap:
    r"""Predict the salient object from how little each region belongs to the image's boundary.

    Saliency optimization of W. Zhu, S. Liang, Y. Wei and J. Sun, "Saliency Optimization from Robust Background
    Detection", CVPR 2014, doi 10.1109/CVPR.2014.360, on SLIC superpixels p with mean colour in Lab and mean position:

    - d_app(p, q) is the distance of two colours, d_spa of two positions (height and width being 1), and d_geo the
      shortest path from p to q over adjacent superpixels, those at the image's border being all adjacent. An edge
      has length max(0, d_app - c), c being the mean over p of the least d_app to a superpixel at most two steps
      away, so that the small steps within a texture do not add up.
    - Boundary connectivity: with S(p, q) = exp(-d_geo^2 / (2 * 7^2)), BndCon(p) = sum of S(p, q) over the q at the
      border / sqrt(sum of S(p, q) over all q), which is large where what looks like p leans on the border a lot.
    - Background probability: w_bg(p) = 1 - exp(-BndCon(p)^2 / 2).
    - Foreground weight, the contrast to probable background: w_fg(p) = sum over q of
      d_app(p, q) exp(-d_spa^2 / (2 * 0.4^2)) w_bg(q), min-max scaled, then 0 below Otsu's threshold.
    - The saliency s minimises 5 sum w_bg(p) s(p)^2 + sum w_fg(p) (s(p) - 1)^2 + sum over pairs of
      w(p, q) (s(p) - s(q))^2, where w_bg is 1000 for BndCon over 3, and w(p, q) is exp(-d_app^2 / (2 * 10^2)) for
      superpixels at most two steps apart or both at the border, plus 0.1 for adjacent ones. That is the linear system
      (L + 5 diag(w_bg) + diag(w_fg)) s = w_fg, L being the Laplacian of w.

    The settings are those of the authors' published code, with the fixed widths 7 and 10 that it recommends in place
    of widths adapted to the image. (The paper's text has 10 for both, 0.25 for 0.4, and neither the factor 5 nor the
    1000.) Where this differs: the image is first resized to 300 pixels at its longer side (a superpixel has 600 on
    average, compactness 20), so that a photograph and its thumbnail get one map; SLIC is scikit-image's; a
    superpixel is at the border when it holds a pixel of it; no frame is searched for and cut off; and an image
    without visible contrast gets a flag rather than a guess.

    Args:
        rgb: uint8 (h, w, 3).

    Returns:
        A map at (h, w), scaled back bilinearly, the same for the same image; degenerate (``"no visible contrast"``)
        where no two superpixels differ by 1 or more in Lab.
    """
    height, width = rgb.shape[:2]
    regions = _segmented(rgb)
    colours = _distances(regions.colours)
    if colours.max() < _VISIBLE:
        return Heatmap(np.zeros((height, width), np.float32), "no visible contrast")
    connectivity = _boundary_connectivity(regions, colours)
    background = 1.0 - np.exp(-(connectivity**2) / (2.0 * _SIGMA_BOUNDARY**2))
    foreground = _contrast(colours, _distances(regions.positions), background)
    background[connectivity > _CERTAIN] = _CERTAIN_WEIGHT
    saliency = _smoothest(regions, colours, background, foreground)
    return to_heatmap(resized(saliency[regions.labels], height, width, Image.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True)
class _Regions:
    """Superpixels: which pixels they hold, what they look like, and which touch."""

    labels: npt.NDArray[np.intp]  # (h, w), 0 to n - 1
    colours: _Array  # (n, 3), Lab
    positions: _Array  # (n, 2), height and width being 1
    on_border: npt.NDArray[np.bool_]  # (n,)
    adjacent: npt.NDArray[np.bool_]  # (n, n), nothing being adjacent to itself, here and below
    near: npt.NDArray[np.bool_]  # (n, n), at most two steps apart
    at_border: npt.NDArray[np.bool_]  # (n, n), both on the border


def _segmented(rgb: RGB) -> _Regions:
    # Importing these takes half a second, which no other command should wait for.
    from skimage.color import rgb2lab
    from skimage.segmentation import slic

    scale = LONGEST / max(rgb.shape[:2])
    height, width = (max(1, round(length * scale)) for length in rgb.shape[:2])
    small = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))
    wanted = max(2, round(height * width / SUPERPIXEL))
    labels = slic(small, n_segments=wanted, compactness=_COMPACTNESS, start_label=0)
    labels = np.unique(labels, return_inverse=True)[1].reshape(height, width)
    count = np.bincount(labels.ravel())

    def means(*channels: npt.NDArray[Any]) -> _Array:
        sums = [np.bincount(labels.ravel(), channel.ravel()) for channel in channels]
        return np.asarray(np.stack(sums, axis=1) / count[:, np.newaxis], np.float64)

    colours = means(*np.moveaxis(rgb2lab(small), 2, 0))
    y, x = np.indices((height, width))
    positions = means(y / height, x / width)
    on_border = np.zeros(len(count), np.bool_)
    on_border[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    adjacent = _adjacency(labels, len(count))
    steps = adjacent.astype(np.float64)
    near, at_border = adjacent | (steps @ steps > 0.0), np.outer(on_border, on_border)
    for pairs in (near, at_border):
        np.fill_diagonal(pairs, False)
    return _Regions(labels, colours, positions, on_border, adjacent, near, at_border)


def _adjacency(labels: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.bool_]:
    """Tell which superpixels hold pixels that touch, corners included."""
    adjacent = np.zeros((count, count), np.bool_)
    below, beside = (labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])
    corners = (labels[1:, 1:], labels[:-1, :-1]), (labels[1:, :-1], labels[:-1, 1:])
    for first, second in (below, beside, *corners):
        adjacent[first, second] = adjacent[second, first] = True
    np.fill_diagonal(adjacent, False)
    return adjacent


def _distances(vectors: _Array) -> _Array:
    return np.asarray(np.sqrt(((vectors[:, np.newaxis] - vectors) ** 2).sum(axis=2)))


def _boundary_connectivity(regions: _Regions, colours: _Array) -> _Array:
    usual = np.where(regions.near, colours, np.inf).min(axis=1).mean()
    lengths = np.where(regions.adjacent | regions.at_border, (colours - usual).clip(0.0) + _TINY, 0.0)
    geodesic = csgraph.dijkstra(sparse.csr_matrix(lengths), directed=False)
    similar = np.exp(-(geodesic**2) / (2.0 * _SIGMA_GEODESIC**2))
    return np.asarray(similar[:, regions.on_border].sum(axis=1) / np.sqrt(similar.sum(axis=1)))


def _contrast(colours: _Array, positions: _Array, background: _Array) -> _Array:
    from skimage.filters import threshold_otsu

    near = np.exp(-(positions**2) / (2.0 * _SIGMA_SPACE**2))
    contrast = (colours * near) @ background
    span = np.ptp(contrast)
    if span == 0.0:  # two superpixels, each the other's only contrast
        return np.ones_like(contrast)
    contrast = (contrast - contrast.min()) / span
    threshold = float(threshold_otsu(contrast))  # type: ignore[no-untyped-call]
    return np.where(contrast < threshold, 0.0, contrast)


def _smoothest(regions: _Regions, colours: _Array, background: _Array, foreground: _Array) -> _Array:
    alike = np.exp(-(colours**2) / (2.0 * _SIGMA_NEIGHBOUR**2))
    weights = np.where(regions.near | regions.at_border, alike, 0.0) + _MU * regions.adjacent
    laplacian = np.diag(weights.sum(axis=1)) - weights
    return np.linalg.solve(laplacian + np.diag(_LAMBDA * background + foreground), foreground)
