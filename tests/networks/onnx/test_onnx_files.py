"""Reading ONNX files: what they take, what is quantized, which tensors are the same, and bad files."""

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_support import CLASSES, LAST, SIDE, Builder, dynamic, quantized, real_onnx, saved, small
from onnxruntime.quantization import QuantFormat, QuantType

from quantviz.networks.onnx_files import describe, open_file, pair_of
from quantviz.specs import CheckpointError, UsageError

QDQ, QOPERATOR = QuantFormat.QDQ, QuantFormat.QOperator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def reference(folder):
    return saved(folder, small())


def weights_of(told):
    return [entry for entry in told["quantized"] if entry["role"] == "weight"]


@pytest.mark.parametrize(
    ("options", "form", "bits", "granularity"),
    [
        ({"quant_format": QDQ, "per_channel": True}, "QDQ", "W8A8", "per-channel"),
        ({"quant_format": QOPERATOR, "per_channel": False}, "QOperator", "W8A8", "per-tensor"),
        ({"quant_format": QOPERATOR, "per_channel": True}, "QOperator", "W8A8", "per-channel"),
        ({"activation_type": QuantType.QInt16}, "QDQ", "W8A16", "per-channel"),
        ({"weight_type": QuantType.QInt4}, "QDQ", "W4A8", "per-channel"),
    ],
)
def test_quantization_is_read(reference, options, form, bits, granularity):
    name = "-".join([form, bits, granularity]) + ".onnx"
    told = describe(open_file(quantized(reference, name, **options)))
    assert (told["format"], told["bits"]) == (form, bits)
    assert len(weights_of(told)) == 5
    assert {entry["grid"]["granularity"] for entry in weights_of(told)} == {granularity}
    stored = open_file(reference).graph.constants["stem.weight"]
    entry = next(entry for entry in weights_of(told) if "stem" in entry["tensor"])
    integers = open_file(reference.with_name(name)).graph.constants[entry["tensor"]].astype(np.float64)
    scale = np.array(entry["grid"]["scale"]).reshape(-1, 1, 1, 1)
    assert np.abs(integers * scale - stored).max() <= scale.max() * 0.51
    assert told["float"] == []
    json.dumps(told, allow_nan=False)


def test_dynamic_float16_and_weight_only_are_told_apart(reference):
    told = describe(open_file(dynamic(reference, "dynamic.onnx", weight_type=QuantType.QUInt8)))
    assert (told["format"], told["bits"]) == ("dynamic", "W8A8")
    assert all(entry["grid"] for entry in weights_of(told))
    assert any(entry["dynamic"] for entry in told["quantized"])

    half = small()
    for tensor in half.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for entry in (*half.graph.input, *half.graph.output):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT16
    told = describe(open_file(saved(reference.parent, half, "half.onnx")))
    assert (told["format"], told["bits"], told["input"]["dtype"]) == ("float16", "FP16", "float16")

    only = small()
    values = numpy_helper.to_array(next(entry for entry in only.graph.initializer if entry.name == "head.weight"))
    only.graph.initializer.extend(
        [
            numpy_helper.from_array(np.round(values / 0.02).clip(-127, 127).astype(np.int8), "packed"),
            numpy_helper.from_array(np.float32(0.02), "step"),
        ]
    )
    only.graph.node.insert(0, helper.make_node("DequantizeLinear", ["packed", "step"], ["unpacked"]))
    only.graph.node[-1].input[1] = "unpacked"
    told = describe(open_file(saved(reference.parent, only, "only.onnx")))
    assert (told["format"], told["bits"]) == ("weight-only", "W8A32")
    assert {"operator": "Gemm", "tensor": "logits"} in told["float"]


def test_a_float_initializer_behind_quantize_linear_is_a_weight(reference):
    options = {"extra_options": {"AddQDQPairToWeight": True}}
    told = describe(open_file(quantized(reference, "pairs.onnx", **options)))
    assert {entry["stored"] for entry in weights_of(told)} == {"float"}
    assert {entry["grid"]["granularity"] for entry in weights_of(told)} == {"per-channel"}


