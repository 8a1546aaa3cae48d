"""ONNX files as networks: ONNX Runtime's own activation and logits, torch's gradients, and maps."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_support import LAST, dynamic, pictures, quantized, saved, small
from onnxruntime.quantization import QuantFormat, QuantType
from torch.nn import functional

from quantviz import cam
from quantviz.networks.onnx_files import open_file, operators, pair_of
from quantviz.networks.onnx_files.network import LAYER, OnnxNetwork
from quantviz.networks.onnx_files.running import with_taps
from quantviz.specs import CAM_METHODS, CamSpec, QuantvizError

QOPERATOR = QuantFormat.QOperator
EXAMPLES = pictures(3, seed=2)
FILES = {
    "qdq": {},
    "qdq-tensor-uint8": {"per_channel": False, "weight_type": QuantType.QUInt8, "activation_type": QuantType.QUInt8},
    "qdq-symmetric": {"extra_options": {"ActivationSymmetric": True}, "activation_type": QuantType.QInt8},
    "qdq-float-weights": {"extra_options": {"AddQDQPairToWeight": True}},
    "qdq-int16": {"activation_type": QuantType.QInt16},
    "qdq-int4": {"weight_type": QuantType.QInt4},
    "qoperator": {"quant_format": QOPERATOR, "per_channel": False},
    "qoperator-channel": {"quant_format": QOPERATOR},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def reference(folder):
    return saved(folder, small())


def half(folder):
    model = small()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT16
    return saved(folder, model, "half.onnx")


def made(name, folder, reference):
    if name in FILES:
        return quantized(reference, f"{name}.onnx", **FILES[name])
    if name == "dynamic":
        return dynamic(reference, "dynamic.onnx", weight_type=QuantType.QUInt8)
    if name == "half":
        return half(folder)
    if name == "nhwc":
        path = saved(folder, small(13, batch=1, layout="NHWC"), "nhwc.onnx")
        return quantized(path, "nhwc-int8.onnx", "NHWC")
    opset = {"float": 17, "opset-11": 11, "opset-24": 24}.get(name, 17)
    path = saved(folder, small(opset, softmax="softmax" in name), f"{name}-float.onnx")
    if name in ("softmax-int8", "opset-11", "opset-24"):
        return quantized(path, f"{name}.onnx", per_channel=opset > 11)
    if name == "softmax-qoperator":
        return quantized(path, f"{name}.onnx", quant_format=QOPERATOR, per_channel=False)
    return path


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def run(path, values, *names):
    """Return tensors of a file, each by a session of its own; the outputs without names."""
    if not names:
        return session(str(path)).run(None, {"input": values})
    found = []
    for name in names:
        model = onnx.load(path)
        model.graph.output.append(onnx.ValueInfoProto(name=name))
        found.append(session(model.SerializeToString()).run([name], {"input": values})[0])
    return found


def explained(network, image, method="gradcam", target=None):
    return cam.explain(network, torch.from_numpy(image[None]), CamSpec(method, LAYER), target)


def closed_form(path, activation, target):
    """Return the map of a network whose target is pooled and goes through one linear layer: weights w_c / hw."""
    graph = open_file(path).graph
    head = next(node for node in reversed(graph.nodes) if node.op in ("Gemm", "MatMul", "MatMulInteger"))
    weight = graph.constants.get(head.inputs[1])
    if weight is None:
        node = graph.producers[head.inputs[1]]
        scale, zero = (graph.constants[name].astype(np.float64) for name in node.inputs[1:3])
        axis = node.attributes.get("axis", 1)
        scale, zero = (value if value.ndim == 0 else np.expand_dims(value, 1 - axis) for value in (scale, zero))
        source = graph.constants.get(node.inputs[0])
        if source is None:  # rounded when the network runs
            real = graph.constants[graph.producers[node.inputs[0]].inputs[0]]
            source = np.rint(real / scale) + zero
        weight = (source.astype(np.float64) - zero) * scale
    weight = weight.astype(np.float64)
    weight = weight if head.attributes.get("transB") or len(weight) == 7 else weight.T
    raw = np.maximum(np.einsum("c,chw->hw", weight[target] / activation[0].size, activation.astype(np.float64)), 0)
    return (raw - raw.min()) / (raw.max() - raw.min())


@pytest.mark.parametrize(
    "name", ["float", "half", *FILES, "opset-11", "opset-24", "nhwc", "softmax", "softmax-int8", "softmax-qoperator"]
)
def test_the_file_runs_and_its_map_is_the_closed_form(name, folder, reference):
    path = made(name, folder, reference)
    opened = open_file(path)
    network = OnnxNetwork(opened, opened.target().tensor, EXAMPLES, set(), 1)
    assert network.refusal == ""
    assert network.held.logits == 0
    assert network.held.tail <= (0.01 if name == "half" else 1e-4 if "float" in name else 0.04) * network.held.span
    for image in pictures(3, seed=7):
        values = opened.form.given(image[None])
        (own,) = run(path, values)
        found = explained(network, image)
        scores = found.probabilities if opened.logits.softmax else found.logits
        # A quantized softmax is rounded to 256 levels.
        assert np.abs(scores - own[0].astype(np.float32)).max() <= (0.01 if name.startswith("softmax-") else 1e-5)
        names = (f"{LAST}_QuantizeLinear_Output", "conv_last_quantized", LAST)
        raw = run(path, values, next(tensor for tensor in names if tensor in opened.shapes))[0]
        if raw.dtype not in (np.float32, np.float16):
            grid = network._cut.target.grid
            assert raw.dtype.name == grid.dtype
            raw = (raw.astype(np.float32) - np.float32(grid.zero_point)) * grid.scale
        activation = network.before(torch.from_numpy(image[None]))[0][0].numpy()
        assert np.array_equal(activation, raw.astype(np.float32))
        assert np.abs(found.native.values - closed_form(path, activation[0], found.class_index)).max() <= 1e-4


def by_hand(path, layer, image):
    """Return the float network's logits from a tensor on, and that tensor, in plain torch."""
    stored = {entry.name: torch.tensor(numpy_helper.to_array(entry)) for entry in onnx.load(path).graph.initializer}

    def conv(values, name, **options):
        return functional.conv2d(values, stored[f"{name}.weight"], stored[f"{name}.bias"], **options)

    def layers(values, begin):
        if begin == "stem_relu":
            deep = conv(values, "deep", padding=1, groups=8).clamp(0, 6)
            values = values + conv(deep, "point")
        last = conv(values, "conv_last", padding=1, stride=2).relu()
        return functional.linear(last.mean((2, 3)), stored["head.weight"], stored["head.bias"])

    stem = conv(torch.from_numpy(image[None]), "stem", padding=1, stride=2).relu()
    deep = conv(stem, "deep", padding=1, groups=8).clamp(0, 6)
    value = {"stem_relu": stem, "added": stem + conv(deep, "point")}[layer]
    return lambda leaf: layers(leaf, layer), value


