"""Batch norms and average poolings run as integer convolutions, and concatenations on one grid."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from quantviz.backends import ActivationGrid, IntegerLayer, Session, exported, on_integers, outputs_before
from quantviz.backends.depthwise import depthwise, whole_mean
from quantviz.backends.split import FrontModule
from quantviz.comparison.declared import integer_layers
from quantviz.quantize import assemble, calibrate, float_base
from quantviz.specs import QuantSpec

SMALL = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
LAYER = "features.denseblock2.denselayer2.conv1"  # behind a pooling, concatenations, and batch norms of its own
GRID = ActivationGrid(0.02, 130)


def real(layer, values):
    """Return what an integer convolution gives of (n, channels, 1, 1) before it is rounded to a grid, in float64."""
    codes = np.rint(values / layer.source.scale)
    total = codes * layer.integers[:, 0].astype(np.float64)
    step = layer.scale.astype(np.float64)[:, None, None] * layer.source.scale
    if layer.bias is not None:
        bias = np.rint(layer.bias.astype(np.float64)[:, None, None] / step)
        assert np.abs(total + bias).max() < 2**31
        total = total + bias
    return total * step


@pytest.fixture(scope="module")
def fronts(float_model):
    """Return the simulated front, the integer one's bytes, and the outputs."""
    base = float_base(float_model("densenet121"), QuantSpec(), SMALL, LAYER)
    simulated = assemble(base, QuantSpec(), calibrate(base, [torch.cat([SMALL, SMALL.flip(3)])]))
    outputs = outputs_before(base, LAYER, SMALL)
    data = exported(base, outputs, SMALL)
    return FrontModule(simulated, outputs), on_integers(data, integer_layers(simulated), [SMALL.numpy()])


@pytest.mark.slow
def test_densenet_runs_on_integer_kernels_alone(fronts, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(fronts[1], options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert not set(kinds) & {"BatchNormalization", "Conv", "FusedConv", "AveragePool", "QLinearAveragePool", "Concat"}
    assert kinds["QLinearConcat"] == 7  # before five layers of the first block, behind it, before one more
    # the first one, twelve of the first block, one behind it and three of the second; nine batch norms, one pooling
    assert kinds["QLinearConv"] == 1 + 12 + 1 + 3 + 9 + 1


@pytest.mark.slow
def test_what_a_concatenation_reads_and_gives_is_on_one_grid(fronts):
    graph = onnx.load_from_string(fronts[1]).graph
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    rounds = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    reads = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    readers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}

    def grid(node):
        return tuple(float(values[name]) for name in rounds[reads[node].input[0]].input[1:])

    joined = [node for node in graph.node if node.op_type == "Concat"]
    assert joined
    for node in joined:
        behind = tuple(float(values[name]) for name in readers[node.output[0]].input[1:])
        own = {grid(name) for name in node.input}
        assert len(own - {behind}) <= 1  # a maximum keeps the grid that it is taken on


@pytest.mark.slow
def test_the_deployed_densenet_is_as_near_its_simulation_as_rounding_is(fronts):
    front, data = fronts
    with torch.no_grad():
        expected = [values.numpy() for values in front(SMALL)]
    for found, wanted in zip(Session(data)(SMALL), expected, strict=True):
        error = found.numpy() - wanted
        assert np.sqrt((error**2).mean()) < 0.03 * wanted.std()


@pytest.mark.parametrize("gain", [1.0, 1e-3, 0.0, -2.0])
def test_a_batch_norm_is_exact_before_its_rounding(gain):
    generator = np.random.default_rng(1)
    constants = {
        "gain": np.array([gain, 0.7, -0.1], np.float32),
        "shift": np.array([3.0, -40.0, 0.0], np.float32),
        "mean": generator.normal(size=3).astype(np.float32),
        "variance": np.array([1.0, 1e-3, 4.0], np.float32),
    }
    node = helper.make_node("BatchNormalization", ["x", *constants], ["y"], epsilon=1e-3)
    layer = depthwise(node, GRID, constants.__getitem__, 3)
    values = GRID.scale * (np.arange(256)[:, None, None, None] - GRID.zero_point) * np.ones((1, 3, 1, 1))
    wide = {name: entry.astype(np.float64)[:, None, None] for name, entry in constants.items()}
    expected = (values - wide["mean"]) / np.sqrt(wide["variance"] + 1e-3) * wide["gain"] + wide["shift"]
    np.testing.assert_allclose(real(layer, values), expected, atol=2e-4 * np.abs(expected).max())
    assert np.abs(layer.integers).max() <= 127


def test_an_average_pooling_sums_and_divides():
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 3])
    layer = depthwise(node, GRID, {}.__getitem__, 5)
    assert layer.integers.shape == (5, 1, 2, 3)
    assert (layer.integers == 1).all()
    assert layer.bias is None
    np.testing.assert_allclose(layer.scale, 1 / 6, rtol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "ceil_mode": 1},
        {"kernel_shape": [3]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
    ],
)
def test_a_pooling_whose_windows_are_not_whole_stays_one(options):
    assert depthwise(helper.make_node("AveragePool", ["x"], ["y"], **options), GRID, {}.__getitem__, 5) is None


