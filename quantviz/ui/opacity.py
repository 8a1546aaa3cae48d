"""The opacity of the maps, changed in the browser: neither the server nor the figure has to do anything."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import streamlit as st

from quantviz.ui.links import Linked

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

OPACITY: Final = 55
"""Per cent of the maps over the picture, where the address says nothing else."""

_HTML = """
<label for="opacity">Opacity of the maps</label>
<output for="opacity"></output>
<input id="opacity" type="range" min="0" max="100" step="5">
"""

_CSS = """
:host, label, output { font: 400 0.875rem var(--st-font); color: var(--st-text-color); }
output { float: right; color: var(--st-primary-color); }
input { display: block; width: 100%; margin: 0.6rem 0 0.2rem; accent-color: var(--st-primary-color); }
"""

# A rule of the page, so that a figure that comes later is drawn by it as well. Streamlit writes the address by itself
# when another widget changes or another page is opened, and may leave out what it does not know: the value is put back.
_JS = """
export default function ({ parentElement, data }) {
  const slider = parentElement.querySelector("input"), shown = parentElement.querySelector("output");
  const memory = document.documentElement.dataset;
  let rule = document.getElementById("opacity-of-maps");
  if (!rule) {
    rule = document.head.appendChild(document.createElement("style"));
    rule.id = "opacity-of-maps";
  }
  const draw = () => {
    shown.textContent = slider.value + " %";
    memory.opacityOfMaps = slider.value;
    rule.textContent = ".st-key-maps .hm image { opacity: " + slider.value / 100 + " !important; }";
  };
  const link = () => {
    if (!parentElement.isConnected) return clearInterval(again);
    const address = new URL(window.location.href);
    if (!address.pathname.endsWith("/compare")) return;  // another page is being opened
    const wanted = Number(slider.value) === data.usual ? null : slider.value;
    if (address.searchParams.get("opacity") === wanted) return;
    if (wanted === null) address.searchParams.delete("opacity");
    else address.searchParams.set("opacity", wanted);
    window.history.replaceState(window.history.state, "", address);
  };
  const again = setInterval(link, 500);
  slider.value = memory.opacityOfMaps ?? data.given;
  slider.oninput = draw;
  slider.onchange = link;
  draw();
  return () => clearInterval(again);
}
"""


def choose_opacity(linked: Linked) -> None:
    """Draw the slider, from 0 to 100 % in steps of 5; it acts on the maps of the chart whose key is ``maps``.

    Its value is in the address, under ``opacity``; ``linked`` keeps a sentence about a value that it cannot take.

    Args:
        linked: the values of the address.
    """
    given = st.query_params.get("opacity", "")
    taken = given if given in map(str, range(0, 101, 5)) else str(OPACITY)
    linked.check("opacity", taken)
    _slider()(key="opacity_of_maps", data={"given": taken, "usual": OPACITY})


@lru_cache(maxsize=1)
def _slider() -> ComponentRenderer:
    return st.components.v2.component("quantviz_opacity", html=_HTML, css=_CSS, js=_JS)