@pytest.mark.parametrize("layer", ["stem_relu", "added"])
def test_gradients_through_several_layers_are_torch_s(reference, layer):
    opened = open_file(reference)
    network = OnnxNetwork(opened, layer, EXAMPLES, set(), 1)
    for image in pictures(2, seed=8):
        behind, value = by_hand(reference, layer, image)
        values, logits = network.before(torch.from_numpy(image[None]))
        assert torch.allclose(values[0], value, atol=1e-5)
        leaf = value.clone().requires_grad_()
        (expected,) = torch.autograd.grad(behind(leaf)[0, 3], leaf)
        assert torch.allclose(network.gradient(values, [3]), expected, atol=1e-6)
        assert torch.allclose(logits, behind(value), atol=1e-4)


def test_rounded_layers_pass_gradients_as_fused_activations_do(reference):
    path = quantized(reference, "grads.onnx")
    pair = pair_of(open_file(reference), open_file(path))
    assert pair.matching.fused() == {"deep_clip"}
    network = OnnxNetwork(pair.quantized, "stem_relu", EXAMPLES, pair.matching.fused(), 1)
    cosines = []
    for image in pictures(4, seed=9):
        behind, _ = by_hand(reference, "stem_relu", image)
        values, logits = network.before(torch.from_numpy(image[None]))
        leaf = values[0].clone().requires_grad_()
        scores = behind(leaf)
        (expected,) = torch.autograd.grad(scores[0, 3], leaf)
        found = network.gradient(values, [3])
        cosines.append(float(functional.cosine_similarity(found.flatten(), expected.flatten(), 0)))
        assert (scores - logits).abs().max() <= 0.05 * network.held.span
    assert min(cosines) > 0.95


