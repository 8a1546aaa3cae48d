"""The choice of a picture on Compare: a bundled photograph by its looks, or one of the visitor's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from quantviz import images
from quantviz.specs import RGB, ImageSample
from quantviz.ui.decoded import decoded
from quantviz.ui.from_study import StudyLink, show_link
from quantviz.ui.links import Linked, arrived
from quantviz.ui.plain import code
from quantviz.ui.viewer import photo_of

_OWN: Final = "own_picture"  # in the address while the picture is one that no link carries
_IMAGE: Final = "image"  # in the address: the photograph, where it is not the first one
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
    _follow_address()
    name, kept = _shown(), kept_upload()
    st.html(f"<style>{_thumbnail_rules()}</style>")
    with st.container(key="thumbnails"):
        key = _pills_key()
        first = st.session_state.get("picture_first", FIRST)  # not ``name``: another default is another widget
        st.pills("Photograph", images.BUNDLED, default=first, key=key, wrap=True, on_change=_chosen, args=(key,))
    file = st.file_uploader(
        "Or your own picture",
        type=sorted(suffix.removeprefix(".") for suffix in images.SUFFIXES),
        max_upload_size=images.MAX_BYTES >> 20,
        key="upload",
        on_change=_uploaded,
        label_visibility="collapsed",
    )
    if kept is None:
        linked.check_upload(_OWN, FIRST)
    linked.check(_IMAGE, name or FIRST)
    _write_address(name)
    if kept is None:
        return lambda: images.bundled(name or FIRST), ()
    data, file_name = kept
    if name is None:
        if file is None:
            st.markdown(f":material/image: {code(file_name)}, uploaded before")
        st.button("Back to the bundled photographs", on_click=_show, args=(FIRST,), key="leave", width="stretch")
        return lambda: decoded(data, file_name), (file_name,)
    st.button(f"Back to {code(file_name)}", on_click=_show, args=(None,), key="own", width="stretch")
    return lambda: images.bundled(name), ()


def kept_upload() -> tuple[bytes, str] | None:
    """Return bytes and name of the picture that was uploaded in this session, or None."""
    uploads: dict[str, tuple[bytes, str]] = st.session_state.get("kept_uploads", {})
    return uploads.get("picture")


def keep_upload(data: bytes, name: str) -> None:
    """Keep a picture for the session, and let it be the one that Compare shows."""
    st.session_state.setdefault("kept_uploads", {})["picture"] = (data, name)
    _show(None)


# What is shown is the session's own, and neither the address's nor the buttons'. Any run of the page may come with an
# address from before a choice that was just made, and with buttons as they were then: Streamlit runs the page by
# itself, and breaks runs off, before the browser has heard of it.


def _shown() -> str | None:
    """Return the photograph that is shown, or None for the visitor's own picture."""
    name: str | None = st.session_state.get("picture_shown", FIRST)
    return FIRST if name is None and kept_upload() is None else name


def _show(name: str | None) -> None:
    """Show a photograph, or for None the visitor's own picture, with buttons that know nothing of the choice before."""
    st.session_state["picture_shown"] = st.session_state["picture_first"] = name
    st.session_state["picture_buttons"] = st.session_state.get("picture_buttons", 0) + 1


def _pills_key() -> str:
    return f"photograph-{st.session_state.get('picture_buttons', 0)}"


def _follow_address() -> None:
    """Show what the address names, on arrival at the page by a link and after Back or Forward; only then it is true."""
    context = get_script_run_ctx()
    went_back = context is not None and context.is_history_navigation
    if not went_back and not arrived("picture"):
        return
    own, named = _OWN in st.query_params, st.query_params.get(_IMAGE)
    if own and kept_upload() is not None:
        wanted = None
    elif named in images.BUNDLED:
        wanted = named
    elif went_back or own or named:  # the first photograph is in no address
        wanted = FIRST
    else:  # of the menu: what was shown before
        return
    if wanted != _shown():
        _show(wanted)


def _write_address(name: str | None) -> None:
    """Let the address say which picture is shown."""
    wanted = {_OWN: "true"} if name is None else {} if name == FIRST else {_IMAGE: name}
    for key in (_OWN, _IMAGE):
        if key in wanted and st.query_params.get(key) != wanted[key]:
            st.query_params[key] = wanted[key]
        elif key not in wanted and key in st.query_params:
            del st.query_params[key]


def _uploaded() -> None:
    """Take a file that was chosen, or forget one that was taken away."""
    file = st.session_state["upload"]
    if file is not None:
        keep_upload(file.getvalue(), file.name)
        return
    own = _shown() is None
    st.session_state.get("kept_uploads", {}).pop("picture", None)
    if own:
        _show(FIRST)


def _chosen(key: str) -> None:
    if key != _pills_key():  # of buttons that have gone meanwhile
        return
    name = st.session_state[key]
    if name is None:  # a second click on one leaves none
        _show(FIRST if kept_upload() is None else None)
    else:
        st.session_state["picture_shown"] = name


def square_of(name: str, side: int) -> RGB:
    """Return the middle of a bundled photograph, (side, side, 3) uint8."""
    rgb = images.bundled(name).rgb
    shorter = min(rgb.shape[:2])
    top, left = ((length - shorter) // 2 for length in rgb.shape[:2])
    return images.thumbnail(rgb[top : top + shorter, left : left + shorter], side)


@lru_cache(maxsize=1)
def _thumbnail_rules() -> str:
    """Return the style that shows each photograph on its button."""
    rules = []
    for place, name in enumerate(images.BUNDLED, start=1):
        small = photo_of(square_of(name, 96))
        rules.append(f".st-key-thumbnails button:nth-of-type({place}) {{ background-image: url({small}); }}")
    return "\n".join(rules)
