"""Saliency networks in ONNX files, and how a prediction is chosen."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from quantviz import images, saliency
from quantviz.saliency import network
from quantviz.specs import CheckpointError, Heatmap, UsageError

# --- networks


class Redness(torch.nn.Module):
    """Red minus the mean of green and blue, three times: the first output is the one that counts."""

    def __init__(self, keep_channel=True):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 1)
        self.conv.weight.data = torch.tensor([0.229, -0.112, -0.1125]).reshape(1, 3, 1, 1)
        self.conv.bias.data.zero_()
        self.keep = keep_channel

    def forward(self, x):
        d0 = self.conv(x)
        return (d0 if self.keep else d0[:, 0]), -d0, d0 * 0


def exported(path, *, side=64, open_side=False, **options):
    shape = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = (torch.zeros(1, 3, side, side),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            Redness(**options).eval(),
            example,
            str(path),
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=(shape,) if open_side else None,
        )
    return path


def graph_file(path, nodes, *, inputs=None, outputs=None, weights=()):
    """An .onnx file of one graph, by default from x (1, 3, 32, 32) to y (1, 1, 32, 32)."""
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])]
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def mean_file(path, shape):
    """An .onnx file that averages the channels of an input of a given shape."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    return graph_file(path, [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])], inputs=inputs)


def red_square(height=90, width=120):
    rgb = np.full((height, width, 3), 120, np.uint8)
    rgb[30:60, 40:80] = (250, 20, 30)
    return rgb


@pytest.fixture(scope="module")
def redness(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("networks") / "redness.onnx")


def test_network_finds_what_it_was_made_for(redness):
    rgb = red_square()
    heatmap = saliency.onnx_saliency(redness, rgb)
    assert heatmap.values.shape == (90, 120)
    assert (heatmap.values.min(), heatmap.values.max()) == (0.0, 1.0)
    assert heatmap.values[35:55, 48:72].min() > 0.95
    assert heatmap.values[:20].max() < 0.05
    assert np.array_equal(heatmap.values, saliency.OnnxSaliency(redness)(rgb).values)


def test_network_gets_u2nets_preprocessing_written_out(redness):
    rgb = images.bundled("chelsea").rgb // 2  # so that its largest value is not 255
    small = np.asarray(Image.fromarray(rgb).resize((64, 64), Image.Resampling.BILINEAR), np.float64)
    pixels = (small / small.max() - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    output = pixels @ [0.229, -0.112, -0.1125]
    output = (output - output.min()) / np.ptp(output)
    large = np.asarray(Image.fromarray(output.astype(np.float32)).resize(rgb.shape[1::-1], Image.Resampling.BILINEAR))
    expected = (large - large.min()) / np.ptp(large)
    assert np.abs(saliency.onnx_saliency(redness, rgb).values - expected).max() < 1e-4


def test_network_with_open_sides_gets_320_and_may_return_three_dimensions(tmp_path):
    path = exported(tmp_path / "open.onnx", open_side=True, keep_channel=False)
    opened = saliency.OnnxSaliency(path)
    assert (opened.name, opened.side) == ("open.onnx", 320)
    assert opened(red_square()).values[35:55, 45:75].min() > 0.95
    assert saliency.OnnxSaliency(mean_file(tmp_path / "named.onnx", ["n", "c", "h", "w"])).side == 320
    assert saliency.OnnxSaliency(mean_file(tmp_path / "fixed.onnx", [1, 3, 48, 48])).side == 48


def test_network_is_opened_again_only_when_the_file_has_changed(tmp_path):
    path = mean_file(tmp_path / "n.onnx", [1, 3, 32, 32])
    first = network.open_network(path)
    assert network.open_network(tmp_path / "." / "n.onnx") is first
    mean_file(path, [1, 3, 48, 48])
    os.utime(path, ns=(1, 1))
    second = network.open_network(path)
    assert (first.side, second.side) == (32, 48)
    assert first.sha256 != second.sha256


def test_network_without_evidence_is_flagged(tmp_path):
    picture = red_square()
    nothing = graph_file(tmp_path / "nothing.onnx", [helper.make_node("Sub", ["x", "x"], ["d"]), mean_node("d")])
    assert saliency.onnx_saliency(nothing, picture).degenerate == "all zero"
    infinite = graph_file(tmp_path / "nan.onnx", [helper.make_node("Log", ["x"], ["d"]), mean_node("d")])
    flagged = saliency.onnx_saliency(infinite, picture)
    assert flagged.degenerate == "contains NaN or infinity"
    assert flagged.values.shape == (90, 120)
    plain = saliency.onnx_saliency(mean_file(tmp_path / "m.onnx", [1, 3, 32, 32]), np.full((20, 30, 3), 9, np.uint8))
    assert plain.degenerate == "constant image"
    black = saliency.onnx_saliency(tmp_path / "m.onnx", np.zeros((20, 30, 3), np.uint8))
    assert black.degenerate == "constant image"


def mean_node(name):
    return helper.make_node("ReduceMean", [name], ["y"], axes=[1])


def network_refused(path, rgb=None):
    with pytest.raises(CheckpointError) as caught:
        saliency.onnx_saliency(path, red_square() if rgb is None else rgb)
    message = str(caught.value)
    assert "\n" not in message
    assert "ONNXRuntimeError" not in message
    assert message.endswith(".")
    return message


def test_files_that_are_no_network_are_refused(tmp_path, redness):
    assert "does not exist" in network_refused(tmp_path / "gone.onnx")
    assert "not a regular file" in network_refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in network_refused(tmp_path / "pipe.onnx")
    assert "cannot be read" in network_refused(tmp_path / "a\0.onnx")
    bad = tmp_path / "bad.onnx"
    for content in (b"", b"hello, world" * 40, redness.read_bytes()[:200], b"\x80\x04K\x01."):
        bad.write_bytes(content)
        assert "bad.onnx" in network_refused(bad)
    with open(tmp_path / "huge.onnx", "wb") as file:
        file.truncate(network.MAX_BYTES + 1)
    assert "give an .onnx file of up to 512 MiB" in network_refused(tmp_path / "huge.onnx")


def test_networks_of_another_kind_are_refused(tmp_path):
    for shape in ([1, 1, 32, 32], [2, 3, 32, 32], [1, 3, 32, 48], [1, 3, 8, 8], [1, 3, 4096, 4096], [1, 3, 32]):
        message = network_refused(mean_file(tmp_path / "shape.onnx", shape))
        assert "takes tensor(float) of shape" in message
        assert str(shape[-1]) in message
    double = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 3, 32, 32])]
    message = network_refused(graph_file(tmp_path / "double.onnx", [mean_node("x")], inputs=double))
    assert "tensor(double)" in message
    two = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in "xz"]
    add = [helper.make_node("Add", ["x", "z"], ["d"]), mean_node("d")]
    assert "has 2 inputs" in network_refused(graph_file(tmp_path / "two.onnx", add, inputs=two))
    same = graph_file(tmp_path / "three.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    assert "shape (1, 3, 32, 32)" in network_refused(same)
    classes = graph_file(tmp_path / "classes.onnx", [helper.make_node("Flatten", ["x"], ["y"])])
    assert "shape (1, 3072)" in network_refused(classes)
    unknown = graph_file(tmp_path / "unknown.onnx", [helper.make_node("Attend", ["x"], ["y"])])
    assert "Attend" in network_refused(unknown)


def test_network_that_fails_as_it_runs_is_refused(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 1, 7, 7], np.int64), "shape")
    path = graph_file(tmp_path / "fails.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"])], weights=[shape])
    assert "fails.onnx" in network_refused(path)


