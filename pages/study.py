"""A whole study: what quantization does over many pictures, models, bit-widths and protocols."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.links import show_ignored
from quantviz.ui.study import (
    choose,
    show_accuracy,
    show_answer,
    show_distributions,
    show_drift,
    show_made,
    show_ranking,
    show_tables,
)
from quantviz.ui.study_deployed import show_deployed
from quantviz.ui.study_pictures import show_pictures
from quantviz.ui.study_start import show_form, show_sweeps

PARTS = {
    "Summary": show_tables,
    "Distributions": show_distributions,
    "Drift against bits": show_drift,
    "Accuracy against drift": show_accuracy,
    "Ranking": show_ranking,
    "Deployed int8": show_deployed,
    "Pictures": show_pictures,
    "How it was made": show_made,
}

begin_page()
st.header("What does quantization change, over many pictures?", anchor=False)
show_sweeps()
opened = None
with guarded():
    opened = choose()
    if opened is None:
        st.info("There is no finished study yet; start a sweep here, or run `quantviz sweep`.", icon=":material/info:")
    else:
        show_ignored(opened.ignored)
        if show_answer(opened):
            tabs = st.tabs(list(PARTS), key="part", bind="query-params")
            for tab, show in zip(tabs, PARTS.values(), strict=True):
                if tab.open:
                    with tab, guarded():
                        show(opened)
show_form(open_at_first=opened is None)
store_problem()
