"""The uploads of "Your network": what is said before there are any, an example of them, and that they are kept."""

import pytest
from streamlit.testing.v1 import AppTest

from quantviz.ui import yours_files
from quantviz.ui.yours_files import KeptFile


def _page():
    import streamlit as st

    from quantviz.comparison.sandbox_process import Limits
    from quantviz.ui import begin_page, guarded
    from quantviz.ui.yours_files import choose_uploads, show_first_state

    st.session_state["navigated"] = True
    begin_page()
    with guarded():
        given = choose_uploads(Limits())
        st.text(" ".join(given.names))
        if given.reference is None or given.quantized is None:
            show_first_state(Limits(), given)


@pytest.fixture
def app():
    return AppTest.from_function(_page, default_timeout=120).run()


def said(app):
    assert not app.exception
    assert not app.error
    return " ".join(one.value for one in (*app.markdown, *app.info))


def kept(app, **files):
    app.session_state["kept_files"] = {key: KeptFile(b"bytes", name, name) for key, name in files.items()}
    return app.run()


def test_a_first_visit_says_what_to_bring_what_becomes_of_it_and_offers_an_example(app):
    for words in ("What you bring", "up to 200 MiB each", "What you see", "kept for this session only"):
        assert words in said(app)
    assert app.button(key="example_pair").label == "Try it with an example pair"
    assert app.expander[0].proto.expanded


def test_what_is_still_to_come_is_said(app):
    assert "The quantized ONNX file is still to come" in said(kept(app, float_file="a.onnx"))
    assert "The float ONNX file is still to come" in said(kept(app, quantized_file="b.onnx"))
    assert "The float and the quantized ONNX file" in said(kept(app, classes_file="names.txt"))


def test_files_of_before_are_still_there_and_can_be_taken_away(app):
    kept(app, float_file="a.onnx", quantized_file="b.onnx")
    assert app.text[0].value == "a.onnx b.onnx"
    assert "`a.onnx`, given before" in said(app)
    assert not app.expander[0].proto.expanded
    app.button(key="remove_float_file").click().run()
    assert app.text[0].value == "b.onnx"


def test_the_example_is_a_pair_of_files(app, monkeypatch, tmp_path):
    paths = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    for path in paths:
        path.write_bytes(path.name.encode())
    monkeypatch.setattr(yours_files, "example_pair", lambda folder, progress: paths)
    app.button(key="example_pair").click().run()
    assert app.text[0].value == "float.onnx int8.onnx"
    assert app.session_state["kept_files"]["quantized_file"].data == b"int8.onnx"
