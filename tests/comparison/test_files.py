"""ONNX files compared on one picture, in Python and by the command compare."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_support import CLASSES, LAST, SIDE, Builder, dynamic, pictures, quantized, real_onnx, saved, small
from onnxruntime.quantization import QuantFormat

from quantviz import images
from quantviz.cam import maps
from quantviz.comparison import FilesRequest, PairRequest, compare_files, comparison_data
from quantviz.comparison import files as rooms
from quantviz.comparison.pair import explain_pair
from quantviz.specs import CheckpointError, UsageError
from quantviz.store import TensorStore

PICTURE = images.bundled("coffee")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def reference(folder):
    return saved(folder, small())


@pytest.fixture(scope="module")
def int8(reference):
    return quantized(reference, "int8.onnx", quant_format=QuantFormat.QOperator, per_channel=False)


def fewer_classes(folder):
    model = small()
    for tensor in model.graph.initializer:
        if tensor.name.startswith("head"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:3], tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    return saved(folder, model, "three.onnx")


def with_open_sides(model, *axes):
    for axis in axes:
        model.graph.input[0].type.tensor_type.shape.dim[axis].ClearField("dim_value")
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    return model


def other_grid(folder):
    """Return the network with a last convolution whose padding an export lost."""
    model = small()
    node = next(node for node in model.graph.node if node.output[0] == "conv_last")
    next(entry for entry in node.attribute if entry.name == "pads").ints[:] = [0, 0, 0, 0]
    return saved(folder, model, "shifted.onnx")


def test_files_are_compared_and_opened_once(folder, reference, int8, monkeypatch):
    made = []
    actual = rooms._examples
    monkeypatch.setattr(rooms, "_examples", lambda *given: made.append(given) or actual(*given))
    request = FilesRequest(reference, (int8,))
    with TensorStore(folder / "tensors") as store:
        first = compare_files(request, PICTURE, store=store)["int8"]
        again = compare_files(request, PICTURE, store=store)["int8"]
        other = compare_files(request, images.bundled("rocket"), store=store)["int8"]
    assert len(made) == 2  # the float and the quantized file, once each
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert np.array_equal(first.quantized.native.values, again.quantized.native.values)
    assert first.cam.layer == LAST
    assert first.scores["quantized_v_float"].cc > 0.9
    told = comparison_data(first)["quantization"]
    assert (told["label"], told["findings"], told["output_difference"]) == ("W8A8 QOperator", [], 0)
    assert told["match"]["quantized"] == "conv_last_quantized"
    assert "shorter side 256 (bilinear), centre crop of 48" in first.notes[0]
    layers = [compare_files(FilesRequest(reference, (int8,), layer), PICTURE)["int8"] for layer in ("added", LAST)]
    assert not np.array_equal(layers[0].reference.native.values.shape, layers[1].reference.native.values.shape)


def test_what_differs_in_a_pair_is_a_finding_and_no_error(folder, reference):
    for path, words in ((fewer_classes(folder), "Numbers of classes differ: 7"), (other_grid(folder), "Shapes differ")):
        for target in ("float", "own"):
            found = compare_files(FilesRequest(reference, (path,)), PICTURE, PairRequest(target=target))[path.stem]
            assert words in found.notes[0]
            assert found.scores["quantized_v_float"].cc is not None
    assert "first at conv_last: 1 x 16 x 12 x 12 in float.onnx, 1 x 16 x 11 x 11" in found.notes[0]


def test_the_command_takes_several_files(run, folder, reference, int8):
    other = dynamic(reference, "quantized.onnx")
    names = folder / "names.txt"
    names.write_text("".join(f"kind {index}\n" for index in range(CLASSES)))
    files = ["--float-model", reference, "--quantized-model", int8, "--quantized-model", other, "--classes", names]
    maps = folder / "maps.npz"
    status, text, _ = run("compare", "coffee", *files, "--maps", maps, "--cam", "gradcam", "--json", "-")
    told = json.loads(text)
    assert status == 0
    assert list(told["others"]) == ["quantized.onnx"]
    assert told["others"]["quantized.onnx"]["quantization"]["format"] == "dynamic"
    assert told["predictions"]["float"][0]["label"].startswith("kind ")
    stored = np.load(maps)
    sides = {"float_native", "quantized_native", "quantized.onnx_native"}
    assert all(stored[name].shape == (SIDE // 4, SIDE // 4) for name in sides)
    assert {"float", "quantized", "saliency", "quantized.onnx"} | sides == set(stored)
    status, text, _ = run(
        "compare", "coffee", *files[:6], "--input", "mean=0.5,std=0.5/0.5/0.5,resize=64", "--layer", "added"
    )
    assert status == 0
    for words in (
        "float.onnx, float against int8.onnx, W8A8 QOperator",
        "W8A8 dynamic",
        "shorter side 64",
        "left its output as",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quantized-model", "INT8"], "--quantized-model goes with --float-model"),
        (["--float-model", "FLOAT"], "No quantized file was named beside"),
        (
            ["PAIR", "--weight-bits", "4"],
            "--weight-bits and --float-model",
        ),
        (["PAIR", "--layer", "nowhere"], "no tensor 'nowhere'"),
        (["PAIR", "--input", "size=3"], "'size=3' is unclear"),
        (["PAIR", "--input", "crop=64"], "takes 48 pixels, not 64"),
        (["PAIR", "--input", "std=0"], "std=0 cannot be used"),
        (["PAIR", "--classes", "INT8"], "cannot be read"),
        (["--float-model", "FLOAT", "--quantized-model", "gone.onnx"], "does not exist"),
    ],
)
def test_bad_requests_get_one_sentence(run, reference, int8, options, words):
    pair = ["--float-model", reference, "--quantized-model", int8]
    names = {"FLOAT": [reference], "INT8": [int8], "PAIR": pair}
    status, _, error = run("compare", "coffee", *(part for option in options for part in names.get(option, [option])))
    assert (status, error.count("\n")) == (2, 1)
    assert words in error


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ("order=BGR", "trained on RGB, not BGR"),
        ("mean=0,std=1,range=0-255", "another normalization"),
        ("", ""),
    ],
)
def test_a_wrong_input_is_warned_of_and_not_blocked(words, warning):
    path = real_onnx("mobilenet_v2.float")
    request = FilesRequest(path, (real_onnx("mobilenet_v2.ort-qdq-pc-qint8"),), input=words)
    notes = compare_files(request, PICTURE)["mobilenet_v2.ort-qdq-pc-qint8"].notes
    assert warning in notes[0]
    assert notes[1 if warning else 0].startswith("Input: ")


def test_an_unknown_operator_is_named_and_other_methods_serve(folder):
    make = Builder()
    last = make.node("Relu", [make.conv("input", "conv_last", (3, 8), stride=4)], LAST)
    pooled = make.node("Flatten", [make.node("GlobalLpPool", [last], "pooled", p=2)], "flat")
    weight = make.weight("head.weight", make.random.normal(size=(8, CLASSES)).astype(np.float32))
    path = saved(folder, make.model(make.node("MatMul", [pooled, weight], "logits"), 17), "lp.onnx")
    request = FilesRequest(path, (path,))
    with pytest.raises(UsageError, match=r"Operator GlobalLpPool behind the target .* use eigencam"):
        compare_files(request, PICTURE)
    for method in ("eigencam", "scorecam", "ablationcam"):
        found = compare_files(request, PICTURE, PairRequest(method))["lp"]
        assert found.scores["quantized_v_float"].cc > 0.9999
        assert any("GlobalLpPool" in note for note in found.notes)


def test_an_operator_of_another_domain_is_refused(folder, reference):
    model = small()
    model.graph.node.append(helper.make_node("Magic", [LAST], ["more"], domain="my.company"))
    model.opset_import.append(onnx.helper.make_opsetid("my.company", 1))
    path = folder / "magic.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"'Magic' of domain 'my.company'"):
        compare_files(FilesRequest(reference, (path,)), PICTURE)


@pytest.mark.parametrize("rule", ["float", "own", 4])
def test_maps_made_at_once_are_those_made_one_after_the_other(folder, reference, int8, rule, monkeypatch):
    """Whether there is a core for each network or not; classes that a network lacks give way to its own."""
    request, tensor = PairRequest("gradcam", rule), torch.from_numpy(pictures(1))
    for path in (int8, fewer_classes(folder)):
        found = []
        for threads in (1, 2):
            monkeypatch.setattr(maps, "cores", lambda threads=threads: threads)
            files = FilesRequest(reference, (path,))
            ((name, pair),) = rooms.pairs_of(files).items()
            found.append(explain_pair(*rooms.networks_of(files, name, pair), tensor, request))
        for alone, together in zip(*found, strict=True):
            assert alone.class_index == together.class_index
            assert np.array_equal(alone.native.values, together.native.values)
            assert alone.predictions == together.predictions
    with pytest.raises(UsageError, match="Class 99 does not exist"):
        explain_pair(*rooms.networks_of(files, name, pair), tensor, PairRequest("gradcam", 99))


def test_a_pair_of_other_classes_is_shown_on_the_command_line(run, folder, reference):
    status, text, error = run(
        "compare", "coffee", "--float-model", reference, "--quantized-model", fewer_classes(folder)
    )
    assert (status, error) == (0, "")
    assert "Numbers of classes differ: 7" in text
    assert len([line for line in text.splitlines() if line.startswith("class ")]) == 5


def test_sides_that_the_float_file_leaves_open_are_those_of_the_quantized_file(folder, reference):
    open_file, wide = saved(folder, with_open_sides(small(), 2, 3), "open.onnx"), saved(folder, small(), "fixed.onnx")
    found = compare_files(FilesRequest(open_file, (wide,)), PICTURE)["fixed"]
    assert found.weights.preprocessing.size == (SIDE, SIDE)
    half = saved(folder, with_open_sides(small(), 2), "half-open.onnx")
    found = compare_files(FilesRequest(half, (half,)), PICTURE)["half-open"]
    assert found.weights.preprocessing.size == (SIDE, SIDE)  # a square of the side that it says
    other = saved(folder, small(side=96), "larger.onnx")
    with pytest.raises(UsageError, match=r"larger.onnx takes 96 pixels, not 48 as float.onnx; export both for one"):
        compare_files(FilesRequest(reference, (other,)), PICTURE)


def test_what_a_reader_would_stumble_over_is_noted(folder, reference):
    """Files of the wrong kind, and a layer before a ReLU that the quantizer left out."""
    int8 = quantized(reference, "qdq.onnx")
    found = compare_files(FilesRequest(int8, (reference,)), PICTURE)["float.onnx"]
    assert "qdq.onnx, given as the float file, is quantized itself: W8A8 QDQ." in found.notes
    assert "float.onnx, given as a quantized file, has nothing quantized in it." in found.notes
    found = compare_files(FilesRequest(reference, (int8,), "stem"), PICTURE)["qdq"]
    assert any("name stem_relu as target" in note for note in found.notes)
    found = compare_files(FilesRequest(reference, (int8,)), PICTURE)["qdq"]
    assert not any("as target." in note and "the same values" in note for note in found.notes)
