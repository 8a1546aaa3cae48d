"""How quantviz computes what it shows."""

from pathlib import Path

import streamlit as st

import quantviz.ui
from quantviz.ui.space import show_space

quantviz.ui.begin_page()
st.markdown((Path(quantviz.ui.__file__).parent / "method.md").read_text(encoding="utf-8"))
with quantviz.ui.guarded():
    show_space()
