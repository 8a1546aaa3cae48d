"""What the Diagnose page diagnoses is chosen here: our networks, a card of ONNX files, or two files of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import streamlit as st

from quantviz.comparison import CompareRequest
from quantviz.networks.card import Card, read_card
from quantviz.specs import ImageSample, UsageError
from quantviz.ui.cards import UPLOADED
from quantviz.ui.controls import choose_method
from quantviz.ui.diagnose import show_diagnosis
from quantviz.ui.diagnosed import Diagnosed, Uploaded, of_card
from quantviz.ui.layers import choose_pictures, show_parts
from quantviz.ui.links import Linked, show_ignored
from quantviz.ui.plain import code, plain
from quantviz.ui.serving import serving
from quantviz.ui.yours import choose_files, sandbox
from quantviz.ui.yours_files import show_first_state

ROUNDED: Final = "a network that quantviz rounds"
"""The choice that stands for neither a card nor files."""

_SEEN: Final = (
    "Which tensor of the quantized file is harmed most, why, and what mends it: each tensor's own loss, from file to "
    "file, and what it does to the map."
)


def show_page(parts: Mapping[str, Callable[[CompareRequest, list[ImageSample]], None]]) -> None:
    """Show the parts of a network that quantviz rounds, or the diagnosis of ONNX files.

    Args:
        parts: words on a tab -> what draws it.
    """
    linked = Linked()
    cards = _cards()
    with st.sidebar:
        chosen = linked.select("What is diagnosed", [ROUNDED, *cards, UPLOADED], "diagnosed")
    if chosen == ROUNDED:
        show_parts(parts, linked)
    elif chosen == UPLOADED:
        _show_uploaded(linked)
    else:
        _show_card(linked, cards[chosen])


def _cards() -> dict[str, Card]:
    """Return the cards of ONNX files that the server was started with; a model's are among the networks."""
    cards: dict[str, Card] = {}
    for path in serving().cards:
        try:
            card = read_card(path)
        except UsageError:  # the choice among networks tells it
            continue
        if card.float_file is not None:
            cards[path.name] = card
    return cards


def _show_card(linked: Linked, card: Card) -> None:
    with st.sidebar:
        names = [variant.name for variant in card.files]
        if not names:
            raise UsageError(
                f"Card {card.path.name!r} has no quantized file to diagnose; add one, and reload the page."
            )
        variant = names[0] if len(names) == 1 else linked.select("Variant", names, "variant")
        st.caption(f"{plain(variant)} of {plain(card.name)}")
        pictures = choose_pictures(linked)
        method = _method(linked)
    _show(linked, lambda: of_card(card, variant, pictures(), method))


def _show_uploaded(linked: Linked) -> None:
    files, key, given = choose_files()
    with st.sidebar:
        pictures = choose_pictures(linked)
        method = _method(linked)
    if files is None:
        show_ignored(linked.ignored)
        show_first_state(sandbox().limits, given, _SEEN)
        return
    _show(linked, lambda: Uploaded(files, key, pictures(), method))
    st.info(f"The address holds every choice but {' and '.join(map(code, given.names))}: a link cannot carry a file.")


def _method(linked: Linked) -> str:
    st.subheader("Map", divider="gray")
    return choose_method(linked)


def _show(linked: Linked, source: Callable[[], Diagnosed]) -> None:
    show_ignored(linked.ignored)
    show_diagnosis(source())
