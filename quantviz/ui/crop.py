"""Which part of a photograph the networks see: its widgets, and what the viewer's frame sets them to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from quantviz.specs import CENTRE, Crop, QuantSpec
from quantviz.ui.links import Linked

_KINDS: Final = ("centre", "fit", "place")  # as they stand in the address
_PLACES: Final = {"crop_x": "From left to right, %", "crop_y": "From top to bottom, %"}


def choose_crop(linked: Linked, quant: QuantSpec) -> Crop:
    """Draw the choice of the part of the photograph that the networks see, and return it.

    Args:
        linked: the values of the address.
        quant: the quantization; a protocol that stretches the whole picture leaves nothing to choose.
    """
    if "stretched_input" in quant.deviations:
        st.caption("This protocol stretches the whole photograph into a square.")
        return Crop()
    kind = st.segmented_control(
        "Part of the photograph that is seen",
        _KINDS,
        default="centre",
        key="crop",
        bind="query-params",
        required=True,
        help="centre: as the weights want it; fit: the whole photograph, the rest of the input filled with the mean; "
        "place: where you put it, here or by dragging the frame on the whole photograph.",
    )
    linked.check("crop", kind)
    # Always there: a value that is set before its slider is drawn would not reach the address.
    x, y = (
        st.slider(words, 0, 100, round(100 * middle), key=key, bind="query-params", disabled=kind != "place")
        for (key, words), middle in zip(_PLACES.items(), CENTRE, strict=True)
    )
    for key, value in zip(_PLACES, (x, y), strict=True):
        linked.check(key, value)
    if kind != "place":
        return Crop(fit=kind == "fit")
    return Crop(x=x / 100, y=y / 100)


def place_crop(told: Mapping[str, Any]) -> None:
    """Set the widgets to what a visitor chose on the whole photograph.

    Args:
        told: ``crop``, one of the kinds, and for a place ``x`` and ``y``, from 0 to 1; the browser made it.
    """
    kind = told.get("crop")
    if kind not in _KINDS:
        return
    st.session_state["crop"] = kind
    for key, part, middle in zip(_PLACES, ("x", "y"), CENTRE, strict=True):
        value = told.get(part) if kind == "place" else middle
        if isinstance(value, int | float) and 0 <= value <= 1:
            st.session_state[key] = round(100 * value)
