"""An image to its predicted saliency, and any map's values to a ``Heatmap``.

Whatever is made here is a prediction and is named as one: no method here has seen where people looked in the image.
Supplied maps are read and aligned by ``quantviz.images``; ``to_heatmap`` finishes them here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from quantviz.saliency.background import robust_background
from quantviz.saliency.maps import to_heatmap
from quantviz.saliency.network import OnnxSaliency, onnx_saliency, open_network
from quantviz.saliency.spectrum import spectral_residual
from quantviz.specs import RGB, Heatmap, UsageError

__all__ = [
    "PREDICTORS",
    "OnnxSaliency",
    "Predictor",
    "onnx_saliency",
    "predictor",
    "robust_background",
    "spectral_residual",
    "to_heatmap",
]


@dataclass(frozen=True, slots=True)
class Predictor:
    """One way to predict an image's saliency.

    Attributes:
        name: as users type it: a key of ``PREDICTORS``, or the path of an .onnx file.
        title: for display, always shown beside the map.
        source: the paper, or the file's sha256.
        key: what decides its maps beside the image, part of every cache key.
        predict: uint8 (h, w, 3) -> map at (h, w).
    """

    name: str
    title: str
    source: str
    key: str
    predict: Callable[[RGB], Heatmap]


PREDICTORS: Mapping[str, Predictor] = MappingProxyType(
    {
        "spectral_residual": Predictor(
            "spectral_residual",
            "spectral residual (Hou and Zhang 2007)",
            "X. Hou and L. Zhang, Saliency Detection: A Spectral Residual Approach, CVPR 2007, "
            "doi 10.1109/CVPR.2007.383267",
            "spectral_residual 1",
            spectral_residual,
        ),
        "robust_background": Predictor(
            "robust_background",
            "robust background detection (Zhu et al. 2014)",
            "W. Zhu, S. Liang, Y. Wei and J. Sun, Saliency Optimization from Robust Background Detection, CVPR 2014, "
            "doi 10.1109/CVPR.2014.360",
            "robust_background 1",
            robust_background,
        ),
    }
)
"""The methods that need no file, by the name that users type."""


def predictor(choice: str | Path) -> Predictor:
    """Return the predictor that a user names.

    Args:
        choice: a key of ``PREDICTORS``, or the path of an .onnx file, which is opened (see ``OnnxSaliency``).

    Raises:
        UsageError: the choice is neither.
        CheckpointError: the .onnx file cannot be used.
    """
    if str(choice) in PREDICTORS:
        return PREDICTORS[str(choice)]
    if Path(choice).suffix.lower() == ".onnx":
        network = open_network(Path(choice))
        title = f"{network.name} (ONNX network)"
        return Predictor(str(choice), title, f"sha256 {network.sha256}", f"onnx {network.sha256}", network)
    raise UsageError(f"Saliency {str(choice)!r} is unknown; use {', '.join(PREDICTORS)} or the path of an .onnx file.")
