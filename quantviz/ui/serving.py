"""What this server was started with."""

from __future__ import annotations

import streamlit as st

from quantviz.comparison.serving import Serving


@st.cache_resource(show_spinner=False)
def serving() -> Serving:
    """Return what whoever started this server allows."""
    return Serving.from_environment()
