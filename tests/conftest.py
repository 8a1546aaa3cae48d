"""Models and pictures that several test files use."""

import gc
import os
import subprocess
import sys
import time
from functools import lru_cache
from importlib import import_module

import hypothesis
import numpy as np
import pytest
import torch

from quantviz import images, networks
from quantviz.cli import main
from quantviz.networks.build import build
from quantviz.networks.permission import VARIABLE

# The same examples in every run, so that a run fails by what was changed alone; make long draws new ones.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items):
    """Put the page's tests first, for the process that gets them all; the files' own order is kept."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/ui/"))


@pytest.hookimpl(optionalhook=True)
def pytest_collection_finish():
    """Spare the modules that collecting has imported the search for garbage: 0.1 s and more each time."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config, log):
    """Give all tests of the page to one process, and the others file by file to whichever process is free.

    The page's tests wait for the browser half of their time, and share a server that has computed once what several of
    them show.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByRoom(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "tests/ui" if nodeid.startswith("tests/ui/") else nodeid.partition("::")[0]

    return ByRoom(config, log)


@lru_cache(maxsize=8)
def _built(name, choice):
    return build(networks.spec(name), networks.resolve(networks.spec(name), choice))[0]


@pytest.fixture(scope="session")
def float_model():
    """Return a function from a model's name to the model: bundled weights where there are any, else untrained.

    It is shared: a test that changes a model takes a deep copy.
    """
    return lambda name: _built(name, None if networks.spec(name).weights[0].bundled else "untrained")


@pytest.fixture(scope="session")
def photograph():
    """Return a function from a model's and a bundled photograph's name to the model's input (1, 3, h, w)."""

    def prepared(model, name="chelsea"):
        preprocessing = networks.spec(model).weights[0].preprocessing
        return torch.from_numpy(images.normalize(images.crop(images.bundled(name).rgb, preprocessing), preprocessing))

    return prepared


@pytest.fixture(scope="session")
def noise_picture():
    """Return a function from a seed and a size to an RGB picture, uint8 (height, width, 3)."""
    return lambda seed, height=90, width=120: np.random.default_rng(seed).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@pytest.fixture(scope="session")
def effort():
    """Return a function from a call to its processor time, in units of what counting to a million takes.

    Neither how fast the machine is nor what else it does makes much of a difference to that.
    """

    def seconds(call):
        started = time.thread_time()
        call()
        return time.thread_time() - started

    unit = min(seconds(lambda: sum(1 for _ in range(1_000_000))) for _ in range(3))
    return lambda call: seconds(call) / unit


@pytest.fixture(scope="session")
def imported():
    """Return a function from code to those of some modules that a new interpreter has imported after it."""

    def after(code, *modules):
        told = f"import sys\n{code}\nprint(*(name for name in {modules!r} if name in sys.modules))"
        done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
        return done.stdout.split()

    return after


@pytest.fixture(autouse=True)
def factories_as_before():
    """Leave which factories may be named as it was: a page that is run in this process forbids them all."""
    before = os.environ.get(VARIABLE)
    yield
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before


@pytest.fixture(autouse=True)
def main_module_as_before():
    """Leave the main module as it was: a page takes its place, and processes that are started later import it."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Return the folder in which the server keeps its cache, empty at first."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def address(home):
    """Return the address of the one server that all browser tests of a process share, as users do."""
    with browser_support().served(home) as found:
        yield found


@pytest.fixture(scope="session")
def browser():
    with browser_support().opened_browser() as opened:
        yield opened


@pytest.fixture
def page(browser):
    """Return a fresh page; whatever it writes to the console as an error fails the test."""
    with browser_support().watched_page(browser) as opened:
        yield opened


def browser_support():
    """Return the module, which is not imported where there is no browser."""
    return import_module("browser_support")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return the cache folder of the commands that a test file runs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache, monkeypatch, capfd, tmp_path):
    """Return a function that runs quantviz in this process: (exit status, standard output, standard error)."""
    monkeypatch.setenv("QUANTVIZ_CACHE", str(cache))
    monkeypatch.setenv("QUANTVIZ_WEIGHTS_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["quantviz", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capfd.readouterr()

    return call
