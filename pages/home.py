"""The finding, seen on one photograph; the evidence; and where to go from there."""

import streamlit as st

from quantviz.ui import begin_page, guarded
from quantviz.ui.home import show_doors, show_findings, show_hero, warm_up
from quantviz.ui.serving import show_reach

begin_page()
if st.query_params:  # a link to a comparison, from before this page stood at the address
    st.switch_page("pages/compare.py", query_params={key: st.query_params.get_all(key) for key in st.query_params})
with guarded():
    show_hero()
    show_findings()
    show_doors()
    show_reach()
warm_up()
