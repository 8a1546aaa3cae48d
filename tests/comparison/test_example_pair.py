"""The example pair of ONNX files: made in a process of its own, once."""

import subprocess
import sys

import pytest

from quantviz.comparison import example_pair as module
from quantviz.comparison.example_pair import example_pair
from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.specs import QuantvizError


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def instead(monkeypatch, code):
    """Let the process run this code with the folder as its argument."""
    start = subprocess.Popen
    monkeypatch.setattr(
        module.subprocess, "Popen", lambda words, **rest: start([sys.executable, "-c", code, words[-1]], **rest)
    )


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    names = "".join(f"(folder / {name!r}).write_bytes(b'');" for name in module._NAMES)
    instead(monkeypatch, f"import sys, pathlib; folder = pathlib.Path(sys.argv[1]); {names}")
    told = []
    paths = example_pair(tmp_path / "new", told.append)
    assert [path.name for path in paths] == list(module._NAMES)
    assert left(tmp_path / "new") == sorted(module._NAMES)
    assert told
    instead(monkeypatch, "raise SystemExit(1)")
    assert example_pair(tmp_path / "new") == paths


def test_what_goes_wrong_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    instead(monkeypatch, "raise SystemExit('no space')")
    with pytest.raises(QuantvizError, match=r"could not be made \(no space\); upload two files of your own"):
        example_pair(tmp_path)
    assert left(tmp_path) == []


def test_it_can_be_cancelled(tmp_path, monkeypatch):
    instead(monkeypatch, "import time; time.sleep(1000)")

    def cancel(_message):
        raise QuantvizError("cancelled")

    with pytest.raises(QuantvizError, match="cancelled"):
        example_pair(tmp_path, cancel)
    assert left(tmp_path) == []


@pytest.mark.slow
def test_the_pair_is_of_one_network(tmp_path):
    pair = pair_of(*map(open_file, example_pair(tmp_path)))
    assert len(pair.matches) > 40
