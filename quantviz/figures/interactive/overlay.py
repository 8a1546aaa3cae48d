"""Maps over pictures as pixels, in the colours of the Plotly figures."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from plotly.colors import sample_colorscale

from quantviz.figures.data.panels import Maps, Panel, explained, grey, panels
from quantviz.figures.data.style import COLOURS, NEUTRAL
from quantviz.figures.interactive.layout import data_uri
from quantviz.specs import RGB

DIVERGING: Final = [[0.0, COLOURS["float"]], [0.5, NEUTRAL], [1.0, COLOURS["quantized"]]]
"""Plotly's scale for differences, from -limit to limit."""

_OPACITY = 0.55


def panel_pictures(shown: Maps) -> list[tuple[Panel, str, str]]:
    """Return each panel of a result with its second line and its picture.

    Returns:
        The panel; what it explains or where it is from; and its picture as a PNG in a ``data:`` address. A map without
        evidence is the picture in grey.
    """
    second = {
        "original": shown.sample.name,
        "saliency": shown.saliency.source if shown.saliency is not None else "",
    }
    pictures = []
    for panel in panels(shown):
        words = second.get(panel.kind, "") if panel.result is None else explained(shown, panel.result)
        pictures.append((panel, words, data_uri(pixels_of(panel, shown.crop), "PNG", optimize=True)))
    return pictures


def pixels_of(panel: Panel, crop: RGB) -> RGB:
    """Return a panel as pixels, uint8 (H, W, 3), over the picture ``crop`` of that shape."""
    if panel.kind == "original":
        return crop
    if panel.values is None:
        return np.repeat(grey(crop)[..., None], 3, axis=2)
    if panel.kind == "difference":
        return mixed(crop, (panel.values / panel.limit + 1) / 2, _colours("difference"), _OPACITY)
    return mixed(crop, panel.values, viridis(), _OPACITY)


def map_over(crop: RGB, grid: npt.NDArray[np.uint8] | None) -> RGB:
    """Return a native map over the picture in grey, uint8 (H, W, 3).

    Args:
        crop: uint8 (H, W, 3), what the network saw.
        grid: uint8 (h, w), 255 where the map is highest; None: there is no map, and the picture is shown in grey.
    """
    if grid is None:
        return np.repeat(grey(crop)[..., None], 3, axis=2)
    height, width = crop.shape[:2]
    values = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR), np.float64) / 255
    return mixed(crop, values, viridis(), _OPACITY)


def mixed(crop: RGB, values: npt.NDArray[np.floating], colours: npt.NDArray[np.float64], opacity: float) -> RGB:
    """Return a map over the picture in grey, uint8 (H, W, 3).

    Args:
        crop: uint8 (H, W, 3).
        values: (H, W), what is below 0 or above 1 taken as 0 or 1.
        colours: (256, 3) in [0, 255], for values from 0 to 1.
        opacity: of the map, in [0, 1].
    """
    mapped = colours[np.rint(255 * np.clip(values, 0, 1)).astype(np.intp)]
    found: RGB = np.rint(opacity * mapped + (1 - opacity) * grey(crop)[..., None]).astype(np.uint8)
    return found


def viridis() -> npt.NDArray[np.float64]:
    """Return 256 colours, float64 (256, 3) in [0, 255], of the scale that maps have."""
    return _colours("map")


@lru_cache(maxsize=2)
def _colours(kind: str) -> npt.NDArray[np.float64]:
    scale = DIVERGING if kind == "difference" else "Viridis"
    colours = 255 * np.array(sample_colorscale(scale, 256, colortype="tuple"))
    colours.setflags(write=False)
    return colours