@pytest.mark.parametrize("location", ["weights.data", "../weights.data", "/etc/passwd"])
def test_weights_in_another_file_are_never_read(tmp_path, monkeypatch, location):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.data").write_bytes(np.ones(3, np.float32).tobytes())
    kernel = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value=location)
    path = graph_file(tmp_path / "split.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], weights=[kernel])
    assert "keeps weights in another file" in network_refused(path)
    loaded = onnx.load(path, load_external_data=False)  # the file itself is sound
    loaded.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w"))
    path.write_bytes(loaded.SerializeToString())
    assert not saliency.onnx_saliency(path, red_square()).degenerate


def test_refused_networks_print_nothing_else(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"hello, world")
    graph_file(tmp_path / "unknown.onnx", [helper.make_node("Attend", ["x"], ["y"])])
    code = (
        "import sys; from quantviz import saliency\n"
        "assert not {'onnxruntime', 'skimage.segmentation'} & set(sys.modules)\n"
        "for path in sys.argv[1:]:\n"
        "    try: saliency.predictor(path)\n"
        "    except Exception as error: print(error)\n"
    )
    no_text = (tmp_path / "unknown.onnx").read_bytes().replace(b"Attend", b"\xff\xfeend\xff")
    (tmp_path / "no_text.onnx").write_bytes(no_text)  # an error that ONNX Runtime cannot even tell
    paths = [str(tmp_path / name) for name in ("bad.onnx", "unknown.onnx", "no_text.onnx")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.count("is no ONNX network that can be run here") == len(done.stdout.splitlines()) == 3
    assert done.stderr == ""


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_networks_give_a_map_or_a_checkpoint_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("mutated")
    path = mean_file(folder / "m.onnx", [1, 3, 32, 32])
    content = bytearray(path.read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[at] = value
    path.write_bytes(content)
    try:
        outcome = saliency.OnnxSaliency(path)(red_square())
    except CheckpointError as error:
        outcome = str(error)
    assert isinstance(outcome, Heatmap) or (isinstance(outcome, str) and "\n" not in outcome)


# --- choosing


def test_predictors_are_told_by_name_title_and_source():
    assert list(saliency.PREDICTORS) == ["spectral_residual", "robust_background"]
    for name, method in saliency.PREDICTORS.items():
        assert method.name == name
        assert method is saliency.predictor(name)
        assert "doi 10.1109/CVPR" in method.source
        assert method.predict is getattr(saliency, name)
    assert len({method.key for method in saliency.PREDICTORS.values()}) == 2


def test_predictor_of_a_file(redness):
    method = saliency.predictor(str(redness))
    assert method.title == "redness.onnx (ONNX network)"
    digest = network.open_network(redness).sha256
    assert digest in method.key
    assert digest in method.source
    assert np.array_equal(method.predict(red_square()).values, saliency.onnx_saliency(redness, red_square()).values)


@pytest.mark.parametrize("choice", ["deepgaze", "map.png", ""])
def test_unknown_predictor_is_refused_with_the_names(choice):
    with pytest.raises(UsageError, match=r"is unknown; use spectral_residual, robust_background or the path of an"):
        saliency.predictor(choice)
