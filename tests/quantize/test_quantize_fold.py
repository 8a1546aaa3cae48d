"""Folding batch norm into the convolution before it."""

import copy
import re

import pytest
import torch
from torch import nn

from quantviz import networks
from quantviz.quantize import calibrate, fold_batch_norm, quantize
from quantviz.specs import QuantSpec, QuantvizError


def with_busy_batch_norms(model):
    """Return a float64 copy whose batch norms have statistics, gains of both signs, and offsets."""
    model = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            count = module.num_features
            module.running_mean.copy_(torch.randn(count, generator=generator) * 0.2)
            module.running_var.copy_(torch.rand(count, generator=generator) + 0.5)
            module.weight.copy_(torch.rand(count, generator=generator) + 0.5)
            module.weight[::3] *= -1
            module.bias.copy_(torch.randn(count, generator=generator) * 0.2)
    return model


FOLDED_PAIRS = {
    "efficientnet_lite0": 49,
    "vgg16": 0,
    "resnet50": 53,
    "densenet121": 59,
    "mobilenet_v2": 52,
    "squeezenet1_1": 0,
    "efficientnet_b0": 49,
}


@pytest.mark.parametrize("name", list(networks.MODELS))
def test_folding_keeps_the_networks_function(float_model, photograph, name):
    if not FOLDED_PAIRS[name]:
        assert not any(isinstance(module, nn.BatchNorm2d) for module in float_model(name).modules())
        return
    model, image = with_busy_batch_norms(float_model(name)), photograph(name).double()
    folded = copy.deepcopy(model)
    pairs = fold_batch_norm(folded, image)
    assert len(pairs) == FOLDED_PAIRS[name]
    assert [name for name, _ in folded.named_modules()] == [name for name, _ in model.named_modules()]
    other = photograph(name, "rocket").double()
    with torch.no_grad():
        expected, found = model(other), folded(other)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    remaining = {name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)}
    if name == "densenet121":
        # They read a concatenation (or, the first of each block, a pooled tensor), not one convolution's output.
        unfoldable = re.compile(r"features\.(denseblock\d\.denselayer\d+\.norm1|transition\d\.norm|norm5)")
        assert all(unfoldable.fullmatch(name) for name in remaining)
        assert len(remaining) == 62
    else:
        assert not remaining


class Forked(nn.Module):
    """A convolution with a batch norm that must stay apart, for one of several reasons."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4) if kind == "two norms" else nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(1, 2)

    def forward(self, values):
        values = self.conv(values)
        if self.kind == "changed":
            values.mul_(0.5)
        if self.kind in ("two norms", "two readers"):
            return self.norm(values) + self.other(values)
        return self.norm(values) if self.kind in ("plain", "changed") else self.norm(values + 1)


@pytest.mark.parametrize("kind", ["plain", "two norms", "two readers", "changed", "not the convolution's"])
def test_only_a_batch_norm_that_alone_reads_an_unchanged_convolution_is_folded(kind):
    torch.manual_seed(0)
    model, image = Forked(kind).eval().requires_grad_(False), torch.randn(2, 3, 8, 8)
    expected = model(image)
    pairs = fold_batch_norm(model, image)
    assert pairs == ([("conv", "norm")] if kind == "plain" else [])
    torch.testing.assert_close(model(image), expected)


def test_a_fold_that_changes_the_output_is_refused():
    class Hidden(nn.Module):
        """Reads the convolution's output a second time, by a function that no hook sees."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.norm = nn.BatchNorm2d(4)
            nn.init.constant_(self.norm.weight, 3.0)

        def forward(self, values):
            values = self.conv(values)
            return (self.norm(values) + values.relu()).mean((2, 3))

    torch.manual_seed(0)
    model, image = Hidden().eval().requires_grad_(False), torch.randn(1, 3, 4, 4)
    with pytest.raises(QuantvizError, match="Folding batch norm changed the output"):
        quantize(model, QuantSpec(), calibrate(model, [image]), image)
