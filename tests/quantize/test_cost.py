"""What a quantized network costs, counted by hand and against the model's own parameters."""

import pytest
import torch
import torchvision
from torch import nn

from quantviz import networks
from quantviz.quantize import cost, float_base, layer_costs, other_values
from quantviz.specs import Cost, LayerBits, LayerCost, QuantSpec

CONV = LayerCost("conv", "conv", weights=101, biases=4, channels=4, macs=1000)
HEAD = LayerCost("head", "linear", weights=30, biases=3, channels=3, macs=30)


class Small(nn.Module):
    """A convolution, a depthwise one that runs twice, a batch norm, a head, and a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(7, 7)
        self.head = nn.Linear(6, 5)
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.grouped = nn.Conv2d(6, 6, 1, groups=2)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, values):
        values = self.deep(self.deep(self.norm(torch.relu(self.conv(values)))))
        return self.head(self.grouped(values).mean((2, 3)))


def test_layers_are_counted_in_order_of_execution_and_each_time_they_run():
    layers = layer_costs(Small().eval(), torch.zeros(1, 3, 8, 8))
    assert layers == (
        LayerCost("conv", "conv", 6 * 3 * 9, 0, 6, 6 * 3 * 9 * 16),
        LayerCost("deep", "depthwise", 6 * 9, 6, 6, 2 * 6 * 9 * 16),
        LayerCost("grouped", "conv", 6 * 3, 6, 6, 6 * 3 * 16),
        LayerCost("head", "linear", 30, 5, 5, 30),
    )


def test_other_values_are_those_outside_the_layers():
    assert other_values(Small()) == 4 * 6  # of the batch norm: two parameters and two statistics; its counter is none


def test_bytes_of_symmetric_weights():
    found = cost((CONV, HEAD), QuantSpec(4, None), 10)
    conv = 51 + 4 * 4 + 4 * 4  # 404 bits in whole bytes, four biases, four scales
    head = 15 + 3 * 4 + 3 * 4
    assert found == Cost(conv + head + 40, 4 * (101 + 4 + 30 + 3 + 10), 1030, 1030 * 4 * 32, 1030 * 32 * 32)


def test_affine_weights_have_zero_points_and_per_tensor_ones_a_single_grid():
    whole = cost((CONV,), QuantSpec(8, None, scheme="affine"), 0).bytes
    assert whole == 101 + 16 + 4 * (4 + 1)
    assert cost((CONV,), QuantSpec(8, None, scheme="affine", granularity="per_tensor"), 0).bytes == 101 + 16 + 4 + 1


def test_inputs_add_a_grid_each():
    bare = cost((CONV, HEAD), QuantSpec(8, None), 0).bytes
    assert cost((CONV, HEAD), QuantSpec(8, 8), 0).bytes == bare + 2 * (4 + 1)
    assert cost((CONV, HEAD), QuantSpec(8, 16), 0).bytes == bare + 2 * (4 + 2)
    assert cost((CONV, HEAD), QuantSpec(8, 8, act_scheme="symmetric"), 0).bytes == bare + 2 * 4


@pytest.mark.parametrize("more", [{"rounding": "distilled"}, {"bias_correction": True}])
def test_learning_adds_a_bias_to_a_layer_without_one(more):
    bare = LayerCost("bare", "conv", weights=101, biases=0, channels=4, macs=1000)
    spec = QuantSpec(4, None, **more)
    assert cost((bare,), spec, 0).bytes == cost((CONV,), spec, 0).bytes == 51 + 16 + 16
    kept = QuantSpec(4, None, layer_bits=(LayerBits("bare", None, None),), **more)
    assert cost((bare,), kept, 0).bytes == 4 * 101


def test_layers_of_their_own_bits():
    spec = QuantSpec(8, 8, layer_bits=(LayerBits("conv", 2, 4), LayerBits("head", None, None)))
    found = cost((CONV, HEAD), spec, 0)
    assert found.bops == 1000 * 2 * 4 + 30 * 32 * 32
    assert found.bytes == (26 + 16 + 16 + 4 + 1) + 4 * 33


@pytest.mark.parametrize("name", ["efficientnet_lite0", "squeezenet1_1", "mobilenet_v2"])
def test_a_model_without_batch_norm_is_all_in_its_layers(float_model, photograph, name):
    base = float_base(float_model(name), QuantSpec(), photograph(name), networks.spec(name).layer)
    layers = layer_costs(base, photograph(name))
    assert other_values(base) == 0
    assert sum(layer.weights + layer.biases for layer in layers) == sum(value.numel() for value in base.parameters())
    assert cost(layers, QuantSpec(), 0).float_bytes == 4 * sum(value.numel() for value in base.parameters())


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_macs_are_the_published_ones(float_model, photograph, name):
    layers = layer_costs(float_model(name), photograph(name))
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]  # in thousand millions
    assert sum(layer.macs for layer in layers) / 1e9 == pytest.approx(published, abs=5e-4)
