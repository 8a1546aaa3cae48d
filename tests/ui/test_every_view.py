"""Every page, network, bit-width and method: the page runs, and nothing unexpected is on it."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from quantviz import networks
from quantviz.specs import CAM_METHODS, MAX_BITS, MIN_BITS
from quantviz.ui import workbench
from quantviz.ui.bit_widths import SLOW_METHODS

APP = Path(__file__).parents[2] / "app.py"
BITS = [str(bits) for bits in range(MIN_BITS, MAX_BITS + 1)]
SMALL = "squeezenet1_1"
PLAIN = ("home", "yours", "study", "paper", "metrics", "method", "present")
"""Pages without a network to choose."""


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Give the pages a cache folder of their own, and no weights but those that an installed package ships."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTVIZ_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        patch.setenv("QUANTVIZ_WEIGHTS_URL", "http://127.0.0.1:9/")
        workbench.clear()
        yield
        workbench.clear()


def opened(name):
    page = AppTest.from_file(APP, default_timeout=600).run()
    return well(page if name == "home" else page.switch_page(f"pages/{name}.py").run(), name)


def well(page, *said):
    """Hold a page to having run, with no error but one that it is there to tell; return it."""
    assert not page.exception, (said, page.exception)
    assert not page.error, (said, [error.value for error in page.error])
    return page


def chosen(page, **choices):
    for key, value in choices.items():
        page.session_state[key] = value
    return well(page.run(), choices)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_a_page_runs(caches, name):
    opened(name)


@pytest.mark.slow
@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize("name", ["photographs", "diagnose", "layers"])
def test_pages_that_wait_to_be_asked_run_with_every_choice(caches, name, model):
    page = chosen(opened(name), model=model, weights="untrained")
    for method in CAM_METHODS:
        for bits in BITS:
            chosen(page, cam=method, weight_bits=bits)


@pytest.mark.slow
@pytest.mark.parametrize("model", networks.MODELS)
def test_compare_runs_with_every_network_at_every_bit_width_and_by_every_method(caches, model):
    page = chosen(opened("compare"), model=model, weights="untrained", saliency="none")
    for bits in BITS:
        chosen(page, weight_bits=bits, act_bits=bits)
    for method in CAM_METHODS:
        if method not in SLOW_METHODS or model == SMALL:  # a forward pass a channel
            chosen(page, cam=method)


@pytest.mark.slow
def test_compare_runs_by_every_method_at_every_bit_width(caches):
    page = chosen(opened("compare"), model=SMALL, weights="untrained", saliency="none")
    for method in CAM_METHODS:
        for bits in BITS if method not in SLOW_METHODS else ("2", "8", "16"):
            chosen(page, cam=method, weight_bits=bits, act_bits=bits)
