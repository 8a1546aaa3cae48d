"""Shared Streamlit parts: what the pages have in common, widgets, and how results are shown."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st
from PIL import Image, ImageDraw
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from quantviz import networks
from quantviz.specs import Phase, Progress, QuantvizError, system_words
from quantviz.ui.observed import OBSERVED
from quantviz.ui.plain import plain

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator
    from streamlit.navigation.page import Page as StreamlitPage

    from quantviz.comparison import Workbench

TITLE = "quantviz"
_MOST_STEPS = 60
_UNTIL_CANCEL = 1.0  # seconds of work after which a button cancels it; what is shorter would flicker
STYLE = Path(__file__).parent / "page.css"
"""What every page has; the server puts it into the page's head, too."""

_PAGES: tuple[dict[str, Any], ...] = (
    {"page": "pages/home.py", "title": "Home", "icon": ":material/home:", "default": True},
    {"page": "pages/compare.py", "title": "Compare", "icon": ":material/compare:", "url_path": "compare"},
    {"page": "pages/yours.py", "title": "Your network", "icon": ":material/upload_file:", "url_path": "yours"},
    {
        "page": "pages/photographs.py",
        "title": "Your photographs",
        "icon": ":material/photo_library:",
        "url_path": "photographs",
    },
    {"page": "pages/diagnose.py", "title": "Diagnose", "icon": ":material/troubleshoot:", "url_path": "diagnose"},
    # The address of before, which links still lead to.
    {
        "page": "pages/layers.py",
        "title": "Layers",
        "icon": ":material/layers:",
        "url_path": "layers",
        "visibility": "hidden",
    },
    {"page": "pages/study.py", "title": "Study", "icon": ":material/dataset:", "url_path": "study"},
    {"page": "pages/paper.py", "title": "Paper", "icon": ":material/article:", "url_path": "paper"},
    {"page": "pages/metrics.py", "title": "Metrics", "icon": ":material/straighten:", "url_path": "metrics"},
    {"page": "pages/method.py", "title": "Method", "icon": ":material/menu_book:", "url_path": "method"},
    {"page": "pages/present.py", "title": "Present", "icon": ":material/slideshow:", "url_path": "present"},
)
_PHASE_ICONS = {Phase.DOWNLOADING: "download", Phase.LEARNING: "model_training"}  # the two that can take minutes


def navigation() -> StreamlitPage:
    """Set the page's title, icon and width, register the pages, and return the one to run."""
    st.set_page_config(page_title=TITLE, page_icon=icon(), layout="wide")
    st.session_state["navigated"] = True
    networks.allow(())  # no code of the server's machine but what it was started with
    return st.navigation([st.Page(**page) for page in _PAGES])


def begin_page() -> None:
    """Start a page: give the maps the room that Streamlit leaves empty, and see to it that the app's frame is there.

    Until the first session of a server has registered the pages, Streamlit runs the files of a folder named pages by
    themselves, so that a link to one of them would miss the settings and the menu.
    """
    if "navigated" not in st.session_state:
        navigation()
        st.rerun()
    st.session_state["cancelling"] = st.session_state.pop("cancelled", False)
    context = get_script_run_ctx()
    at = None if context is None else context.page_script_hash
    if st.session_state.get("at_page") != at:
        st.session_state["at_page"] = at
        st.session_state.pop("address_read", None)
    st.html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")


def wrapping(name: str, kind: Literal["cards", "parts"]) -> DeltaGenerator:
    """Return a container whose columns go below each other on a narrow page.

    Args:
        name: of the container, another one for each of a page.
        kind: ``"cards"`` keep 14rem of width, ``"parts"`` of a page 24rem.
    """
    return st.container(key=f"wrapping-{kind}-{name}")


def icon() -> Image.Image:
    """Return the tab's icon, drawn here because a named one would be fetched from the network."""
    drawn = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(drawn)
    pen.ellipse((2, 12, 42, 52), fill="#0072B2")
    pen.ellipse((22, 12, 62, 52), outline="#E69F00", width=7)
    return drawn


@st.cache_resource(show_spinner=False)
def workbench() -> Workbench:
    """Return the one workbench that every session shares."""
    # Here, as in ``metrics_page``: with what a comparison needs, the first page would be there a second later.
    from quantviz.comparison import Workbench
    from quantviz.store import TensorStore, default_directory

    return Workbench(TensorStore(default_directory() / "tensors"))


class Cancelled(QuantvizError):
    """The visitor cancelled what was being computed."""


