"""The viewer of maps: one component of the page that gets native maps as numbers and does the rest in the browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import streamlit as st
from PIL import Image

from quantviz.specs import RGB, Attention, FloatMap

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

Mode = Literal["side", "swipe", "flicker", "difference"]
Grid = Sequence[Sequence[float]]
"""A native map: h rows of w values in [0, 1]."""

OPACITY: Final = 0.7
_HINT = "Point, or use the arrow keys, to read values. Zoom: Ctrl and the wheel."
_PHOTO_QUALITY = 88
_SCRIPTS = ("numbers.js", "stage.js", "whole.js", "view.js")  # each uses what stands in the ones before
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Frame:
    """One quantized network's map in the viewer.

    Attributes:
        name: ``"W4A8"``, or another short name.
        native: its native map, or None where that carries no evidence.
        cc: of the two maps at the input's resolution, or None.
        words: the verdict, what follows "the network".
        prediction: what the network takes the picture for, a sentence.
        flipped: its top-1 is another than the float network's.
        problem: why there is no map, or "".
        subject: what comes before the verdict, or "" for the name.
        attention: the verdict's value, by which its sign is drawn.
        size: what the network takes, or "".
        pending: it is still being computed: everything but the name is to come.
    """

    name: str
    native: Grid | None
    cc: float | None
    words: str
    prediction: str
    flipped: bool
    problem: str = ""
    subject: str = ""
    attention: Attention = Attention.UNKNOWN
    size: str = ""
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole photograph, with the part of it that the networks see.

    Attributes:
        photo: a small copy of it, as a data URI.
        box: left, top, width and height of the part, in parts of the photograph; what goes beyond it is black.
        words: how much of the photograph that is, a sentence.
        little: most of the photograph is lost.
        crop: which crop is chosen, ``"centre"``, ``"fit"`` or ``"place"``; "" where none can be chosen.
    """

    photo: str
    box: tuple[float, float, float, float]
    words: str
    little: bool = False
    crop: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A further map beside the two: the picture's saliency, say.

    Attributes:
        name: its title.
        values: (H, W) in [0, 1], at the input's resolution.
        shown: it is shown at once, and not only when further maps are asked for.
    """

    name: str
    values: FloatMap
    shown: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What the viewer shows of one picture.

    Attributes:
        photo: the pixels that the networks saw, as a data URI.
        size: (height, width) of these pixels.
        native: the float network's native map, or None where that carries no evidence.
        frames: the quantized networks, in the order of the film strip; one at least.
        sentence: what the maps are, for those who cannot see them.
        problem: why there is no float map, or "".
        start: which frame is shown first.
        mode: how the maps are shown first.
        explains: the class that the maps are of, a few words; "" where they are of no class.
        whole: the whole photograph, or None where it is not shown.
        layers: further maps.
        link: offer to copy the page's address.
    """

    photo: str
    size: tuple[int, int]
    native: Grid | None
    frames: tuple[Frame, ...]
    sentence: str
    problem: str = ""
    start: int = 0
    mode: Mode = "side"
    explains: str = ""
    whole: Whole | None = None
    layers: tuple[Layer, ...] = ()
    link: bool = False


def show_maps(
    view: View,
    key: str,
    chosen: Callable[[str], None] | None = None,
    placed: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Draw the viewer.

    Modes, opacity, zoom, crosshair, contours, colours and bit-widths change in the browser alone.

    Args:
        view: what it shows.
        key: of the component on the page.
        chosen: called with the name of a frame that the visitor chose in the film strip, before the page runs again;
            None: the page does not run for that.
        placed: called with the crop that the visitor chose on the whole photograph: ``crop``, and ``x`` and ``y`` of a
            place, from 0 to 1; None: it cannot be chosen.
    """

    def change() -> None:
        name = st.session_state[key].get("frame")
        if chosen is not None and name in [frame.name for frame in view.frames]:
            chosen(name)

    def place() -> None:
        told = st.session_state[key].get("crop")
        if placed is not None and isinstance(told, Mapping):
            placed(told)

    data = data_of(view) | {"tells": chosen is not None}
    _viewer()(key=key, data=data, on_frame_change=change, on_crop_change=place)


def data_of(view: View) -> dict[str, Any]:
    """Return what the browser gets of a view, as JSON takes it."""
    height, width = view.size
    frames = [{**_parts(frame), "native": _rounded(frame.native)} for frame in view.frames]
    return {
        "photo": view.photo,
        "height": height,
        "width": width,
        "reference": {"native": _rounded(view.native), "problem": view.problem},
        "frames": frames,
        "sentence": view.sentence,
        "start": view.start,
        "mode": view.mode,
        "opacity": OPACITY,
        "hint": _HINT,
        "explains": view.explains,
        "whole": None if view.whole is None else asdict(view.whole),
        "layers": [
            {"name": layer.name, "levels": _levels(layer.values), "shown": layer.shown} for layer in view.layers
        ],
        "link": view.link,
    }


def photo_of(rgb: RGB) -> str:
    """Return a picture as the data URI of a JPEG, (H, W, 3) uint8: it lies under a map, or beside one."""
    held = io.BytesIO()
    Image.fromarray(rgb).save(held, "JPEG", quality=_PHOTO_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def script() -> str:
    """Return the component's JavaScript, arithmetic first."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)


def _parts(frame: Frame) -> Mapping[str, Any]:
    names = ("name", "cc", "words", "prediction", "flipped", "problem", "subject", "size", "pending")
    return {name: getattr(frame, name) for name in names} | {"attention": frame.attention.value}


def _levels(values: FloatMap) -> str:
    """Return a map as 256 levels a pixel, row by row, in base64: exact to half a step of a colour."""
    return base64.b64encode(np.rint(255 * values.clip(0, 1)).astype(np.uint8).tobytes()).decode()


def _rounded(native: Grid | None) -> list[list[float]] | None:
    # A colour's step is 1/255: five decimals are exact enough, and short.
    return None if native is None else [[round(float(value), 5) for value in row] for row in native]


@lru_cache(maxsize=1)
def _viewer() -> ComponentRenderer:
    html, css = ((_HERE / name).read_text(encoding="utf-8") for name in ("view.html", "view.css"))
    return st.components.v2.component("quantviz_viewer", html=html, css=css, js=script())
