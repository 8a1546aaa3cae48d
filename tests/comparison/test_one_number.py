"""One number: a comparison has the same bits whatever the number of threads, and whichever face asks for it."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from comparison_support import SAMPLE, SQUEEZENET, bits, write_picture

from quantviz import images
from quantviz.comparison import Workbench, comparison_data
from quantviz.comparison.machine import PROCESSOR, processor_kind
from quantviz.comparison.together import together
from quantviz.specs import QuantSpec, no_progress
from quantviz.store import TensorStore

W3 = replace(SQUEEZENET, quant=QuantSpec(3, 8))


@pytest.fixture
def threads():
    """Return torch's own function, and give back the threads that there were."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_no_bit(tmp_path, threads):
    found = []
    for count in (1, 2, 4):
        threads(count)
        with TensorStore(tmp_path / str(count)) as store:
            comparison = Workbench(store).compare(W3, SAMPLE)
        assert torch.get_num_threads() == count
        found.append((bits(comparison), comparison.scores, comparison.key))
    assert found[0] == found[1] == found[2]


def test_the_kind_of_processor_is_in_the_key_and_in_the_json(tmp_path, monkeypatch):
    with TensorStore(tmp_path) as store:
        bench = Workbench(store)
        comparison = bench.compare(W3, SAMPLE)
        assert comparison_data(comparison)["versions"][PROCESSOR] == processor_kind()
        assert bench.stored(W3, SAMPLE) is not None
        monkeypatch.setattr("quantviz.comparison.loaded.deciding_versions", lambda: {PROCESSOR: "another"})
        assert bench.stored(W3, SAMPLE) is None


def test_both_maps_of_a_flipped_class_explain_the_float_networks(tmp_path, threads):
    """Made at the same time, the quantized network first explains its own class."""
    flipped = replace(SQUEEZENET, quant=QuantSpec(2, 8))
    found = []
    for count in (1, 2):
        threads(count)
        with TensorStore(tmp_path / str(count)) as store:
            found.append(Workbench(store).compare(flipped, SAMPLE))
    assert found[0].flipped
    assert [each.quantized.class_index for each in found] == [found[0].reference.class_index] * 2
    assert bits(found[0]) == bits(found[1])


def test_progress_is_told_in_the_calling_thread_alone(threads):
    threads(2)
    told = []

    def progress(message, _fraction=None, _phase=None):
        told.append((message, threading.current_thread()))

    ready = threading.Event()

    def second(progress):
        progress("second")
        ready.set()
        return 2

    def first(progress):
        assert ready.wait(60)
        progress("first")
        return 1

    assert together(first, second, progress) == (1, 2)
    assert {thread for _, thread in told} == {threading.current_thread()}
    assert ("first", threading.current_thread()) in told


def test_an_end_of_either_computation_ends_both(threads):
    threads(2)
    ended = threading.Event()

    def endless(progress):
        try:
            while True:
                progress("on and on")
        finally:
            ended.set()

    def fails(_progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        together(fails, endless, no_progress)
    assert ended.wait(60)

    with pytest.raises(ZeroDivisionError):
        together(lambda _progress: 1, fails, no_progress)

    def stop(*_):
        raise KeyboardInterrupt

    ended.clear()
    with pytest.raises(KeyboardInterrupt):
        together(lambda _progress: 1, endless, stop)
    assert ended.wait(60)


_COMPARED = """
import hashlib, json, sys
import quantviz
from quantviz.comparison import CompareRequest, Workbench, arrays
from quantviz import images
from quantviz.specs import QuantSpec
from quantviz.store import TensorStore
told = {}
with TensorStore(sys.argv[1]) as store:
    bench = Workbench(store)
    for model in ("squeezenet1_1", "mobilenet_v2"):
        for quant, deployed in ((QuantSpec(3, 8), False), (QuantSpec(), False), (QuantSpec(), True)):
            request = CompareRequest(model, "untrained", quant, deployed=deployed)
            found = bench.compare(request, images.bundled("chelsea"))
            digests = {name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in arrays(found).items()}
            told[f"{model} {quant.label} {deployed}"] = digests
print(json.dumps(told))
"""


@pytest.mark.slow
def test_processes_of_one_two_and_four_threads_give_the_same_bytes(tmp_path):
    told = []
    for count in (1, 2, 4):
        environment = {**os.environ, "OMP_NUM_THREADS": str(count)}
        command = [sys.executable, "-c", _COMPARED, str(tmp_path / str(count))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.append(json.loads(done.stdout))
    assert told[0] == told[1] == told[2]


@pytest.mark.slow
def test_a_sweep_and_the_command_line_give_what_a_comparison_gives(tmp_path):
    write_picture(tmp_path / "pictures.png", images.bundled("chelsea").rgb)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (tmp_path / "pictures.png").rename(pictures / "chelsea.png")
    digests, scores = set(), set()
    for count in (1, 2, 4):
        environment = {**os.environ, "OMP_NUM_THREADS": str(count), "QUANTVIZ_CACHE": str(tmp_path / f"cache{count}")}
        out = tmp_path / f"study{count}"
        choice = ["--weights", "squeezenet1_1=untrained", "--models", "squeezenet1_1", "--bits", "W3A8"]
        _quantviz(environment, "sweep", pictures, *choice, "--out", out)
        digests.add(hashlib.sha256((out / "results.parquet").read_bytes()).hexdigest())
        row = pq.read_table(out / "results.parquet").to_pylist()[0]
        asked = [
            "--model",
            "squeezenet1_1",
            "--weights",
            "untrained",
            "--weight-bits",
            "3",
            "--json",
            out / "told.json",
        ]
        _quantviz(environment, "compare", pictures / "chelsea.png", *asked)
        told = json.loads((out / "told.json").read_text())["scores"]["quantized_v_float"]["cc"]
        scores |= {told, row["quantized_v_float_cc"]}
    assert len(digests) == 1
    assert len(scores) == 1


def _quantviz(environment, *arguments):
    command = [sys.executable, "-m", "quantviz", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