@pytest.mark.parametrize(
    ("axes", "keepdims", "rank", "expected"),
    [
        ([-1, -2], 1, 4, True),
        ([2, 3], 1, 4, True),
        ([2, 3], 0, 4, False),
        ([1, 2], 1, 4, False),
        ([-1, -2], 1, 3, False),
        ([-1, -2], 1, 0, False),
    ],
)
def test_a_mean_over_all_positions_is_a_pooling(axes, keepdims, rank, expected):
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
    assert whole_mean(node, {"axes": np.array(axes)}.__getitem__, rank) is expected


@pytest.mark.slow
def test_squeeze_and_excitation_stays_on_integers(float_model, tmp_path):
    layer = "features.3"
    base = float_base(float_model("efficientnet_b0"), QuantSpec(), SMALL, layer)
    simulated = assemble(base, QuantSpec(), calibrate(base, [SMALL]))
    outputs = outputs_before(base, layer, SMALL)
    data = on_integers(exported(base, outputs, SMALL), integer_layers(simulated), [SMALL.numpy()])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearGlobalAveragePool"] == 5  # one in each block up to the layer
    assert not set(kinds) & {"Conv", "FusedConv", "ReduceMean", "Sigmoid", "Mul", "Add"}


def test_other_nodes_stay_what_they_are():
    assert depthwise(helper.make_node("Relu", ["x"], ["y"]), GRID, {}.__getitem__, 5) is None


def test_a_layer_gets_room_for_its_bias_where_it_has_none():
    integers = np.array([[100, -3], [100, -3], [100, -3]], np.int8)[:, :, None, None]
    scale = np.array([1e-12, 1e-3, 1e-8], np.float32)
    layer = IntegerLayer(integers, scale, np.array([2.0, 2.0, 2.0], np.float32), ActivationGrid(0.02, 0))
    roomy, raised = layer.with_room()
    assert raised == 2
    steps = roomy.scale.astype(np.float64) * 0.02
    assert (np.abs(2.0 / steps) <= 2.0**30 * (1 + 1e-6)).all()
    real = roomy.integers[..., 0, 0] * roomy.scale.astype(np.float64)[:, None]
    assert np.abs(real - integers[..., 0, 0] * scale.astype(np.float64)[:, None]).max() <= roomy.scale[[0, 2]].max() / 2
    assert np.array_equal(roomy.integers[1], integers[1])
    assert layer.with_room()[0].with_room()[1] == 0
    unbiased = replace(layer, bias=None)
    assert unbiased.with_room() == (unbiased, 0)
