"""What a page shows while it computes, and once that is cancelled."""

from streamlit.testing.v1 import AppTest


def _computes():
    import streamlit as st

    from quantviz.ui import begin_page, guarded, visible_progress

    st.session_state["navigated"] = True
    begin_page()
    with guarded(), visible_progress() as progress:
        st.text("stored")
        progress("Computing")
        st.text("computed")


def test_what_is_cancelled_is_said_and_goes_on_when_that_is_wanted():
    app = AppTest.from_function(_computes, default_timeout=120).run()
    assert [text.value for text in app.text] == ["stored", "computed"]
    app.session_state["cancelled"] = True  # as the button beside the progress bar sets it
    app.run()
    assert [text.value for text in app.text] == ["stored"]
    assert app.info[0].value.startswith("Cancelled")
    app.button(key="go_on").click().run()
    assert [text.value for text in app.text] == ["stored", "computed"]
    assert not app.info
