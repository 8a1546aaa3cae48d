"""Networks parted at their CAM target, exported to ONNX, and put on integers."""

import platform
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks_support import some_networks
from onnx import numpy_helper

from quantviz import cam, networks
from quantviz.backends import (
    ActivationGrid,
    IntegerLayer,
    NotSplittableError,
    Session,
    Split,
    exported,
    on_integers,
    outputs_before,
)
from quantviz.backends.export import sums_overflow
from quantviz.backends.split import FrontModule
from quantviz.comparison.declared import integer_layers, target_grid
from quantviz.comparison.machine import integer_kernels
from quantviz.quantize import assemble, calibrate, float_base
from quantviz.specs import CAM_METHODS, CamSpec, QuantSpec

SMALL = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
MODEL, LAYER = "squeezenet1_1", "features.12"


def parted(network, layer, image=SMALL):
    outputs = outputs_before(network, layer, image)
    return Split(network, layer, outputs, FrontModule(network, outputs)), outputs


def grid_of(network, layer):
    grid = network.get_submodule(layer).input_quantizer.grid
    return ActivationGrid(grid.scale, grid.zero_point)


def map_of(network, layer, method="gradcam++", image=SMALL):
    return cam.explain(network, image, CamSpec(method, layer), 3)


@pytest.fixture(scope="module")
def base(float_model):
    return float_base(float_model(MODEL), QuantSpec(), SMALL, LAYER)


@pytest.fixture(scope="module")
def simulated(base):
    inputs = torch.cat([SMALL, SMALL.flip(3), 0.5 * SMALL])
    return assemble(base, QuantSpec(), calibrate(base, [inputs]))


@pytest.fixture(scope="module")
def model(base):
    """Return the exported network, its outputs' places, and its bytes."""
    outputs = outputs_before(base, LAYER, SMALL)
    return outputs, exported(base, outputs, SMALL)


@pytest.fixture(scope="module")
def integers(model, simulated):
    batches = [torch.cat([SMALL, SMALL.flip(3)]).numpy(), 0.5 * SMALL.numpy()]
    return on_integers(model[1], integer_layers(simulated), batches, target_grid(simulated, LAYER, SMALL))


@pytest.mark.parametrize("name", some_networks("squeezenet1_1", "densenet121", "mobilenet_v2"))
def test_every_model_is_parted_at_its_own_target_bit_for_bit(float_model, name):
    network, layer = float_model(name), networks.spec(name).layer
    split, outputs = parted(network, layer)
    beside = {"resnet50": [("layer4.1", 0)]}.get(name, [])
    assert list(outputs) == [(layer, 0), *beside]
    with torch.no_grad():
        assert torch.equal(split(SMALL), network(SMALL))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("densenet121", "features.denseblock4.denselayer16.conv2"),
        ("resnet50", "layer4.0.conv3"),
        ("efficientnet_b0", "features.7.0.block.1"),
        ("squeezenet1_1", "features.12.expand1x1"),
        ("mobilenet_v2", "features"),
    ],
)
def test_a_layer_with_connections_around_it_is_parted_with_the_same_map(float_model, name, layer):
    network = float_model(name)
    split, _ = parted(network, layer)
    whole, found = map_of(network, layer), map_of(split, split.layer)
    assert np.array_equal(found.probabilities, whole.probabilities)
    assert np.array_equal(found.heatmap.values, whole.heatmap.values)


def test_a_module_that_runs_more_than_once_is_refused_in_one_sentence(float_model):
    with pytest.raises(NotSplittableError, match=r"cannot be parted at layer 'layer4.2.relu': .* more than once\.$"):
        outputs_before(float_model("resnet50"), "layer4.2.relu", SMALL)


def test_what_comes_before_the_target_does_not_run_in_the_rest(base):
    ran = []
    outputs = outputs_before(base, LAYER, SMALL)
    with torch.no_grad():
        values = FrontModule(base, outputs)(SMALL)
    split = Split(base, LAYER, outputs, lambda _image: values)
    handles = [module.register_forward_hook(lambda *_: ran.append(1)) for module in base.features[:12].modules()]
    with torch.no_grad():
        split(SMALL)
    for handle in handles:
        handle.remove()
    assert ran == []