def test_a_class_whose_score_is_saturated_still_has_a_map(reference):
    path = quantized(reference, "saturated.onnx")
    opened = open_file(path)
    network = OnnxNetwork(opened, LAST, EXAMPLES, set(), 1)
    loud = 6 * pictures(1, seed=10)[0]
    grid = next(entry.grid for entry in opened.quantization.tensors if entry.tensor.startswith("logits"))
    found = explained(network, loud)
    assert np.isclose(found.logits.max(), (grid.quant_max - grid.zero_point) * grid.scale)
    assert found.native.degenerate == ""


@pytest.mark.parametrize("name", ["qdq", "dynamic", "nhwc"])
@pytest.mark.parametrize("layer", [LAST, "point"])
def test_several_pictures_and_every_method(name, layer, folder, reference):
    path = made(name, folder, reference)
    network = OnnxNetwork(open_file(path), layer, EXAMPLES, set(), 1)
    images = torch.from_numpy(pictures(3, seed=11))
    single = [cam.explain(network, image[None], CamSpec("gradcam++", LAYER), 2) for image in images]
    together = cam.explain_batch(network, images, CamSpec("gradcam++", LAYER), [2, 2, 2])
    for one, other in zip(single, together, strict=True):
        assert np.abs(one.native.values - other.native.values).max() <= 1e-4
    for method in CAM_METHODS:
        assert cam.explain(network, images[:1], CamSpec(method, LAYER), 2).heatmap.values.shape == (48, 48)


@pytest.mark.parametrize("name", ["float", "qdq", "qoperator", "dynamic", "softmax-int8"])
def test_without_a_tail_in_torch_other_methods_serve(name, folder, reference, monkeypatch):
    path = made(name, folder, reference)
    opened = open_file(path)
    layer = opened.target().tensor
    whole = OnnxNetwork(opened, layer, EXAMPLES, set(), 1)
    known = {key: value for key, value in operators.OPERATORS.items() if key not in ("Gemm", "MatMulInteger")}
    monkeypatch.setattr("quantviz.networks.onnx_files.tail.OPERATORS", known)
    network = OnnxNetwork(opened, layer, EXAMPLES, set(), 1)
    operator = {"dynamic": "MatMulInteger", "qoperator": "QGemm"}.get(name, "Gemm")
    with pytest.raises(QuantvizError, match=f"Operator {operator} behind the target .* use eigencam, scorecam or"):
        explained(network, EXAMPLES[0])
    for method in ("eigencam", "scorecam", "ablationcam"):
        first, second = (explained(one, EXAMPLES[0], method, 2) for one in (network, whole))
        # A logit between two levels may be rounded to the other one.
        assert np.corrcoef(first.native.values.ravel(), second.native.values.ravel())[0, 1] > 0.98


def test_shape_arithmetic_behind_the_target_is_followed(folder):
    model = small()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "Flatten":
            model.graph.node.extend(
                [
                    helper.make_node("Shape", ["input"], ["shape"]),
                    helper.make_node("Gather", ["shape", "zero"], ["count"], axis=0),
                    helper.make_node("Concat", ["count", "rest"], ["wanted"], axis=0),
                    helper.make_node("Reshape", [node.input[0], "wanted"], list(node.output)),
                ]
            )
        else:
            model.graph.node.append(node)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in {"zero": [0], "rest": [-1]}.items()
    )
    path = saved(folder, model, "shapes.onnx")
    network = OnnxNetwork(open_file(path), LAST, EXAMPLES, set(), 1)
    assert network.held.tail < 1e-5
    found = explained(network, EXAMPLES[0], "ablationcam", 1)
    assert found.native.degenerate == ""


def test_the_last_convolution_runs_on_integers_while_it_is_read(folder, reference):
    path = quantized(reference, "kernels.onnx")
    network = OnnxNetwork(open_file(path), LAST, EXAMPLES, set(), 1)
    assert network._cut.target.spliced
    counts = []
    for model in (onnx.load(path), with_taps(onnx.load(path), [network._cut.target])):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(folder / "as-it-runs.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
        counts.append(sum(node.op_type == "QLinearConv" for node in nodes))
    assert counts[0] == counts[1] > 0
