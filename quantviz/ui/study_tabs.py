"""The parts of the Study page below its answer; only those that a study has something for."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from quantviz.ui import guarded
from quantviz.ui.study import Opened
from quantviz.ui.study_charts import show_accuracy, show_classes, show_distributions, show_ranking
from quantviz.ui.study_deployed import show_deployed
from quantviz.ui.study_pictures import show_pictures
from quantviz.ui.study_tables import show_made, show_tables


def show_tabs(opened: Opened) -> None:
    """Show the open one of the parts; the others are not computed."""
    parts = parts_of(opened)
    tabs = st.tabs(list(parts), key="part", bind="query-params")
    for tab, show in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab, guarded():
                show(opened)


def parts_of(opened: Opened) -> dict[str, Callable[[Opened], None]]:
    """Return name -> what shows it, of the parts that the study and the filters have something for."""
    view = opened.view
    flips = any(cell.flips.count for cell in view.cells)
    parts: dict[str, tuple[bool, Callable[[Opened], None]]] = {
        "Distributions": (True, show_distributions),
        "Accuracy against drift": (True, show_accuracy),
        "Ranking": (len(opened.networks) > 1, show_ranking),
        "Classes": (flips, show_classes),
        "Pictures": (True, show_pictures),
        "Deployed int8": (bool(view.summary.plan.deployed), show_deployed),
        "How it was made": (True, show_made),
        "Tables": (True, show_tables),
    }
    return {name: show for name, (there, show) in parts.items() if there}
