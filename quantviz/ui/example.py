"""A result that quantviz comes with, where a page has none of one's own yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import streamlit as st

from quantviz.ui import guarded

EXAMPLE: Final = "EfficientNet-Lite0 at W4A8, on the photographs that come with quantviz"


@contextmanager
def example(what: str = EXAMPLE) -> Iterator[None]:
    """Frame what a block draws as an example.

    Args:
        what: network, bit-width and pictures that it is of.
    """
    with st.container(border=True, key="example"), guarded():
        st.caption(f":material/lightbulb: **An example, computed before**: {what}.")
        yield
