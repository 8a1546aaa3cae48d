"""Strangers' ONNX files: each bad one costs a sentence, and the process that opened it."""

import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_support import CLASSES, quantized, saved, small
from strange_support import endless, of_nodes

from quantviz import images
from quantviz.comparison import FilesRequest, compare_files
from quantviz.comparison.pair import PairRequest
from quantviz.comparison.sandbox import Limits, Sandbox, UploadedFiles
from quantviz.comparison.transfer import unpacked
from quantviz.comparison.waiting import Line
from quantviz.specs import CheckpointError, UsageError

NO_SALIENCY = PairRequest("gradcam", saliency=None)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("pair"), small())
    return path, quantized(path, "quantized.onnx")


@pytest.fixture(scope="module")
def pair(paths):
    return UploadedFiles(paths[0].read_bytes(), "float.onnx", paths[1].read_bytes(), "quantized.onnx")


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return the folder in which temporary ones are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def bomb():
    """Return a network of some hundred bytes that asks for 256 GiB."""
    shape = numpy_helper.from_array(np.array([2**18, 2**18]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["input", "sum"], ["output"]),
    ]
    return of_nodes(nodes, [shape])


def outside():
    """Return a network that keeps a weight in a file of the system's."""
    model = onnx.load_model_from_string(of_nodes([helper.make_node("Add", ["input", "w"], ["output"])]))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../../../../../../etc/hostname")
    model.graph.initializer.append(weight)
    return model.SerializeToString()


def foreign():
    """Return a network with an operator that ONNX Runtime does not bring along."""
    return of_nodes([helper.make_node("Evil", ["input"], ["output"], domain="strange")])


BAD = {
    "external data": (outside, "weights in another file"),
    "custom operator": (foreign, "operator 'Evil' of domain 'strange'"),
    "memory": (bomb, "more than 2 GiB of memory"),
    "endless": (endless, "took more than"),
    "truncated": (lambda: small().SerializeToString()[:-700], "is no ONNX file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_costs_a_sentence_and_nothing_is_left(pair, temporary, kind):
    make, words = BAD[kind]
    sandbox = Sandbox(Limits(memory=2 << 30, cpu_seconds=2, seconds=600))
    with pytest.raises(CheckpointError) as refused:
        sandbox.compare(replace(pair, reference=make()), images.bundled("coffee"), NO_SALIENCY)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(temporary.glob("quantviz-upload-*")) == []


def test_a_good_pair_gives_what_it_gives_in_this_process(paths, pair, sandbox, temporary):
    sample, said = images.bundled("coffee"), set()
    found = sandbox.compare(pair, sample, NO_SALIENCY, progress=lambda message, *_: said.add(message))
    (expected,) = compare_files(FilesRequest(paths[0], (paths[1],)), sample, NO_SALIENCY).values()
    assert any("both models" in message for message in said)
    comparison = found.comparison
    for one, other in ((comparison.reference, expected.reference), (comparison.quantized, expected.quantized)):
        np.testing.assert_allclose(one.heatmap.values, other.heatmap.values, atol=1e-3)  # other numbers of threads
        assert [entry.index for entry in one.predictions] == [entry.index for entry in other.predictions]
    assert comparison.notes == expected.notes
    assert comparison.quant.details["match"] == expected.quant.details["match"]
    assert comparison.weights == expected.weights
    assert comparison.sample is sample
    assert found.files["float"]["logits"]["classes"] == CLASSES
    assert {"float": "last", "quantized": "last", "how": "by name", "same_shape": True} in found.pair["matches"]
    assert list(temporary.glob("quantviz-upload-*")) == []


def test_another_number_of_classes_is_a_finding(pair, sandbox):
    model = small()
    weights = {entry.name: entry for entry in model.graph.initializer}
    for name in ("head.weight", "head.bias"):
        weights[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[name])[:-1].copy(), name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = CLASSES - 1
    found = sandbox.compare(replace(pair, quantized=model.SerializeToString()), images.bundled("coffee"), NO_SALIENCY)
    assert found.pair["findings"] == [
        "Numbers of classes differ: 7 in float.onnx, 6 in quantized.onnx; they are not the same network."
    ]
    assert found.comparison.notes[0] == found.pair["findings"][0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"reference": b""}, "float.onnx is empty"),
        ({"quantized": b"x" * 2049}, "quantized.onnx has 0.0 MiB"),
        ({"classes": b"x" * (2 << 20)}, "classes.txt has 2.0 MiB"),
    ],
)
def test_sizes_are_judged_before_a_process_is_started(changed, words, temporary):
    files = UploadedFiles(b"x", "float.onnx", b"x", "quantized.onnx")
    with pytest.raises(CheckpointError, match=words):
        Sandbox(Limits(file_bytes=2048)).compare(replace(files, **changed), images.bundled("coffee"))
    assert list(temporary.glob("quantviz-upload-*")) == []


