"""The values in the page's address, and which of them no widget took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from quantviz.ui.plain import plain

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer


# Streamlit puts each choice into the address in place of the one before. Here it becomes an entry of its own, so that
# Back is undo; choices in quick succession, as while a slider is dragged, become one.
_HISTORY: Final = """
export default function () {
  if (window.history.quantviz) return;
  const { history } = window;
  const replace = history.replaceState.bind(history), push = history.pushState.bind(history);
  let last = -Infinity, back = -Infinity;
  history.quantviz = true;
  const write = (usual) => (state, unused, address) => {
    const next = new URL(address ?? window.location.href, window.location.href), now = performance.now();
    const chosen = next.pathname === window.location.pathname && next.search !== window.location.search;
    if (!chosen) return usual(state, unused, address);
    const first = now - last > 400 && now - back > 3000;  // what a page takes up after Back is no choice
    last = now;
    (first ? push : replace)(state, unused, address);
  };
  history.replaceState = write(replace);
  history.pushState = write(push);
  window.addEventListener("popstate", () => { back = performance.now(); });
}
"""


def keep_history() -> None:
    """Make every choice an entry of the browser's history."""
    _history()(key="history", height=1)


@lru_cache(maxsize=1)
def _history() -> ComponentRenderer:
    return st.components.v2.component("quantviz_history", html="<span></span>", js=_HISTORY)


def arrived(reader: str) -> bool:
    """Return whether a reader of the address looks at it for the first time since the visitor came to the page.

    Args:
        reader: a name, another one for each part of a page that asks.
    """
    readers: set[str] = st.session_state.setdefault("address_read", set())
    if reader in readers:
        return False
    readers.add(reader)
    return True


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

    def check_upload(self, key: str, taken: str) -> None:
        """Note that the address is of an uploaded picture, which no link carries."""
        if self._values.pop(key, None) is not None:
            self.ignored.append(f"The link is to a picture that was uploaded elsewhere; {taken!r} is shown instead.")

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
