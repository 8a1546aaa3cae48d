"""Which networks a visitor can name."""

import pytest
from streamlit.testing.v1 import AppTest

from quantviz.comparison.serving import Serving
from quantviz.networks import MODELS
from quantviz.networks.permission import VARIABLE
from quantviz.specs import UsageError
from quantviz.ui.network import BY_NAME, allowed
from quantviz.ui.serving import serving


@pytest.mark.parametrize(
    "name", ["net.toml", "/etc/net.toml", "timm:../net.toml", "os:system", "timm:os:system", "timm:", "package:make"]
)
def test_a_name_that_would_open_a_file_or_run_code_is_refused(name):
    with pytest.raises(UsageError, match="is not available here; give timm:NAME or torchvision:NAME"):
        allowed(name)


def test_a_network_too_large_for_a_shared_server_is_refused():
    with pytest.raises(UsageError, match="and the dashboard takes 138 million"):
        allowed("torchvision:vgg19")


def chooser():
    """Draw the choice of a network, and show what it is and which weights it has."""
    import streamlit as st

    from quantviz.ui.links import Linked
    from quantviz.ui.network import choose_model, weights_at_hand

    model = choose_model(Linked())
    st.text(model)
    st.text(", ".join(weights_at_hand(model)))


@pytest.fixture
def choices(tmp_path, monkeypatch):
    """Return a function that draws the choice as a server with empty caches does, started with what is offered."""
    for name in ("TORCH_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)  # which a page that was run in this process before leaves

    def opened(offered=None):
        for name, value in (offered or Serving()).environment().items():
            monkeypatch.setenv(name, value)
        serving.clear()
        return AppTest.from_function(chooser, default_timeout=600).run()

    yield opened
    serving.clear()


def chosen(page):
    """Return the network and its weights; where it cannot be used, the page says why."""
    assert not page.exception
    return [entry.value for entry in page.text]


def test_networks_that_run_now_stand_first_and_others_say_what_they_download(choices):
    (box,) = choices().selectbox
    assert list(box.options) == [*MODELS, BY_NAME]  # of these, only the first one's weights come with a package
    assert box.help.startswith("These run now: efficientnet_lite0. These are downloaded first: vgg16 (528 MiB), ")
    page = choices().selectbox[0].select("vgg16").run()
    assert any("528 MiB to download" in caption.value for caption in page.caption)


def test_a_classifier_of_a_library_has_only_the_weights_that_are_here(choices):
    page = choices().selectbox[0].select(BY_NAME).run()
    assert chosen(page) == ["efficientnet_lite0", "IMAGENET1K, untrained"]
    page = page.text_input[0].set_value("timm:test_resnet").run()
    assert chosen(page) == ["timm:test_resnet", "untrained"]
    page = page.text_input[0].set_value("net.toml").run()
    assert "is not available here" in page.error[0].value
    assert chosen(page) == ["efficientnet_lite0", "IMAGENET1K, untrained"]


def test_what_the_server_was_started_with_can_be_chosen(choices, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    layers = "nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)"
    source = f"from torch import nn\n\n\ndef make():\n    return nn.Sequential({layers})\n"
    tmp_path.joinpath("net_of_ours.py").write_text(source)
    card, pair = tmp_path / "lite.toml", tmp_path / "pair.toml"
    card.write_text('name = "ours"\nmodel = "efficientnet_lite0"\nweights = "untrained"\n')
    tmp_path.joinpath("float.onnx").write_bytes(b"")
    pair.write_text('float = "float.onnx"\n')
    page = choices(Serving(cards=(card, pair), models=("net_of_ours:make",)))
    assert page.selectbox[0].options[len(MODELS) :] == ["lite.toml", "net_of_ours:make", BY_NAME]
    assert chosen(page.selectbox[0].select("net_of_ours:make").run()) == ["net_of_ours:make", "as made"]
    page = page.selectbox[0].select("lite.toml").run()
    assert chosen(page) == [str(card), "of the card, IMAGENET1K, untrained"]
    card.write_text("model = 1\n")
    page = page.run()
    assert page.error
    assert chosen(page)[0] == "efficientnet_lite0"
