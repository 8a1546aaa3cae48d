"""The page "Your photographs" before any were dropped."""

import pytest
from streamlit.testing.v1 import AppTest

from quantviz import images
from quantviz.ui import photographs


def _page():
    import streamlit as st

    from quantviz.ui import begin_page, guarded
    from quantviz.ui.photographs import judged, photographs_given, show_first_state

    st.session_state["navigated"] = True
    begin_page()
    with guarded():
        samples, _ = photographs_given()
        st.text(" ".join(sample.name for sample in samples))
        if samples:
            st.text(str(judged(st.session_state["request"], (8,), samples)))
        else:
            show_first_state()


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setattr(photographs, "_computed", lambda request, bits, samples, progress: f"{len(samples)} judged")
    page = AppTest.from_function(_page, default_timeout=120)
    page.session_state["request"] = photographs.CompareRequest()
    return page.run()


def test_a_first_visit_says_what_to_bring_and_what_comes_of_it(app):
    words = " ".join(one.value for one in app.markdown)
    for said in ("Drop about twenty photographs", "How many labels may flip", "the smallest precision"):
        assert said in words
    assert not app.exception


def test_the_bundled_photographs_are_taken_and_judged_with_one_click(app):
    app.button(key="example_photographs").click().run()
    assert not app.exception
    assert not app.error
    assert app.text[0].value.split() == [images.bundled_path(name).name for name in images.BUNDLED]
    assert app.text[1].value == f"{len(images.BUNDLED)} judged"
    assert any("The 8 photographs that come with quantviz" in one.value for one in app.markdown)
    app.button(key="forget_photographs").click().run()
    assert any("Drop about twenty photographs" in one.value for one in app.markdown)
