"""What the address says, and whether the widgets took it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st


class Linked:
    """Finds out which values of the address were not taken, on the first run of a session.

    Attributes:
        ignored: sentences about the values that no widget has.
    """

    def __init__(self) -> None:
        first = "linked" not in st.session_state
        st.session_state["linked"] = True
        self._values = {key: st.query_params[key] for key in st.query_params} if first else {}
        self.ignored: list[str] = []

    def check(self, key: str, taken: Any) -> None:
        """Compare what a widget took with what the address gave."""
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
        """Draw a select box that lives in the address, with what ``shown`` says of its value below it."""
        value = str(st.selectbox(label, options, index, key=key, bind="query-params", help=help))
        self.check(key, value)
        if shown is not str:
            st.caption(shown(value))
        return value

    def tell(self) -> None:
        """Show the values that were not taken."""
        for sentence in self.ignored:
            st.warning(sentence, icon=":material/link_off:")
