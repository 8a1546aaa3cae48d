"""Compare one picture's maps before and after quantization."""

import streamlit as st

from quantviz.comparison import FaithfulnessRow, faithfulness, stored_faithfulness
from quantviz.ui import begin_page, guarded, store_problem, workbench
from quantviz.ui.backend import until_exported
from quantviz.ui.bit_widths import show_bit_widths
from quantviz.ui.controls import choose, cost_of, measured, wants_faithfulness
from quantviz.ui.links import show_ignored
from quantviz.ui.once import compared_once_asked
from quantviz.ui.plain import code
from quantviz.ui.results import show, show_beside, show_downloads, show_faithfulness, show_metrics
from quantviz.ui.turns import computing

begin_page()
st.header("When a network is quantized, does it still look at the same things?", anchor=False)
with guarded():
    choices = choose()
    show_ignored(choices.ignored)
    sample = choices.picture()
    request = until_exported(choices.request)
    comparison = compared_once_asked(request, sample)
    if comparison is None:
        st.stop()
    place = show(comparison)
    with place, guarded():
        show_beside(comparison, cost_of(choices))
    show_bit_widths(choices.request, comparison)
    show_metrics(tables := measured(choices, comparison))
    rows: tuple[FaithfulnessRow, ...] = ()
    if wants_faithfulness():
        rows = stored_faithfulness(workbench(), comparison) or ()
        if not rows:
            with computing(long=True) as progress:
                rows = faithfulness(workbench(), choices.request, comparison, progress)
        show_faithfulness(rows)
    show_downloads(comparison, tables, rows)
    if choices.uploaded:
        names = " and ".join(map(code, choices.uploaded))
        st.info(f"The address holds every choice but the uploaded {names}: a link cannot carry a file.")
    else:
        st.caption("The address holds every choice: share it, or bookmark it, to reopen this view.")
store_problem()
