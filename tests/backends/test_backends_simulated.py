"""Simulated networks on ONNX Runtime: the same weights and grids as in torch, in float32."""

import numpy as np
import onnx
import pytest
import torch

from quantviz.backends import (
    InputGrid,
    NotSplittableError,
    Session,
    SimulatedLayer,
    exported,
    head_of,
    outputs_before,
    rounded_inputs,
    simulated_model,
)
from quantviz.comparison.declared import simulated_layers
from quantviz.quantize import InputQuantizer, assemble, calibrate, float_base
from quantviz.quantize.grids import Grid, round_to
from quantviz.specs import LayerBits, QuantSpec

SMALL = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
MODEL, LAYER = "squeezenet1_1", "features.12"
SCHEMES = {
    "W8A8": QuantSpec(),
    "W16A16": QuantSpec(16, 16),
    "W4A6": QuantSpec(4, 6),
    "W2A12": QuantSpec(2, 12),
    "weight-only": QuantSpec(5, None),
    "symmetric activations": QuantSpec(8, 7, act_scheme="symmetric"),
    "affine per-tensor weights": QuantSpec(3, 16, scheme="affine", granularity="per_tensor", act_scheme="symmetric"),
    "a layer in float": QuantSpec(4, 8, layer_bits=(LayerBits("features.0", None, None),)),
}


@pytest.fixture(scope="module")
def base(float_model):
    return float_base(float_model(MODEL), QuantSpec(), SMALL, LAYER)


@pytest.fixture(scope="module")
def ranges(base):
    return calibrate(base, [torch.cat([SMALL, SMALL.flip(3), 0.5 * SMALL])])


@pytest.fixture(scope="module")
def model(base):
    outputs = outputs_before(base, LAYER, SMALL)
    assert head_of(base, LAYER, outputs, SMALL) == "classifier.1"
    return exported(base, outputs, SMALL, logits=True)


def read_by(simulated, image):
    """Return the levels that each layer of a simulated network in torch reads, by dotted name."""
    read = {}

    def noting(name, grid):
        def note(_module, inputs):
            read[name] = torch.round(inputs[0] / grid.scale)

        return note

    handles = [
        module.register_forward_pre_hook(noting(name, module.input_quantizer.grid))
        for name, module in simulated.named_modules()
        if isinstance(getattr(module, "input_quantizer", None), InputQuantizer)
    ]
    with torch.no_grad():
        logits = simulated(image)
    for handle in handles:
        handle.remove()
    return read, logits


@pytest.mark.parametrize("quant", SCHEMES.values(), ids=SCHEMES)
def test_values_lie_on_the_levels_that_torch_puts_them_on(base, ranges, model, quant):
    simulated = assemble(base, quant, ranges)
    data = simulated_model(model, simulated_layers(simulated))
    _, logits = Session(data, fuse_integers=False)(SMALL)
    expected, expected_logits = read_by(simulated, SMALL)
    assert logits.shape == expected_logits.shape
    rounded = rounded_inputs(data)
    assert set(rounded.values()) <= expected.keys()
    assert bool(rounded) == (quant.act_bits is not None)
    if rounded:
        read = Session(with_outputs(data, rounded), fuse_integers=False)(SMALL)
        for values, name in zip(read, rounded.values(), strict=True):
            grid = simulated.get_submodule(name).input_quantizer.grid
            levels = values / grid.scale
            assert torch.allclose(levels, levels.round(), atol=1e-2)
            assert levels.min() >= grid.quant_min - grid.zero_point - 1e-2
            assert levels.max() <= grid.quant_max - grid.zero_point + 1e-2
            moved = (levels - expected[name]).abs()
            if quant.act_bits <= 8:
                assert float(moved.gt(0.5).float().mean()) < 0.01
            # 16 bits come near to what float32 leaves open: there many values move, by a few levels.
            assert float(moved.mean()) < 1e-4 * (grid.quant_max - grid.quant_min)
    assert float((logits - expected_logits).abs().max()) < 0.02 * float(expected_logits.abs().max())


def with_outputs(data, names):
    proto = onnx.load_from_string(data)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return proto.SerializeToString()


ENDS = [(0, 255), (-127, 127), (-128, 127), (0, 65535), (-32767, 32767), (0, 2), (-1, 1), (0, 4095)]


@pytest.mark.parametrize("ends", ENDS, ids=str)
def test_a_grid_rounds_as_in_torch(ends):
    low, high = ends
    zero_point = 0 if low < 0 else high // 3
    grid = Grid(0.037, zero_point, low, high)
    values = torch.from_numpy(np.random.default_rng(1).normal(scale=30, size=(1, 1, 40, 40)).astype(np.float32))
    node = onnx.helper.make_node("Conv", ["image", "network.one.weight"], ["activation"])
    shape = [1, 1, 40, 40]
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("activation", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "network.one.weight")],
    )
    proto = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)])
    one = np.ones((1, 1, 1, 1), np.float32)
    layers = {"one": SimulatedLayer(one, None, InputGrid(grid.scale, zero_point, low, high))}
    data = simulated_model(proto.SerializeToString(), layers)
    (found,) = Session(data, fuse_integers=False)(values)
    assert torch.allclose(found, round_to(values, grid), rtol=1e-6, atol=1e-6)
    assert found.unique().numel() > 2


def test_biases_that_the_simulation_has_alone_are_taken_over(model, base, ranges):
    layers = simulated_layers(assemble(base, QuantSpec(), ranges))
    first = layers["features.0"]
    moved = SimulatedLayer(first.weight, first.bias + 1, first.source)
    plain, other = (
        Session(simulated_model(model, layers | {"features.0": layer}), fuse_integers=False)(SMALL)[0]
        for layer in (first, moved)
    )
    assert not torch.equal(plain, other)


def test_weights_that_are_no_layers_are_refused(model, base, ranges):
    layers = simulated_layers(assemble(base, QuantSpec(), ranges))
    del layers["features.3.squeeze"]
    with pytest.raises(NotSplittableError, match="has weights that no layer has"):
        simulated_model(model, layers)


def test_a_network_that_rounds_beside_its_layers_is_refused(base, ranges):
    simulated = assemble(base, QuantSpec(), ranges)
    simulated.features[1].add_module("input_quantizer", InputQuantizer(Grid(1.0, 0, 0, 255)))
    with pytest.raises(NotSplittableError, match="beside its layers' inputs"):
        simulated_layers(simulated)
