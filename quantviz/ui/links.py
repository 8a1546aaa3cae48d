"""The values in the page's address, and which of them no widget took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from quantviz.ui.plain import plain


class Linked:
    """The values of the address that no widget took, on the first run of a session.

    Attributes:
        ignored: a sentence for each value that a widget refused.
    """

    def __init__(self) -> None:
        first = "linked" not in st.session_state
        st.session_state["linked"] = True
        self._values = {key: st.query_params[key] for key in st.query_params} if first else {}
        self.ignored: list[str] = []

    def check(self, key: str, taken: Any) -> None:
        """Note a value of the address that differs from the value a widget took."""
        given = self._values.pop(key, None)
        if given is not None and given != str(taken):
            self.ignored.append(f"The link's {key} {given!r} is not available; {str(taken)!r} is shown instead.")

    def select(
        self,
        label: str,
        options: Sequence[str],
        key: str,
        shown: Callable[[str], str] = str,
        index: int = 0,
        help: str | None = None,
    ) -> str:
        """Draw a select box whose value is in the address and return it; what ``shown`` makes of it stands below."""
        value = str(st.selectbox(label, options, index, key=key, bind="query-params", help=help))
        self.check(key, value)
        if shown is not str:
            st.caption(shown(value))
        return value

    def show_ignored(self) -> None:
        """Show the values that were not taken."""
        show_ignored(self.ignored)


def show_ignored(sentences: Sequence[str]) -> None:
    """Show the values of the address that were not taken; whoever made the link wrote them."""
    for sentence in sentences:
        st.warning(plain(sentence), icon=":material/link_off:")
