"""Which networks a visitor can name."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from quantviz.specs import UsageError
from quantviz.ui.network import BY_NAME, allowed

APP = Path(__file__).parents[2] / "app.py"


@pytest.mark.parametrize(
    "name", ["net.toml", "/etc/net.toml", "timm:../net.toml", "os:system", "timm:os:system", "timm:", "package:make"]
)
def test_a_name_that_would_open_a_file_or_run_code_is_refused(name):
    with pytest.raises(UsageError, match="is not available here; give timm:NAME or torchvision:NAME"):
        allowed(name)


def test_a_network_too_large_for_a_shared_server_is_refused():
    with pytest.raises(UsageError, match="and the dashboard takes 138 million"):
        allowed("timm:convnext_xxlarge")


def test_a_named_network_is_compared_and_labelled_untrained(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("QUANTVIZ_CACHE", str(tmp_path))
    page = AppTest.from_file(APP, default_timeout=600).run().switch_page("pages/compare.py").run()
    page = next(box for box in page.sidebar.selectbox if box.label == "Model").select(BY_NAME).run()
    page = page.sidebar.text_input[0].set_value("timm:test_resnet").run()
    assert not page.exception
    assert [entry.value for entry in page.error] == []
    assert any("timm\\:test\\_resnet looks" in entry.value for entry in page.markdown)
    assert any("UNTRAINED" in entry.value for entry in page.warning)
