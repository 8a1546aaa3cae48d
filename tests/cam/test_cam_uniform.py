"""Gradients that are the same at every place, and maps that matrices resize: what the long way gives."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from quantviz.cam import maps


@pytest.mark.parametrize("method", maps._BY_GRADIENT)
def test_a_gradient_of_one_value_a_channel_gives_the_same_map(method):
    random = np.random.default_rng(3)
    activation = np.maximum(random.normal(size=(40, 7, 9)), 0)
    slope = random.normal(size=(40, 1, 1))
    raw, magnitude = maps._BY_GRADIENT[method](activation, slope)
    full, other = maps._BY_GRADIENT[method](activation, np.ascontiguousarray(np.broadcast_to(slope, activation.shape)))
    assert np.allclose(raw, full, rtol=1e-12, atol=1e-12)
    assert np.isclose(magnitude, other)


@pytest.mark.parametrize(("native", "size"), [((7, 7), (224, 224)), ((13, 14), (192, 256)), ((1, 5), (60, 33))])
def test_maps_are_resized_as_torch_resizes_them(native, size):
    for seed in range(20):
        raw = np.abs(np.random.default_rng(seed).normal(size=native))  # so that none is degenerate
        found, small = maps._heatmaps(raw, 1.0, False, size)
        values = torch.from_numpy(maps._min_max(raw))[None, None]
        wide = functional.interpolate(values, size, mode="bilinear", align_corners=False)[0, 0].numpy()
        assert np.abs(found.values - maps._min_max(wide)).max() <= 1e-7  # the last bit of float32
        assert small.values.shape == native
