"""What the tests of figures of layers share: results with the layers of a real network."""

import numpy as np
import pytest
import torch

from quantviz.layerwise.specs import Drift, LayerDrift, NoiseFloor, Sensitivity
from quantviz.specs import CalibrationRef, CamSpec, Cost, LayerCost, Preprocessing, QuantSpec, WeightsRef

PICTURES = tuple((letter * 64, f"picture {letter}") for letter in "abcd")
SETTINGS = {
    "weights": WeightsRef(
        "bundled", "IMAGENET1K", "0" * 64, Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    ),
    "calibration": CalibrationRef("bundled photographs", 40, "1" * 64),
    "cam": CamSpec("gradcam++", "bn2"),
}


def drift(cam, *, kl=0.1, sqnr=20.0, flips=0.0, accuracy=None):
    cams = (None,) * 4 if cam is None else (0.5 * cam, cam, 1.5 * cam, None)
    return Drift(cam, cams, kl, sqnr, flips, accuracy)


@pytest.fixture(scope="module")
def names(float_model):
    """Return the names and kinds of a real network's layers, as (name, kind) in order of execution."""
    found = []
    for name, module in float_model("efficientnet_lite0").named_modules():
        if isinstance(module, torch.nn.Conv2d):
            found.append((name, "depthwise" if module.groups > 1 else "conv"))
        elif isinstance(module, torch.nn.Linear):
            found.append((name, "linear"))
    return found


@pytest.fixture(scope="module")
def measured(names):
    chance = np.random.default_rng(4)
    layers = [
        LayerDrift(
            LayerCost(name, kind, 1000 + depth, 10, 10, 10**6 * (depth + 1)),
            depth,
            drift(float(chance.lognormal(-6, 2)), kl=0.01 * (depth + 1), sqnr=10.0 + depth),
            drift(float(chance.uniform(0.02, 0.06))),
        )
        for depth, (name, kind) in enumerate(names)
    ]
    layers[3] = LayerDrift(layers[3].cost, 3, drift(None), layers[3].all_but)  # no evidence
    layers[5] = LayerDrift(layers[5].cost, 5, drift(0.0, kl=0.0, sqnr=None), layers[5].all_but)  # no difference
    floor = NoiseFloor(drift(0.0005, kl=0.001, sqnr=40.0), drift(0.004, kl=0.02, sqnr=22.0), drift(0.002))
    return Sensitivity(
        model="efficientnet_lite0",
        quant=QuantSpec(4, 8),
        images=PICTURES,
        layers=tuple(layers),
        network=drift(0.05),
        floor=floor,
        cost=Cost(2**21, 2**24, 10**8, 10**9, 10**11),
        **SETTINGS,
    )
