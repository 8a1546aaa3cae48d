"""The dashboard: page settings and navigation, nothing else."""

import streamlit as st

from quantviz.ui import PAGES, TITLE, icon

st.set_page_config(page_title=TITLE, page_icon=icon(), layout="wide")
st.navigation([st.Page(**page) for page in PAGES]).run()
