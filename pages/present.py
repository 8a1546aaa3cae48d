"""Saved views, one at a time and large, for an audience."""

from quantviz.ui import begin_page, guarded
from quantviz.ui.present import show_presentation

begin_page()
with guarded():
    show_presentation()
