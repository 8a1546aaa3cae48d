"""A network of one's own: a float and a quantized ONNX file, compared on one picture."""

import streamlit as st

from quantviz.comparison import measure_pair
from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.bit_widths import show_pair
from quantviz.ui.cards import compared_variant
from quantviz.ui.links import show_ignored
from quantviz.ui.plain import code
from quantviz.ui.results import show_details, show_downloads, show_metrics, show_notes, show_scores
from quantviz.ui.yours import choose, compared, sandbox
from quantviz.ui.yours_files import show_first_state
from quantviz.ui.yours_results import show_files, show_findings

begin_page()
st.header("Does your own network still look at the same things?", anchor=False)
with guarded():
    choices = choose()
    show_ignored(choices.ignored)
    if choices.card is not None:
        result, comparison = None, compared_variant(choices.card, choices.request, choices.picture())
    elif choices.files is not None:
        result = compared(choices, choices.files, choices.picture())
        comparison = result.comparison
    else:
        show_first_state(sandbox().limits, choices.given)
        st.stop()
    show_findings(comparison)
    show_notes(comparison)
    show_pair(comparison)
    show_downloads(comparison, lambda: measure_pair(comparison))
    show_scores(comparison)
    show_metrics(lambda: measure_pair(comparison))
    if result is not None:
        show_files(result)
    show_details(comparison)
    if choices.uploaded:
        names = " and ".join(map(code, choices.uploaded))
        st.info(f"The address holds every choice but {names}: a link cannot carry a file.")
store_problem()
