"""The choice of a picture on Compare: a bundled photograph by its looks, or one of the visitor's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from quantviz import images
from quantviz.specs import ImageSample
from quantviz.ui.decoded import decoded
from quantviz.ui.from_study import StudyLink, show_link
from quantviz.ui.links import Linked
from quantviz.ui.plain import code
from quantviz.ui.viewer import photo_of

_OWN: Final = "own_picture"  # in the address while the picture is one that no link carries; no widget's key
FIRST: Final = "chelsea"
"""The photograph of a first visit."""


def choose_thumbnail(linked: Linked, study: StudyLink | None) -> tuple[Callable[[], ImageSample], tuple[str, ...]]:
    """Draw the choice of a picture; return what reads it, and the name of an uploaded one.

    The visitor's own picture is shown where the address names none, so that it never stands under the address of
    another. It is kept for the session: a photograph that is chosen, or Back, takes its place for the time being.

    Args:
        linked: the values of the address.
        study: the picture of a study that the address names, or None.
    """
    if study is not None:
        show_link(study)
        return study.read, ()
    returns = "image" not in st.session_state and not st.query_params.get("image")
    if kept_upload() is not None and (returns or (_went_back() and _OWN in st.query_params)):
        st.session_state["image"] = None
    st.html(f"<style>{_thumbnail_rules()}</style>")
    name = st.pills(
        "Photograph", images.BUNDLED, default=FIRST, key="image", bind="query-params", wrap=True, on_change=_chosen
    )
    file = st.file_uploader(
        "Or your own picture",
        type=sorted(suffix.removeprefix(".") for suffix in images.SUFFIXES),
        max_upload_size=images.MAX_BYTES >> 20,
        key="upload",
        on_change=_uploaded,
        label_visibility="collapsed",
    )
    kept = kept_upload()
    if kept is None:
        linked.check_upload(_OWN, FIRST)
        _say_own(False)
        linked.check("image", name or FIRST)
        return lambda: images.bundled(name or FIRST), ()
    _say_own(name is None)
    data, file_name = kept
    if name is None:
        if file is None:
            st.markdown(f":material/image: {code(file_name)}, uploaded before")
        st.button("Back to the bundled photographs", on_click=_named, args=(FIRST,), key="leave", width="stretch")
        return lambda: decoded(data, file_name), (file_name,)
    st.button(f"Back to {code(file_name)}", on_click=_named, args=(None,), key="own", width="stretch")
    return lambda: images.bundled(str(name)), ()


def kept_upload() -> tuple[bytes, str] | None:
    """Return bytes and name of the picture that was uploaded in this session, or None."""
    uploads: dict[str, tuple[bytes, str]] = st.session_state.get("kept_uploads", {})
    return uploads.get("picture")


def keep_upload(data: bytes, name: str) -> None:
    """Keep a picture for the session, and let it be the one that Compare shows."""
    st.session_state.setdefault("kept_uploads", {})["picture"] = (data, name)
    st.session_state["image"] = None


def _went_back() -> bool:
    """Return whether this run follows Back or Forward.

    In any other run the address may be an old one: what runs the page by itself sends the address that it knows, while
    the browser is yet to hear of a choice that was just made.
    """
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def _say_own(own: bool) -> None:
    """Let the address say whether the picture is the visitor's own."""
    if own and _OWN not in st.query_params:
        st.query_params[_OWN] = "true"
    elif not own and _OWN in st.query_params:
        del st.query_params[_OWN]


def _uploaded() -> None:
    """Take a file that was chosen, or forget one that was taken away."""
    file = st.session_state["upload"]
    if file is not None:
        keep_upload(file.getvalue(), file.name)
        return
    st.session_state.get("kept_uploads", {}).pop("picture", None)
    if st.session_state.get("image") is None:
        _named(FIRST)


def _chosen() -> None:
    _named(st.session_state["image"] or (FIRST if kept_upload() is None else None))


def _named(name: str | None) -> None:
    """Choose a photograph, or for None the visitor's own picture; a second click on one leaves none."""
    st.session_state["image"] = name
    _say_own(name is None)


@lru_cache(maxsize=1)
def _thumbnail_rules() -> str:
    """Return the style that shows each photograph on its button."""
    rules = []
    for place, name in enumerate(images.BUNDLED, start=1):
        rgb = images.bundled(name).rgb
        side = min(rgb.shape[:2])
        top, left = ((length - side) // 2 for length in rgb.shape[:2])
        small = photo_of(images.thumbnail(rgb[top : top + side, left : left + side], 96))
        rules.append(f".st-key-image button:nth-of-type({place}) {{ background-image: url({small}); }}")
    return "\n".join(rules)
