"""A whole study: what quantization does over many pictures, models, bit-widths and protocols."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.links import show_ignored
from quantviz.ui.study import choose, show_warnings
from quantviz.ui.study_answer import show_answer
from quantviz.ui.study_charts import show_drift
from quantviz.ui.study_start import show_form, show_sweeps
from quantviz.ui.study_tabs import show_tabs

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
        if show_warnings(opened):
            show_drift(opened)
            show_answer(opened)
            show_tabs(opened)
show_form(open_at_first=opened is None)
store_problem()