@pytest.mark.parametrize("method", [method for method in CAM_METHODS if method != "scorecam"])
def test_every_method_gives_the_map_of_the_whole_quantized_network(simulated, method):
    split, _ = parted(simulated, LAYER)
    whole, found = map_of(simulated, LAYER, method), map_of(split, split.layer, method)
    assert not whole.heatmap.degenerate
    np.testing.assert_allclose(found.heatmap.values, whole.heatmap.values, atol=1e-5)


def test_scorecam_runs_its_masked_pictures_through_both_parts(base):
    layer = "features.3.squeeze"  # of 16 channels
    split, _ = parted(base, layer)
    whole, found = map_of(base, layer, "scorecam"), map_of(split, split.layer, "scorecam")
    np.testing.assert_allclose(found.heatmap.values, whole.heatmap.values, atol=1e-5)


def test_one_picture_many_times_is_computed_once_before_the_target(base):
    outputs, sizes = outputs_before(base, LAYER, SMALL), []
    whole = FrontModule(base, outputs)
    split = Split(base, LAYER, outputs, lambda image: (sizes.append(len(image)), whole(image))[1])
    with torch.no_grad():
        many = split(SMALL.repeat(4, 1, 1, 1))
        other = split(torch.cat([SMALL, SMALL.flip(3)]))
        expected = base(torch.cat([SMALL, SMALL.flip(3)]))
    assert sizes == [1, 2]
    assert many.shape == (4, 1000)
    torch.testing.assert_close(other, expected)


def test_the_exported_network_gives_the_activation_for_any_batch(base, model):
    outputs, data = model
    batch = torch.cat([SMALL, SMALL.flip(3), -SMALL])
    (found,) = Session(data)(batch)
    with torch.no_grad():
        (expected,) = FrontModule(base, outputs)(batch)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    split = Split(base, LAYER, outputs, Session(data))
    whole, parts = map_of(base, LAYER), map_of(split, split.layer)
    assert np.abs(whole.heatmap.values - parts.heatmap.values).max() < 1e-3


def test_the_exported_network_ends_at_the_target_and_names_no_file(model):
    data = model[1]
    graph = onnx.load_from_string(data).graph
    assert not any("classifier" in entry.name for entry in graph.initializer)
    assert b".py" not in data


def test_what_onnx_runtime_cannot_read_is_refused():
    with pytest.raises(NotSplittableError, match="ONNX Runtime cannot read"):
        Session(b"no network")


