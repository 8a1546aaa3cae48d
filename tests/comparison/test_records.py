"""What the store keeps of networks comes back as it was."""

import pytest
import torch

from quantviz.comparison.records import pack_learned, pack_ranges, unpack_learned, unpack_ranges
from quantviz.quantize import LearnedLayer, calibrate, weight_grid
from quantviz.specs import MAX_BITS, MIN_BITS, RANGE_METHODS
from quantviz.store import TensorStore

KEY = "0" * 64


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("bits", [MIN_BITS, 4, 8, 9, MAX_BITS])
def test_learned_weights(tmp_path, bits, granularity, scheme):
    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(bits))
    grid = weight_grid(weight, bits, scheme, granularity)
    learned = {
        "features.0": LearnedLayer(grid, grid.integers(weight), torch.arange(6.0)),
        "head": LearnedLayer(grid, grid.integers(-weight)),
    }
    with TensorStore(tmp_path) as store:
        store.put(KEY, pack_learned(learned))
        found = unpack_learned(store.get(KEY))
    assert list(found) == list(learned)
    for name, layer in learned.items():
        assert found[name].integers.dtype == torch.int32
        assert torch.equal(found[name].integers, layer.integers)
        assert torch.equal(found[name].grid.scale, grid.scale)
        assert torch.equal(found[name].grid.zero_point, grid.zero_point)
        assert (found[name].grid.quant_min, found[name].grid.quant_max) == (grid.quant_min, grid.quant_max)
        assert torch.equal(found[name].grid.values(found[name].integers), grid.values(layer.integers))
    assert torch.equal(found["features.0"].bias, learned["features.0"].bias)
    assert found["head"].bias is None


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_ranges(tmp_path, float_model, photograph, method):
    ranges = calibrate(float_model("squeezenet1_1"), [photograph("squeezenet1_1", "coffee")], method)
    with TensorStore(tmp_path) as store:
        store.put(KEY, pack_ranges(ranges))
        found = unpack_ranges(store.get(KEY))
    assert found == ranges
    for name in ranges.limits:
        assert found.limits_of(name, 4, "affine") == ranges.limits_of(name, 4, "affine")
