"""Rounding to a grid gives the same bits as torch's fake-quantize kernels, and their gradient."""

import pytest
import torch

from quantviz.quantize.grids import affine_grid, round_to, symmetric_grid, weight_grid


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
@pytest.mark.parametrize("limits", [(-1.3, 5.7), (0.0, 6.0), (-2e-7, 3e-7), (-4e4, 1.0)])
@pytest.mark.parametrize("make", [affine_grid, symmetric_grid])
def test_values_are_those_of_the_fake_quantize_kernel(bits, limits, make):
    grid = make(*limits, bits)
    low, high = limits
    values = torch.empty(50_000).uniform_(2 * low - 1e-9, 2 * high, generator=torch.Generator().manual_seed(bits))
    halves = (torch.arange(2000) - 1000 + 0.5) * grid.scale  # where which way to round is closest to chance
    values = torch.cat([values, halves, torch.tensor([0.0, -0.0, low, high])])
    rounded = round_to(values, grid)
    kernel = torch.fake_quantize_per_tensor_affine(values, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max)
    assert torch.equal(rounded, kernel)
    assert len(rounded.unique()) > 2


@pytest.mark.parametrize("bits", [4, 8])
def test_the_gradient_is_that_of_the_fake_quantize_kernel(bits):
    grid = affine_grid(-1.0, 3.0, bits)
    ours = torch.linspace(-3, 5, 4001).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    factor = torch.linspace(1, 2, 4001)
    (round_to(ours, grid) * factor).sum().backward()
    kernel = torch.fake_quantize_per_tensor_affine(theirs, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max)
    (kernel * factor).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert 0 < int((ours.grad == 0).sum()) < 4001


def test_the_layout_in_memory_is_kept():
    values = torch.randn(2, 5, 7, 7).contiguous(memory_format=torch.channels_last)
    before = values.clone()
    rounded = round_to(values, affine_grid(-2, 2, 8))
    assert rounded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(values, before)


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_weights_are_those_of_the_fake_quantize_kernels(scheme, granularity, bits):
    weight = torch.randn(24, 6, 3, 3, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-6, 2, 24).view(
        -1, 1, 1, 1
    )
    grid = weight_grid(weight, bits, scheme, granularity)
    before, rounded = weight.clone(), grid.round(weight)
    if granularity == "per_channel":
        kernel = torch.fake_quantize_per_channel_affine(
            weight, grid.scale, grid.zero_point, 0, grid.quant_min, grid.quant_max
        )
    else:
        kernel = torch.fake_quantize_per_tensor_affine(
            weight, float(grid.scale), int(grid.zero_point), grid.quant_min, grid.quant_max
        )
    assert torch.equal(rounded, kernel)
    assert torch.equal(weight, before)
    assert torch.equal(grid.values(grid.integers(rounded)), rounded)