def test_the_weights_on_file_are_the_simulated_integers_bit_for_bit(integers, simulated):
    constants = {
        entry.name: numpy_helper.to_array(entry) for entry in onnx.load_from_string(integers).graph.initializer
    }
    layers = [name for name, module in simulated.features.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(layers) == 25
    for name in layers:
        module = simulated.get_submodule(f"features.{name}")
        grid = module.weight_grid
        found = constants[f"features.{name}.weight.integers"]
        assert found.dtype == np.int8
        assert np.array_equal(found, grid.integers(module.weight).numpy())
        scale = constants[f"features.{name}.weight.scale"]
        assert np.array_equal(scale, grid.scale.numpy())
        real = found * scale[:, None, None, None]
        assert np.array_equal(real, module.weight.numpy())


def test_every_convolution_runs_on_integer_kernels(integers, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(integers, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == 25
    assert kinds["QLinearConcat"] == 8
    assert kinds["Conv"] == kinds["FusedConv"] == 0


def test_the_deployed_activation_is_on_the_grid_of_the_layer_that_reads_it(integers, model, simulated):
    outputs, _ = model
    (found,) = Session(integers)(SMALL)
    quantizer = simulated.get_submodule("classifier.1").input_quantizer
    assert torch.equal(quantizer(found), found)
    with torch.no_grad():
        (expected,) = FrontModule(simulated, outputs)(SMALL)
    off = (found - quantizer(expected)).abs() / quantizer.grid.scale
    assert target_grid(simulated, "features.11", SMALL) == grid_of(simulated, "features.12.squeeze")
    assert target_grid(simulated, "features.1", SMALL) is None  # a pooling reads it
    assert off.max() < 8
    assert (off < 0.5).float().mean() > 0.8


def tiny_model(limit, channels=1):
    """Return a model of one 1 x 1 convolution to one channel and a clip at ``limit``."""
    make = onnx.helper
    nodes = [
        make.make_node("Conv", ["image", "network.one.weight"], ["sum"]),
        make.make_node("Clip", ["sum", "low", "high"], ["activation"]),
    ]
    constants = {
        "network.one.weight": np.ones((1, channels, 1, 1), np.float32),
        "low": np.float32(0),
        "high": np.float32(limit),
    }
    graph = make.make_graph(
        nodes,
        "tiny",
        [make.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", channels, "h", "w"])],
        [make.make_tensor_value_info("activation", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10).SerializeToString()


def tiny_layer(scale=0.01, bias=None):
    weight, scales = np.full((1, 1, 1, 1), 100, np.int8), np.array([0.01], np.float32)
    return IntegerLayer(weight, scales, bias, ActivationGrid(scale, 0))


def test_a_clip_does_what_it_does_in_float():
    values = np.linspace(-1, 2.5, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    # Calibrated up to 2.5, clipped at 2: the range of the output ends where the clip does.
    data = on_integers(tiny_model(2.0), {"one": tiny_layer()}, [values])
    (found,) = Session(data).arrays(values)
    np.testing.assert_allclose(found, np.clip(values, 0, 2), atol=0.011)


def test_the_greatest_products_do_not_overflow():
    # 255 * 127 fits into 16 bits, the sum of two such products does not: x86 kernels without VNNI would cut it off.
    levels = np.array([0, 100, 200, 255], np.float32).reshape(1, 1, 2, 2)
    values = np.repeat(levels * np.float32(0.01), 16, axis=1)
    weight, scales = np.full((1, 16, 1, 1), 127, np.int8), np.array([1 / 127], np.float32)
    layer = IntegerLayer(weight, scales, None, ActivationGrid(0.01, 0))
    (found,) = Session(on_integers(tiny_model(100.0, 16), {"one": layer}, [values])).arrays(values)
    np.testing.assert_allclose(found, 0.16 * levels, atol=0.51 * 0.16)


def test_slower_kernels_are_asked_for_where_the_usual_ones_overflow(monkeypatch):
    assert sums_overflow() == (platform.machine() == "x86_64" and "vnni" not in integer_kernels())
    values = np.linspace(0, 2, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    data, asked = on_integers(tiny_model(3.0), {"one": tiny_layer()}, [values]), []
    for overflow in (False, True):
        monkeypatch.setattr("quantviz.backends.export.sums_overflow", lambda overflow=overflow: overflow)
        options = Session(data)._session.get_session_options()
        asked.append(options.get_session_config_entry("session.x64quantprecision"))
    assert asked == ["0", "1"]


def test_a_bias_is_on_the_grid_of_the_products():
    values = np.linspace(0, 2, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    bias = np.array([0.5], np.float32)
    data = on_integers(tiny_model(3.0), {"one": tiny_layer(bias=bias)}, [values])
    constants = {entry.name: numpy_helper.to_array(entry) for entry in onnx.load_from_string(data).graph.initializer}
    assert constants["one.bias.integers"].tolist() == [5000]
    assert constants["one.bias.integers"].dtype == np.int32
    (found,) = Session(data).arrays(values)
    np.testing.assert_allclose(found, np.clip(values + 0.5, 0, 2.5), atol=0.51)  # the range was measured without it


def test_a_convolution_that_the_simulation_left_in_float_is_refused():
    with pytest.raises(NotSplittableError, match="has no integer form"):
        on_integers(tiny_model(2.0), {}, [])


def test_a_range_that_is_not_finite_is_refused():
    with pytest.raises(NotSplittableError, match="not finite"):
        on_integers(tiny_model(float("inf")), {"one": tiny_layer()}, [np.full((1, 1, 2, 2), np.inf, np.float32)])
