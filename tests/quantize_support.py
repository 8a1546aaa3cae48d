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
