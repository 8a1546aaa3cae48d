"""The dashboard for strangers: what it offers them, and what it says of itself."""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from quantviz.comparison.serving import Serving
from quantviz.study.shipped import shipped_studies
from quantviz.ui.serving import serving

APP = Path(__file__).parents[2] / "app.py"


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Return a function that opens a page of a server that was started with something."""
    monkeypatch.setenv("QUANTVIZ_CACHE", str(tmp_path))

    def call(offered, page, **query):
        serving.clear()
        for name, value in offered.environment().items():
            monkeypatch.setenv(name, value)
        app = AppTest.from_file(APP, default_timeout=300)
        for name, value in query.items():
            app.query_params[name] = value
        app.switch_page(page).run()
        assert not app.exception
        return app

    yield call
    serving.clear()


def test_strangers_type_no_path(opened, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    for page, query in (("pages/study.py", {"study_path": str(secret)}), ("pages/layers.py", {"folder": str(secret)})):
        app = opened(Serving(public=True), page, **query)
        assert {box.key for box in app.text_input} <= {"letters", "model_name"}
        assert "secret" not in json.dumps([error.value for error in app.error])
    assert not [button for button in app.button if button.key == "start_sweep"]


def test_strangers_may_open_what_the_server_was_started_with(opened, tmp_path):
    (name, folder), *_ = shipped_studies().items()
    named = tmp_path / "named"
    named.symlink_to(folder)
    app = opened(Serving(public=True, studies=(named,)), "pages/study.py")
    assert {name, "named"} <= set(app.selectbox(key="study").options)
    pictures = tmp_path / "holiday"
    pictures.mkdir()
    app = opened(Serving(public=True, datasets=(pictures,)), "pages/layers.py")
    assert app.selectbox(key="dataset").options == ["none", "holiday"]


def test_the_first_page_says_what_others_reach(opened):
    def said(offered):
        return " ".join(caption.value for caption in opened(offered, "pages/home.py").caption)

    assert "public server" in said(Serving(public=True, reachable=True, seconds=9))
    assert "start sweeps" in said(Serving(reachable=True))
    assert "server" not in said(Serving())