def show_cancelled() -> None:
    """Say that a computation was cancelled, and offer to go on with it."""
    st.info("Cancelled; what was computed so far is kept.", icon=":material/cancel:")
    st.button("Go on", key="go_on", icon=":material/play_arrow:")  # the page runs again, and computes


@contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever goes wrong in a block into one message on the page; what was chosen stays as it is."""
    try:
        yield
    except Cancelled:
        show_cancelled()
    except QuantvizError as error:
        st.error(plain(error), icon=":material/error:")
    except StreamlitAPIException as error:
        if "ile extension" not in str(error) and "null bytes" not in str(error):
            raise
        st.error(
            f"An uploaded file was refused by its name ({plain(error)}); reload the page and choose another file.",
            icon=":material/error:",
        )
    except OSError as error:
        logging.getLogger(__name__).exception("refused by the system")
        st.error(plain(system_words(error)), icon=":material/error:")
    except Exception:
        number = secrets.token_hex(4)
        logging.getLogger(__name__).exception("unexpected error %s", number, extra={"told": {"error": number}})
        OBSERVED.count("unexpected_errors_total")
        st.error(
            f"Something unexpected went wrong; the log of whoever runs quantviz says what, beside `{number}`.",
            icon=":material/error:",
        )


@contextmanager
def visible_progress() -> Iterator[Progress]:
    """Show what is being computed while a block runs, with a way to cancel it, and nothing afterwards.

    It stands over the page's lower edge, so that nothing on the page moves for it.

    Raises:
        Cancelled: from the progress, on the run of the page that follows a click on its button.
    """
    place = st.empty()
    steps: list[tuple[str, float]] = st.session_state.setdefault("steps", [])
    bar = _Bar(place)

    def show(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        if st.session_state.get("cancelling"):
            raise Cancelled("Cancelled; go on with it, or choose something else.")
        if not steps or steps[-1][0] != message:
            steps.append((message, time.monotonic()))
            del steps[:-_MOST_STEPS]
        icon = _PHASE_ICONS.get(phase, "hourglass_top")
        bar.show(min(max(fraction or 0.0, 0.0), 1.0), f":material/{icon}: {plain(message)} …")

    try:
        yield show
    finally:
        if steps and steps[-1][0]:
            steps.append(("", time.monotonic()))
        place.empty()


class _Bar:
    """A progress bar, and after a moment a button that cancels what it shows."""

    def __init__(self, place: DeltaGenerator) -> None:
        self._place, self._began = place, time.monotonic()
        self._box: DeltaGenerator | None = None
        self._bar: DeltaGenerator | None = None
        self._can_cancel = False

    def show(self, fraction: float, words: str) -> None:
        """Show how far the work is."""
        if self._box is None or self._bar is None:
            number = st.session_state["bars"] = st.session_state.get("bars", 0) + 1
            self._box = self._place.container(key=f"working-{number}", horizontal=True, vertical_alignment="center")
            self._bar = self._box.progress(fraction, text=words)
        else:
            self._bar.progress(fraction, text=words)
        if not self._can_cancel and time.monotonic() - self._began > _UNTIL_CANCEL:
            self._can_cancel = True  # a button is drawn once in a run of the page
            self._box.button("Cancel", key=f"cancel-{st.session_state['bars']}", on_click=_cancel)


def _cancel() -> None:
    st.session_state["cancelled"] = True


@lru_cache(maxsize=1)  # Streamlit's own cache would warn where the server's process imports this
def metrics_page() -> str:
    """Return the page of all metrics in Markdown, made from their docstrings."""
    from quantviz.comparison import describe_faithfulness
    from quantviz.scores import describe

    return f"{describe()}\n\n{describe_faithfulness()}"


def show_steps() -> None:
    """Show how long the last steps took, where the address asks for it (``timings=1``)."""
    if st.query_params.get("timings") != "1":
        return
    steps: list[tuple[str, float]] = st.session_state.get("steps", [])
    taken = [(step, after - began) for (step, began), (_, after) in pairwise(steps) if step]
    with st.expander("How long the last steps took", icon=":material/timer:", expanded=True):
        st.table([{"step": plain(step), "seconds": f"{seconds:.3f}"} for step, seconds in taken])


def store_problem() -> None:
    """Say so on the page when the cache is in trouble, and how long steps took where that is asked for."""
    show_steps()
    problem = workbench().store.info().problem
    if problem:
        st.warning(plain(problem), icon=":material/database_off:")
