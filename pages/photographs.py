"""Several photographs of one's own at several precisions: which one is safe."""

import streamlit as st

from quantviz.ui import begin_page, guarded, store_problem
from quantviz.ui.links import show_ignored
from quantviz.ui.photographs import choose, judged, show_answer, show_first_state, show_gallery

begin_page()
st.header("Which precision is safe for your photographs?", anchor=False)
with guarded():
    request, bits, samples, ignored = choose()
    show_ignored(ignored)
    if not samples:
        show_first_state()
    elif not bits:
        st.info("Choose a precision or more.", icon=":material/touch_app:")
    elif result := judged(request, bits, samples):
        show_gallery(request, result, show_answer(result))
store_problem()
