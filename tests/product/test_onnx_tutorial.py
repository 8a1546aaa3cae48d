"""The tutorial on a pair of ONNX files: its Python and its commands, one after the other, as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "onnx_pair.md"
# What of the shown results does not depend on the processor.
SHOWN = (
    "lite0-int8.onnx: opset 20, QDQ, W8A8",
    "Quantized: 50 bias (32 bits: int32, per-channel); 50 weight (8 bits: int8, per-channel)",
    "Matched 61 tensors of the two files:",
    "gradcam++ at hardtanh_32, class 967 (the float model's top-1)",
    "Note: lite0.onnx may have been trained on RGB, not BGR: warm colours speak for things that are blue",
)


def steps(text):
    """Yield each block of Python, and each command as its words."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        if kind == "python":
            yield block
        elif not kind:
            yield from (shlex.split(line)[1:] for line in block.splitlines())


@pytest.mark.filterwarnings("ignore")  # the exporter's and the quantizer's own
def test_the_tutorial_runs_on_a_small_network(run, cache, tmp_path, monkeypatch, capfd):
    """Its very lines, but for the network's name, weights and size, in one process."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    smaller = {
        '"efficientnet_lite0"': '"squeezenet1_1"',
        "resolve(spec, None)": 'resolve(spec, "untrained")',
        "(3, 224, 224)": "(3, 64, 64)",
    }
    for given, instead in smaller.items():
        assert given in text
        text = text.replace(given, instead)
    names, told, taken = {"__name__": "tutorial"}, "", list(steps(text))
    for step in taken:
        if isinstance(step, str):
            exec(compile(step, str(PAGE), "exec"), names)
            told += capfd.readouterr().out
        else:
            status, shown, error = run(*step)
            assert status == 0, (step, error)
            told += shown
    assert len(taken) == 5
    assert re.search(r"^lite0-int8.onnx: opset \d+, QDQ, W8A8$", told, re.M)
    assert re.search(r"^Matched \d+ tensors of the two files:$", told, re.M)
    assert float(re.search(r"^CC ([\d.]+)$", told, re.M)[1]) > 0.9


@pytest.mark.slow  # it exports and quantizes a network, which takes half a minute
def test_the_tutorial_runs_and_shows_what_it_says(cache, tmp_path):
    text = PAGE.read_text("utf-8")
    told = ""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        if kind == "text":
            continue
        lines = [["-c", block]] if kind else [["-m", *shlex.split(line)] for line in block.splitlines()]
        for line in lines:
            done = subprocess.run(
                [sys.executable, *line],
                cwd=tmp_path,
                env=os.environ | {"QUANTVIZ_CACHE": str(cache)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (line, done.stderr)
            told += done.stdout
    assert [part for part in SHOWN if part not in told] == []
    assert all(part in text for part in SHOWN)
    assert float(re.search(r"^CC ([\d.]+)$", told, re.M)[1]) > 0.99
