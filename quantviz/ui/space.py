"""What quantviz keeps on the server's disk, for who runs it: sizes, and what becomes of it; no paths."""

from __future__ import annotations

import streamlit as st

from quantviz import networks
from quantviz.store import default_directory, space_taken
from quantviz.ui import workbench


def show_space() -> None:
    """Show a table of what takes space, behind a heading that has to be opened."""
    with st.expander("What takes space on this machine", icon=":material/hard_drive:"):
        if not st.toggle("Measure it", key="measure_space", help="Every file is looked at, which takes a moment."):
            return
        limit = workbench().store.info().size_limit
        rows = space_taken(default_directory(), networks.hub_folder(), limit)
        st.dataframe(
            {
                "what": [row.what for row in rows],
                "MiB": [round(row.bytes / 2**20, 1) for row in rows],
                "files": [row.files for row in rows],
                "kept": [row.kept for row in rows],
            },
            hide_index=True,
        )
        st.caption("Studies are never removed by themselves. `quantviz cache info` tells where each lies.")