@pytest.mark.parametrize("opset", [11, 13, 17, 21, 24])
def test_every_opset_and_layout_is_read(folder, opset):
    opened = open_file(saved(folder, small(opset, batch=1, layout="NHWC"), f"{opset}.onnx"))
    assert (opened.form.layout, opened.form.batch, opened.size) == ("NHWC", 1, (SIDE, SIDE))
    assert opened.target().tensor == LAST
    assert opened.target().shape == (16, SIDE // 4, SIDE // 4)
    assert opened.logits.classes == CLASSES
    assert [target.tensor for target in opened.targets][:2] == ["stem", "stem_relu"]


def test_a_softmax_at_the_end_is_seen(folder):
    opened = open_file(saved(folder, small(softmax=True), "softmax.onnx"))
    assert opened.logits.softmax
    assert opened.logits.tensor == "logits"


@pytest.mark.parametrize(("form", "name"), [(QDQ, LAST), (QOPERATOR, "conv_last_quantized")])
def test_the_same_tensor_is_found_whatever_the_quantizer_calls_it(reference, form, name):
    pair = pair_of(open_file(reference), open_file(quantized(reference, f"named-{form}.onnx", quant_format=form)))
    target, match = pair.target()
    assert (target.tensor, match.quantized_tensor) == (LAST, name)
    assert pair.findings == ()
    # Every tensor that the quantizer left is found: only what it fused away is not.
    lost = {"stem", "deep", "conv_last"}
    assert {match.float_tensor for match in pair.matches} >= set(pair.reference.shapes) - lost - {"input", "flat"}
    assert pair.target(name)[0].tensor == LAST  # by the quantized file's name, too


def test_tensors_are_found_by_topology_where_names_say_nothing(reference):
    path = quantized(reference, "nameless.onnx")
    model = onnx.load(path)
    names = {name: f"val_{at}" for at, name in enumerate(sorted({n for node in model.graph.node for n in node.output}))}
    names.pop("logits")
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    by_name = pair_of(open_file(reference), open_file(path))
    by_place = pair_of(open_file(reference), open_file(saved(reference.parent, model, "numbered.onnx")))
    expected = {match.float_tensor: match.quantized_tensor for match in by_name.matches}
    found = {match.float_tensor: match.quantized_tensor for match in by_place.matches}
    assert {match.how for match in by_place.matches} <= {"by its place in the graph", "by name"}
    assert found[LAST] == names[expected[LAST]]
    assert sum(found.get(name) == names.get(other, other) for name, other in expected.items()) >= len(expected) - 1


def test_the_real_files_match(reference):
    whole = open_file(real_onnx("squeezenet1_1.float"))
    pair = pair_of(whole, open_file(real_onnx("squeezenet1_1.ort-qoperator-pt-quint8")))
    target, match = pair.target()
    assert (target.tensor, match.quantized_tensor) == (
        "/classifier/classifier.2/Relu_output_0",
        "/classifier/classifier.1/Conv_output_0_quantized",
    )
    concat = "/features/features.12/Concat_output_0"
    assert pair.target(concat)[1].quantized_tensor == f"{concat}_quantized"
    assert pair.findings == ()


def test_what_differs_in_a_pair_is_named(folder, reference):
    make = Builder(1)
    stem = make.node("Relu", [make.conv("input", "stem", (3, 8), kernel=1, stride=2)], "stem_relu")
    last = make.node("Relu", [make.conv(stem, "conv_last", (8, 16), stride=4)], LAST)
    pooled = make.node("Flatten", [make.node("GlobalAveragePool", [last], "pooled")], "flat")
    weight = make.weight("head.weight", make.random.normal(size=(16, CLASSES)).astype(np.float32))
    model = make.model(make.node("MatMul", [pooled, weight], "logits"), 17)
    pair = pair_of(open_file(reference), open_file(saved(folder, model, "other.onnx")))
    assert [entry.match.float_tensor for entry in pair.differences] == ["conv_last", LAST]
    assert "first at conv_last: 1 x 16 x 12 x 12 in float.onnx, 1 x 16 x 6 x 6 in other.onnx" in pair.findings[0]


def external(folder, location, data=b"", **entries):
    model = small()
    tensor = next(entry for entry in model.graph.initializer if entry.name == "head.weight")
    values = numpy_helper.to_array(tensor)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "external.onnx"
    path.write_bytes(model.SerializeToString())
    return path, values


def test_external_data_is_read_beside_the_file_only(tmp_path):
    path, values = external(tmp_path, "weights/head.bin", offset=4096)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "head.bin").write_bytes(bytes(4096) + values.tobytes())
    assert np.array_equal(open_file(path).graph.constants["head.weight"], values)
    with pytest.raises(CheckpointError, match="another file"):
        open_file(path, external=False)

    (tmp_path / "secret").write_bytes(values.tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    for place in ("../secret", str(tmp_path / "secret")):
        with pytest.raises(CheckpointError, match="not in its folder"):
            open_file(external(inner, place)[0])
    os.symlink(tmp_path / "secret", inner / "link")
    with pytest.raises(CheckpointError, match="not in its folder"):
        open_file(external(inner, "link")[0])
    with pytest.raises(CheckpointError, match="missing"):
        open_file(external(inner, "nowhere")[0])
    (inner / "short").write_bytes(b"1234")
    with pytest.raises(CheckpointError, match="does not exist"):
        open_file(external(inner, "short", length=1 << 40)[0])


def test_a_bad_file_gets_one_sentence(tmp_path, reference):
    def refused(model=None, data=None):
        path = tmp_path / "bad.onnx"
        path.write_bytes(model.SerializeToString() if model is not None else data)
        with pytest.raises(CheckpointError) as error:
            open_file(path)
        assert str(error.value).count("\n") == 0
        return str(error.value)

    assert "empty" in refused(data=b"")
    assert "no ONNX" in refused(data=b"\x89PNG not a network")
    assert "no ONNX" in refused(data=reference.read_bytes()[:5000])
    assert "opset 9" in refused(small_of(lambda model: setattr(model.opset_import[0], "version", 9)))
    strange = small_of(lambda model: setattr(model.graph.node[0], "domain", "my.company"))
    strange.opset_import.add(domain="my.company", version=1)
    assert "'Conv' of domain 'my.company'" in refused(strange)
    two = small_of(lambda model: model.graph.input.add().CopyFrom(model.graph.input[0]))
    two.graph.input[1].name = "second"
    assert "2 inputs" in refused(two)
    grey = small_of(lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 1))
    assert "RGB" in refused(grey)
    integers = small_of(lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.UINT8))
    assert "uint8" in refused(integers)
    maps = small_of(lambda model: model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=LAST)))
    assert "classifier" in refused(maps)
    broken = small_of(lambda model: model.graph.node[0].input.__setitem__(1, "nowhere"))
    assert "cannot be run" in refused(broken)
    with pytest.raises(CheckpointError, match="does not exist"):
        open_file(tmp_path / "nothing.onnx")
    with pytest.raises(CheckpointError, match="regular file"):
        open_file(tmp_path)
    with pytest.raises(UsageError, match="no tensor 'nowhere'"):
        open_file(reference).target("nowhere")
    with pytest.raises(UsageError, match="no grid of places"):
        open_file(reference).target("flat")


def small_of(change):
    model = small()
    change(model)
    return model


def test_a_padding_that_only_one_file_keeps_apart_is_no_finding(folder, reference):
    model = small()
    nodes = list(model.graph.node)
    at, conv = next((at, node) for at, node in enumerate(nodes) if node.output[0] == "conv_last")
    next(entry for entry in conv.attribute if entry.name == "pads").ints[:] = [0] * 4
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "pads"))
    model.graph.node.insert(at, helper.make_node("Pad", [conv.input[0], "pads"], ["padded"]))
    conv.input[0] = "padded"
    apart = saved(folder, model, "padded.onnx")
    int8 = quantized(reference, "not-padded.onnx")
    pair = pair_of(open_file(apart), open_file(int8))
    assert pair.findings == ()
    assert "padded" not in {match.float_tensor for match in pair.matches}
    assert {match.quantized_tensor for match in pair.matches} >= {"added", LAST}
    assert pair_of(open_file(reference), open_file(apart)).findings == ()