def test_time_that_is_over_ends_the_process(pair, temporary):
    with pytest.raises(CheckpointError, match=r"took more than 0\.0 s"):
        Sandbox(Limits(seconds=0.0)).compare(pair, images.bundled("coffee"))
    assert list(temporary.glob("quantviz-upload-*")) == []


def test_a_process_that_crashes_costs_a_sentence(pair, tmp_path, monkeypatch, temporary, caplog):
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nprintf 'one\\ntwo' >&2\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    with pytest.raises(CheckpointError, match=r"ended the process that opened them \(SIGSEGV\)"):
        Sandbox().compare(pair, images.bundled("coffee"))
    assert "b'one\\ntwo'" in caplog.text
    assert list(temporary.glob("quantviz-upload-*")) == []


def test_who_leaves_ends_the_process(pair, temporary):
    class LeftError(Exception):
        pass

    def leave(*_):
        raise LeftError

    sandbox = Sandbox()
    with pytest.raises(LeftError):
        sandbox.compare(replace(pair, reference=endless()), images.bundled("coffee"), progress=leave)
    assert list(temporary.glob("quantviz-upload-*")) == []
    assert not any(b"sandboxed" in command for command in children())


def children():
    """Return the command lines of this process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(path.with_name("cmdline").read_bytes())
        except OSError:
            continue
    return found


def test_what_a_killed_server_left_is_removed(pair, temporary):
    ended = next(number for number in range(400_000, 500_000) if not Path(f"/proc/{number}").exists())
    left, own = temporary / f"quantviz-upload-{ended}-x", temporary / f"quantviz-upload-{os.getpid()}-x"
    for folder in (left, own):
        folder.mkdir()
        (folder / "float.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        Sandbox(Limits(seconds=0.0)).compare(pair, images.bundled("coffee"))
    assert list(temporary.glob("quantviz-upload-*")) == [own]


def test_a_line_serves_in_turn_and_sends_the_last_away():
    line, order, said = Line(at_once=1, most_waiting=2), [], []
    first_is_in, goes_on = threading.Event(), threading.Event()

    def visit(name, wait=False):
        with line.turn(lambda message, *_: said.append(message)):
            order.append(name)
            if wait:
                first_is_in.set()
                goes_on.wait(60)

    visitors = [threading.Thread(target=visit, args=("first", True))]
    visitors[0].start()
    assert first_is_in.wait(60)
    for count, name in enumerate(("second", "third"), start=1):
        visitors.append(threading.Thread(target=visit, args=(name,)))
        visitors[-1].start()
        until(lambda count=count: any(f"files of {count} other" in message for message in said))
    with pytest.raises(UsageError, match="The files of 2 other visitors are waiting"):
        visit("fourth")
    goes_on.set()
    for visitor in visitors:
        visitor.join(60)
    assert order == ["first", "second", "third"]


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to pass")


def test_who_leaves_the_line_holds_nobody_up():
    class LeftError(Exception):
        pass

    line = Line(at_once=1, most_waiting=2)

    def leave(*_):
        raise LeftError

    with line.turn(leave):  # nobody is before, so that nothing is said
        with pytest.raises(LeftError), line.turn(leave):
            pass
    with line.turn(leave):
        pass


@pytest.mark.parametrize("blob", [b"", b"quantviz" + bytes(200), b"\x80\x04cos\nsystem\n"])
def test_a_result_that_is_none_is_refused(blob):
    with pytest.raises(ValueError, match="no comparison"):
        unpacked(blob, "0" * 64, images.bundled("coffee"))
