"""Rounding learned by distillation: on the grid, nearer the float network than GPTQ, always the same, and harmless."""

import copy

import pytest
import torch
from torch import nn

from quantviz.quantize import assemble, calibrate, distil, float_base, gptq, learn
from quantviz.specs import QuantvizError, spec_of

SIDE = 24


class Small(nn.Module):
    """A network with a plain, a depthwise and a pointwise convolution, batch norm, a skip and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.ReLU())
        self.wide = nn.Conv2d(12, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, image):
        values = self.stem(image)
        values = torch.relu(self.wide(values + self.deep(values)))
        return self.head(values.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(64, 3, 6, 6, generator=generator)
    return nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        made = Small().eval().requires_grad_(False)
        for parameter in made.parameters():
            parameter.mul_(2.0)
    made.stem[1].running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    return made


@pytest.fixture(scope="module")
def learned(model, inputs):
    made = {}

    def get(words="best", weight_bits=3, act_bits=8, way=distil):
        key = (words, weight_bits, act_bits, way)
        if key not in made:
            spec = spec_of(words, weight_bits, act_bits)
            base = float_base(model, spec, inputs[:1])
            ranges = calibrate(base, list(inputs.split(8)), spec.ranges)
            more = [lambda count: inputs[torch.arange(count) % len(inputs)]] if way is distil else []
            made[key] = base, spec, ranges, way(base, spec, ranges, lambda: inputs.split(8), *more)
        return made[key]

    return get


def divergence(base, network, inputs):
    p, q = (torch.log_softmax(found(inputs), dim=1) for found in (base, network))
    return float((p.exp() * (p - q)).sum(dim=1).mean())


@pytest.mark.parametrize("words", ["best", "best,affine", "best,per_tensor", "best,minmax_weights"])
def test_every_weight_is_on_its_declared_grid(learned, words):
    base, spec, ranges, found = learned(words)
    network = assemble(base, spec, ranges, found)
    assert set(found) == {"stem.0", "deep.0", "wide", "head"}
    for name, layer in found.items():
        weight, grid = network.get_submodule(name).weight, layer.grid
        columns = (-1, *[1] * (weight.ndim - 1))
        assert layer.integers.dtype == torch.int32
        assert int(layer.integers.min()) >= grid.quant_min
        assert int(layer.integers.max()) <= grid.quant_max
        assert grid.quant_max - grid.quant_min == (7 if spec.scheme == "affine" else 6)
        assert len(grid.scale) == (1 if spec.granularity == "per_tensor" else len(weight))
        assert bool((grid.scale > 0).all())
        assert torch.equal(weight, (layer.integers - grid.zero_point.view(columns)).float() * grid.scale.view(columns))
        assert network.get_submodule(name).weight_grid is not None
        assert torch.equal(grid.round(weight), weight)


def test_what_is_learned_is_nearer_the_float_network_than_gptq_and_gptq_than_nearest(learned, inputs):
    base, spec, ranges, taught = learned("best")
    _, _, _, rounded = learned("standard,gptq,mse_weights", way=gptq)
    nearest = divergence(base, assemble(base, spec, ranges), inputs)
    mended = divergence(base, assemble(base, spec, ranges, rounded), inputs)
    best = divergence(base, assemble(base, spec, ranges, taught), inputs)
    print(f"\nKL from float, W3A8: nearest {nearest:.5f}, GPTQ {mended:.5f}, distilled {best:.5f}")
    assert mended < 0.9 * nearest
    assert best < 0.5 * mended


def test_the_same_images_give_the_same_integers(model, inputs, learned):
    base, spec, ranges, found = learned("best")
    torch.rand(3)  # whatever the global generator's state
    state = torch.get_rng_state()
    again = learn(base, spec, ranges, lambda: inputs.split(8), lambda count: inputs[torch.arange(count) % len(inputs)])
    assert torch.equal(torch.get_rng_state(), state)
    for name, layer in found.items():
        assert torch.equal(layer.integers, again[name].integers)
        assert torch.equal(layer.grid.scale, again[name].grid.scale)
        assert torch.equal(layer.bias, again[name].bias)


def test_the_float_network_is_left_as_it_was(model, inputs):
    spec = spec_of("best", 4, 8)
    base = float_base(model, spec, inputs[:1])
    before, hooks = copy.deepcopy(base.state_dict()), [len(module._forward_hooks) for module in base.modules()]
    ranges = calibrate(base, list(inputs.split(8)), spec.ranges)

    class Enough(Exception):
        pass

    def stop(_message, fraction=None, _phase=None):
        if fraction is not None and fraction > 0.2:
            raise Enough

    with pytest.raises(Enough):
        distil(base, spec, ranges, lambda: inputs.split(8), lambda count: inputs[torch.arange(count) % 64], stop)
    assert [len(module._forward_hooks) for module in base.modules()] == hooks
    assert not any(parameter.requires_grad for parameter in base.parameters())
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_layers_in_float_stay_so(model, inputs):
    from quantviz.specs import LayerBits

    spec = spec_of("best", 4, 8, layer_bits=(LayerBits("head", None, None), LayerBits("wide", 8, 8)))
    base = float_base(model, spec, inputs[:1])
    ranges = calibrate(base, list(inputs.split(8)), spec.ranges)
    found = gptq(base, spec, ranges, lambda: inputs.split(8))
    assert set(found) == {"stem.0", "deep.0", "wide"}
    assert (found["wide"].grid.quant_max, found["deep.0"].grid.quant_max) == (127, 7)
    network = assemble(base, spec, ranges, found)
    assert torch.equal(network.head.weight, base.head.weight)


def test_learning_from_values_that_are_not_finite_is_refused(model, inputs):
    spec = spec_of("best", 4, None)
    base = float_base(model, spec, inputs[:1])
    ranges = calibrate(base, list(inputs.split(8)), spec.ranges)
    with torch.no_grad():
        base.wide.bias.fill_(float("nan"))
    with pytest.raises(QuantvizError, match="GPTQ cannot round layer 'head'"):
        distil(base, spec, ranges, lambda: inputs.split(8), lambda count: inputs[torch.arange(count) % 64])


def test_only_what_needs_images_learns():
    assert not spec_of("standard").learns
    assert not spec_of("naive,equalize").learns
    assert spec_of("best").learns
    assert spec_of("standard,gptq").learns
    assert spec_of("standard,bias_correction").learns
