"""What the tests of quantization share: models, pictures, ranges."""

from functools import lru_cache

import pytest
import torch
from torch import nn

from quantviz import networks
from quantviz.quantize import calibrate, float_base
from quantviz.specs import QuantSpec

LITE, SQUEEZE, MOBILE = "efficientnet_lite0", "squeezenet1_1", "mobilenet_v2"
PICTURES = ("chelsea", "coffee", "rocket", "china")
TINY = torch.finfo(torch.float32).tiny
SCHEMES, GRANULARITIES = ("symmetric", "affine"), ("per_channel", "per_tensor")


@pytest.fixture(scope="module")
def pictures(photograph):
    return lambda name, count=4: [photograph(name, picture) for picture in PICTURES[:count]]


@pytest.fixture(scope="module")
def base(float_model, photograph):
    return lru_cache(maxsize=8)(
        lambda name, equalize=False: float_base(
            float_model(name), QuantSpec(equalize=equalize), photograph(name), networks.spec(name).layer
        )
    )


@pytest.fixture(scope="module")
def ranges(base, pictures):
    return lru_cache(maxsize=8)(lambda name, method="minmax": calibrate(base(name), pictures(name), method))


def layers_of(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def small(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*(layers or (nn.Conv2d(3, 4, 1),))).eval().requires_grad_(False)


def assert_on_weight_grid(weight, original, bits):
    """Check a quantized weight against its declared grid, channel by channel and bit by bit."""
    limit = 2 ** (bits - 1) - 1
    peak = original.flatten(1).abs().amax(1)
    scale = torch.where(peak / limit < TINY, torch.ones_like(peak), peak / limit)
    columns = (-1, *[1] * (weight.ndim - 1))
    integers = (weight.double() / scale.double().view(columns)).round()
    assert torch.equal(integers.float() * scale.view(columns), weight)
    assert int(integers.abs().max()) <= limit
    assert torch.equal(integers.flatten(1).abs().amax(1) == limit, peak / limit >= TINY)
    step = scale.double().view(columns)
    assert bool(((weight.double() - original.double()).abs() <= step * (0.5 + 1e-6 * limit)).all())
