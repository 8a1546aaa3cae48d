"""Which layer moves the maps, which bits keep them, and what the paper's protocol does to them."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.layers import show_atlas, show_attribution, show_parts
from quantviz.ui.search import show_search

PARTS = {"Layers": show_atlas, "Bits for each layer": show_search, "The paper's protocol": show_attribution}

begin_page()
st.header("Which layer, which bit moves what the network looks at?", anchor=False)
with guarded():
    show_parts(PARTS)
store_problem()
