"""Cards that the server was started with, on the page Your network."""

import shutil
from pathlib import Path

import pytest
from onnx_support import CLASSES, quantized, saved, small
from streamlit.testing.v1 import AppTest

from quantviz.comparison.serving import Serving
from quantviz.images import bundled_path
from quantviz.networks.permission import VARIABLE
from quantviz.study.sweep import jobs
from quantviz.ui.cards import UPLOADED
from quantviz.ui.serving import serving

APP = Path(__file__).parents[2] / "app.py"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return the page Your network of a server that was started with a card of a float file and two variants."""
    path = saved(tmp_path, small())
    quantized(path, "int8.onnx")
    names = ", ".join(f'"![{number}](evil.png)"' for number in range(CLASSES))
    card = tmp_path / "net.toml"
    card.write_text(
        f'name = "ours"\nfloat = "float.onnx"\nclasses = [{names}]\n'
        '[[variants]]\nfile = "int8.onnx"\n[[variants]]\nfile = "float.onnx"\nname = "copy"\n'
    )
    for name, value in Serving(cards=(card,)).environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("QUANTVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, "")  # as the page leaves it, and as it was before after the test
    serving.clear()
    yield AppTest.from_file(APP, default_timeout=600).run().switch_page("pages/yours.py").run()
    serving.clear()


def test_a_card_is_compared_with_the_variant_that_is_chosen(page):
    assert not page.exception
    assert [entry.value for entry in page.error] == []
    assert "At W8A8 QDQ, ours" in viewer(page)
    assert not any("![" in entry.value for entry in page.markdown)
    page.segmented_control(key="variant").set_value("copy").run()
    assert "looks at the same places (CC 1.000" in viewer(page)


def viewer(page):
    """Return what the viewer of maps gets."""
    return "".join(str(entry.proto) for entry in page.get("bidi_component"))


def test_files_can_be_uploaded_beside_cards(page):
    choice = next(box for box in page.sidebar.selectbox if box.label == "What is compared")
    assert choice.options == ["net.toml", UPLOADED]
    page = choice.select(UPLOADED).run()
    assert [entry.label for entry in page.main.get("file_uploader")][:2] == [
        "Float ONNX file",
        "Quantized ONNX file",
    ]


def test_a_sweep_takes_the_cards_of_the_server(page, tmp_path, monkeypatch):
    """Of ONNX files, without bits, scheme and protocols, which are not of them."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(bundled_path("coffee"), photos)
    begun = []
    monkeypatch.setattr(jobs, "_run", lambda path, words: begun.append(words) or jobs.job(path))
    page = page.switch_page("pages/study.py").run()
    assert not page.exception
    choice = page.multiselect(key="sweep_models")
    assert "net.toml" in choice.options
    choice.set_value(["net.toml"])
    page.text_input(key="sweep_dataset").set_value(str(photos))
    page.text_input(key="sweep_name").set_value("ours")
    page.button(key="start_sweep").click().run()
    assert [entry.value for entry in page.error] == []
    card = str(tmp_path / "net.toml")
    assert begun == [["sweep", str(photos), "--card", card, "--out", begun[0][-1]]]
    page.multiselect(key="sweep_models").set_value(["net.toml", "squeezenet1_1"])
    page.text_input(key="sweep_weights").set_value("squeezenet1_1=untrained")
    page.button(key="start_sweep").click().run()
    assert [entry.value for entry in page.error] == []
    assert begun[1][2:] == [
        *("--models", "squeezenet1_1", "--card", card, "--weights", "squeezenet1_1=untrained"),
        *("--bits", "16,8,4", "--scheme", "standard", "--protocols", "calibrated", "--out", begun[1][-1]),
    ]
