"""Every metric: formula, range, direction, convention, source, cost."""

import streamlit as st

from quantviz.ui import begin_page, metrics_page

begin_page()
st.markdown(metrics_page())
