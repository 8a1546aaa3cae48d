"""Models and pictures that several test files use."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from quantviz import images, zoo
from quantviz.zoo.build import build


@lru_cache(maxsize=8)
def _built(name, choice):
    return build(zoo.spec(name), zoo.resolve(zoo.spec(name), choice))[0]


@pytest.fixture(scope="session")
def float_model():
    """Return a function from a model's name to the model: bundled weights where there are any, else untrained.

    It is shared: a test that changes a model takes a deep copy.
    """
    return lambda name: _built(name, None if zoo.spec(name).weights[0].bundled else "untrained")


@pytest.fixture(scope="session")
def photograph():
    """Return a function from a model's and a bundled photograph's name to the model's input (1, 3, h, w)."""

    def prepared(model, name="chelsea"):
        preprocessing = zoo.spec(model).weights[0].preprocessing
        return torch.from_numpy(images.normalize(images.crop(images.bundled(name).rgb, preprocessing), preprocessing))

    return prepared


@pytest.fixture(scope="session")
def noise_picture():
    """Return a function from a seed and a size to an RGB picture, uint8 (height, width, 3)."""
    return lambda seed, height=90, width=120: np.random.default_rng(seed).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
