"""The dashboard's first page: the finding, a photograph that shows it, the evidence, and where to go from there.

It shows numbers that the package comes with, and imports neither torch nor anything that computes.
"""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from quantviz.figures import agreement_bars, agreement_lines, percent, triangle_marks
from quantviz.specs import Verdict
from quantviz.ui import wrapping
from quantviz.ui.memory import set_aside
from quantviz.ui.viewer import Frame, View, data_of, photo_of, show_maps

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

HEADLINE: Final = "At 8 bits, a network keeps looking at the same things."
BRIGHT: Final = "The brighter an area of the map, the more the network's answer rests on it."
_DATA = Path(__file__).parent / "home.json"


def show_hero() -> None:
    """Show one photograph's maps from 16 bits to 2, under a swipe."""
    st.header(HEADLINE, anchor=False)
    st.markdown(f"At few bits it looks away: play the bit-widths below. {BRIGHT}")
    show_maps(_view(), key="hero")
    hero = _data()["hero"]
    st.caption(
        f"{hero['model']} with its published weights, weights and activations quantized to the same number of bits; "
        f"{hero['method']} for {hero['float']['label']}. Computed by quantviz and shipped as numbers; the photograph "
        "comes with scikit-learn."
    )


def show_findings() -> None:
    """Show three findings, each a number, a small chart and a way to the evidence."""
    found = _data()["findings"]
    st.subheader("What quantviz found", anchor=False)
    calibrated, paper, triangles = wrapping("findings", "cards").columns(3, gap="medium")
    with calibrated.container(border=True, height="stretch"):
        _kept(found)
    with paper.container(border=True, height="stretch"):
        _protocol(found)
    with triangles.container(border=True, height="stretch"):
        _impossible(found)


def show_doors() -> None:
    """Show the ways into the dashboard."""
    st.subheader("Where to go from here", anchor=False)
    doors = (
        ("pages/compare.py", "Try your photograph", "Upload one, choose a network and a bit-width, see what changes."),
        ("pages/photographs.py", "Which precision is safe", "Drop some photographs, set your limits, read the answer."),
        ("pages/yours.py", "Your own network", "Upload the float and the quantized ONNX file that you deploy."),
    )
    for place, (page, label, words) in zip(wrapping("doors", "cards").columns(3, gap="medium"), doors, strict=True):
        with place.container(border=True, height="stretch"):
            st.page_link(page, label=f"**{label}**", icon=":material/arrow_forward:")
            st.markdown(words)


def prepare() -> None:
    """Make what the page shows, before the server answers anybody: its first visitor waits for no import."""
    for name in ("pandas", "streamlit.material_icon_names", "quantviz.ui.serving"):  # that Streamlit's first run takes
        import_module(name)
    found = _data()["findings"]
    data_of(_view())
    agreement_lines(found["cc"]["calibrated"], found["families"])


def warm_up() -> None:
    """Import what the next page needs in the background, once a server, so that it is there when it is asked for."""
    _warming()


@st.cache_resource(show_spinner=False)
def _warming() -> threading.Thread:
    def work() -> None:
        for name in ("quantviz.comparison.workbench", "quantviz.ui.controls", "quantviz.ui.results", "torch"):
            import_module(name)
        set_aside()

    thread = threading.Thread(target=work, name="warm-up", daemon=True)
    thread.start()
    return thread


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return read


@lru_cache(maxsize=1)
def _view() -> View:
    from quantviz import images, networks

    hero = _data()["hero"]
    crop = images.crop(images.bundled(hero["photo"]).rgb, networks.spec(hero["model"]).weights[0].preprocessing)
    before = hero["float"]
    frames = tuple(_frame(frame, before) for frame in hero["frames"])
    return View(
        photo=photo_of(crop),
        size=crop.shape[:2],
        native=before["native"],
        frames=frames,
        sentence=f"Where a network looks in a photograph of a {before['label']}: float and {len(frames)} bit-widths.",
        problem=before["problem"],
        start=next(at for at, frame in enumerate(hero["frames"]) if frame["name"] == "W8A8"),
        mode="swipe",
    )


def _frame(frame: dict[str, Any], before: dict[str, Any]) -> Frame:
    cc, flipped = frame["cc"], frame["class"] != before["class"]
    verdict = Verdict.of(cc, _data()["hero"]["floor"])
    called = f"{frame['label']} ({percent(frame['probability'])})"
    return Frame(
        name=frame["name"],
        native=frame["native"],
        cc=cc,
        words=verdict.sentence,
        attention=verdict.attention,
        prediction=f"Label flip: {called} in place of {before['label']}." if flipped else f"Both say {called}.",
        flipped=flipped,
        problem=frame["problem"],
    )


def _kept(found: dict[str, Any]) -> None:
    cc = found["cc"]["calibrated"]
    least = min(settings["W8A8"] for settings in cc.values())
    _number(f"CC {least:.3f}", "at 8 bits, calibrated")
    st.markdown(
        f"Calibrated int8 keeps where {len(cc)} networks look, over {found['pictures']} ImageNet pictures; below 6 "
        "bits they drift."
    )
    _chart(agreement_lines(cc, found["families"]), "kept")
    st.page_link("pages/study.py", label="The study behind it", icon=":material/arrow_forward:")


def _protocol(found: dict[str, Any]) -> None:
    names, cc = found["families"], found["cc"]
    worst = min(cc["paper"], key=lambda name: cc["paper"][name]["W8A8"])
    _number(f"CC {cc['paper'][worst]['W8A8']:.3f}", "at 8 bits, by the paper's protocol")
    st.markdown(
        f"The same {names[worst]} has {cc['calibrated'][worst]['W8A8']:.3f} when calibrated: most of the published "
        "drift is train mode and no calibration, not quantization."
    )
    pairs = {names[name]: (cc["calibrated"][name]["W8A8"], cc["paper"][name]["W8A8"]) for name in cc["paper"]}
    _chart(agreement_bars(pairs), "protocol")
    st.page_link(
        "pages/paper.py",
        label="The gap, switch by switch",
        icon=":material/arrow_forward:",
        query_params={"part": "The gap, switch by switch"},
    )


def _impossible(found: dict[str, Any]) -> None:
    checks = found["triangles"]
    broken = sum(not check["holds"] for check in checks)
    _number(f"{broken} of {len(checks)}", "published similarities cannot be")
    st.markdown(
        "1 − SIM is a distance, so three of them obey the triangle inequality. The paper's table breaks it for most of "
        "its networks."
    )
    _chart(triangle_marks(checks), "impossible")
    st.page_link(
        "pages/paper.py", label="The check", icon=":material/arrow_forward:", query_params={"part": "Triangle check"}
    )


def _chart(svg: str, key: str) -> None:
    _drawing()(key=key, data={"svg": svg})


@lru_cache(maxsize=1)
def _drawing() -> ComponentRenderer:
    """Return what puts SVG into the page, with the page's font and colours; Streamlit's own HTML element drops it."""
    script = "export default ({ parentElement, data }) => { parentElement.querySelector('div').innerHTML = data.svg; }"
    css = "div { font-family: var(--st-font); }"
    return st.components.v2.component("quantviz_chart", html="<div></div>", css=css, js=script)


def _number(number: str, what: str) -> None:
    st.html(f'<div style="font-size:2.5rem;font-weight:600;line-height:1.1">{number}</div><div>{what}</div>')
