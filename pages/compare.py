"""Compare one picture's maps before and after quantization."""

import streamlit as st

from quantviz.comparison import FaithfulnessRow, faithfulness, stored_faithfulness
from quantviz.ui import begin_page, guarded, store_problem, workbench
from quantviz.ui.backend import until_exported
from quantviz.ui.bit_widths import show_stage
from quantviz.ui.controls import choose, cost_of, measured, measured_quietly, wants_faithfulness
from quantviz.ui.links import keep_history, show_ignored
from quantviz.ui.once import compared_or_before
from quantviz.ui.photographs import take_photograph
from quantviz.ui.plain import code
from quantviz.ui.results import show_details, show_downloads, show_faithfulness, show_metrics, show_notes, show_scores
from quantviz.ui.turns import computing

begin_page()
keep_history()
st.header("Does it still look at the same things?", anchor=False)
with guarded():
    take_photograph()
    choices = choose()
    show_ignored(choices.ignored)
    sample = choices.picture()
    # Each in a place of its own, so that the maps keep theirs whatever is computed or said above them.
    working, said, stage = st.container(gap=None), st.container(), st.container()
    with working:
        shown = compared_or_before(until_exported(choices.request), sample)
        if shown is None:
            st.stop()
        request, comparison = shown
        cost = cost_of(request)
    with said:
        show_notes(comparison)
    with stage:
        show_stage(request, comparison, cost, link=not choices.uploaded)
    bench = workbench()
    offers = st.container()
    if choices.uploaded:
        names = " and ".join(map(code, choices.uploaded))
        st.info(f"The address holds every choice but the uploaded {names}: a link cannot carry a file.")
    show_scores(comparison, cost)
    show_metrics(lambda: measured(choices, comparison))
    rows: tuple[FaithfulnessRow, ...] = ()
    if wants_faithfulness():
        rows = stored_faithfulness(bench, comparison) or ()
        if not rows:
            with computing(long=True) as progress:
                rows = faithfulness(bench, request, comparison, progress)
        show_faithfulness(rows)
    show_details(comparison)
    with offers:
        show_downloads(comparison, lambda: measured_quietly(choices, comparison, bench), rows)
store_problem()
