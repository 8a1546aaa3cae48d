"""Which tensor did it, why and what mends it; which layer moves the maps; bits; and the paper's protocol."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.diagnose import show_tensors
from quantviz.ui.layers import choose, show_atlas, show_attribution, show_search
from quantviz.ui.links import show_ignored

PARTS = {
    "Tensors": show_tensors,
    "Layers": show_atlas,
    "Bits for each layer": show_search,
    "The paper's protocol": show_attribution,
}

begin_page()
st.header("Which tensor did it, and what mends it?", anchor=False)
with guarded():
    choices = choose()
    show_ignored(choices.ignored)
    samples = choices.pictures()
    tabs = st.tabs(list(PARTS), key="part", bind="query-params")
    for tab, show in zip(tabs, PARTS.values(), strict=True):
        if tab.open:
            with tab, guarded():
                show(choices.request, samples)
store_problem()
