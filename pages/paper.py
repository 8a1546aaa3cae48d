"""The paper's Table 1 beside what a study reproduces of it, and what its numbers can mean."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.paper import choose, show_gap, show_protocol, show_table, show_triangle

begin_page()
st.header("What does the paper report, and how much of it is quantization?", anchor=False)
with guarded():
    numbers = choose()
    parts = {
        "Table 1": lambda: show_table(numbers),
        "Triangle check": lambda: show_triangle(numbers),
        "The gap, switch by switch": show_gap,
        "What the paper did": show_protocol,
    }
    tabs = st.tabs(list(parts), key="part", bind="query-params")
    for tab, show in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab, guarded():
                show()
store_problem()
