"""Grids of integers: their range, rounding to them, and weights on them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_support import TINY, assert_on_weight_grid

from quantviz.quantize import (
    InputQuantizer,
    affine_grid,
    quantize_weight,
)
from quantviz.specs import MAX_BITS, MIN_BITS, QuantvizError

BITS = range(MIN_BITS, MAX_BITS + 1)
LIMITS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.tuples(LIMITS, LIMITS), st.sampled_from(BITS))
def test_an_affine_grid_holds_zero_and_has_its_bits(limits, bits):
    low, high = sorted(limits)
    grid = affine_grid(low, high, bits)
    assert (grid.quant_min, grid.quant_max) == (0, 2**bits - 1)
    assert grid.quant_min <= grid.zero_point <= grid.quant_max
    assert grid.scale >= TINY
    zero = InputQuantizer(grid)(torch.zeros(3))
    assert torch.equal(zero, torch.zeros(3))


@given(st.tuples(LIMITS, LIMITS), st.sampled_from(BITS))
def test_values_in_range_move_by_half_a_step_at_most_and_values_outside_saturate(limits, bits):
    low, high = min(*limits, 0.0), max(*limits, 0.0)
    grid = affine_grid(low, high, bits)
    values = torch.linspace(low, high, 257).clamp(low, high)
    moved = InputQuantizer(grid)(values)
    rounding = 4 * torch.finfo(torch.float32).eps * max(-low, high)
    assert float((moved.double() - values.double()).abs().max()) <= grid.scale * (0.5 + 1e-3 * (bits > 12)) + rounding
    ends = InputQuantizer(grid)(torch.tensor([low * 2 - 1, high * 2 + 1]))
    step = torch.tensor(grid.scale, dtype=torch.float32)
    expected = torch.tensor([-grid.zero_point, grid.quant_max - grid.zero_point]) * step
    if high - low > 1e-3:  # else the scale may be the 1 of an empty range, or 1 beyond not be saturation
        assert torch.equal(ends, expected)


@given(st.tuples(LIMITS, LIMITS), st.sampled_from(BITS))
def test_rounding_to_a_grid_twice_is_rounding_once(limits, bits):
    quantizer = InputQuantizer(affine_grid(min(limits), max(limits), bits))
    once = quantizer(torch.linspace(min(limits), max(limits), 101))
    assert torch.equal(quantizer(once), once)


def test_a_grid_by_hand():
    grid = affine_grid(-1.0, 2.0, 2)
    assert (grid.scale, grid.zero_point, grid.quant_max) == (1.0, 1, 3)
    values = torch.tensor([-5.0, -0.6, -0.5, 0.49, 0.5, 1.5, 1.6, 9.0])
    assert InputQuantizer(grid)(values).tolist() == [-1, -1, 0, 0, 0, 2, 2, 2]
    assert affine_grid(0.0, 0.0, 8).scale == 1.0
    assert affine_grid(3.0, 5.0, 8) == affine_grid(0.0, 5.0, 8)
    assert "zero_point=1" in repr(InputQuantizer(grid))


@pytest.mark.parametrize("limits", [("nan", 1), (0, "inf"), ("-inf", 0), (0, "nan")])
def test_a_range_that_is_not_finite_is_refused(limits):
    with pytest.raises(QuantvizError, match="not finite"):
        affine_grid(*map(float, limits), 8)


@pytest.mark.parametrize("bits", BITS)
def test_every_weight_lies_on_its_declared_grid(bits):
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(7, 5, 3, 3, generator=generator) * torch.logspace(-6, 3, 7)[:, None, None, None]
    weight[3] = 0
    weight[4] = -weight[4].abs()
    found, scale = quantize_weight(weight, bits)
    assert scale.shape == (7,)
    assert found.dtype == torch.float32
    assert not found[3].any()
    assert_on_weight_grid(found, weight, bits)


@settings(max_examples=50)
@given(st.lists(LIMITS, min_size=1, max_size=20), st.sampled_from(BITS))
def test_a_weights_sign_and_order_survive_rounding(values, bits):
    weight = torch.tensor([values])
    found, _scale = quantize_weight(weight, bits)
    assert torch.equal(quantize_weight(-weight, bits)[0], -found)
    order = weight[0].argsort()
    assert bool((found[0][order].diff() >= 0).all())
