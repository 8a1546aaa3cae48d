"""Which tensor did it, why and what mends it; which layer moves the maps; bits; and the paper's protocol."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.diagnose import show_tensors
from quantviz.ui.diagnose_own import show_page
from quantviz.ui.layers import show_atlas, show_attribution
from quantviz.ui.search import show_search

PARTS = {
    "Tensors": show_tensors,
    "Layers": show_atlas,
    "Bits for each layer": show_search,
    "The paper's protocol": show_attribution,
}

begin_page()
st.header("Which tensor did it, and what mends it?", anchor=False)
with guarded():
    show_page(PARTS)
store_problem()
