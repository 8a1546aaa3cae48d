"""Gradients of one class are what torch's own are, to the bit, without the products with zero."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from quantviz.cam.sparse import SparseGradients

POINTWISE = nn.Sequential(nn.Conv2d(48, 80, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
LINEAR = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU(), nn.Linear(48, 80))
HIDDEN = nn.Sequential(*LINEAR[:3], nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 80))
MIXED = nn.Sequential(
    nn.Conv2d(48, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 40, 1, stride=2), nn.Conv2d(40, 80, 1), *POINTWISE[2:]
)
TAILS = {"pointwise": POINTWISE, "linear": LINEAR, "hidden": HIDDEN, "mixed": MIXED}
for tail in TAILS.values():
    tail.requires_grad_(False)


def gradient(tail, values, classes, mode):
    values = values.clone().requires_grad_()
    with mode:
        logits = tail(values * 1)  # a leaf may not be changed in place
    chosen = logits[list(range(len(classes))), list(classes)].sum()
    return logits.detach(), *torch.autograd.grad(chosen, values)


@pytest.mark.parametrize("classes", [(7,), (7, 7, 79), tuple(range(16))])
@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_torchs_own(name, classes, layout):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(len(classes), 48, 9, 9)).astype(np.float32))
    values = values.to(memory_format=layout)
    expected = gradient(TAILS[name], values, classes, contextlib.nullcontext())
    found = gradient(TAILS[name], values, classes, SparseGradients())
    assert torch.equal(found[0], expected[0])
    if name == "hidden":  # several units have a gradient, and are summed in another order
        torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-8)
    else:
        assert torch.equal(found[1], expected[1])
    assert found[1].abs().max() > 0


def test_a_gradient_of_every_class_is_torchs_own():
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 48, 9, 9)).astype(np.float32)).requires_grad_()
    for tail in (POINTWISE, LINEAR, HIDDEN):
        found = []
        for mode in (contextlib.nullcontext(), SparseGradients()):
            with mode:
                total = tail(values * 1).square().sum()
            found.append(torch.autograd.grad(total, values)[0])
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


def test_a_gradient_that_is_no_number_stays_none():
    for bad in (float("nan"), float("inf")):
        values = torch.ones(1, 48, 9, 9, requires_grad=True)
        with SparseGradients():
            logits = HIDDEN(values * 1)
        chosen = torch.zeros_like(logits)
        chosen[0, 3] = bad
        assert not torch.autograd.grad(logits, values, chosen)[0].isfinite().any()


def test_a_linear_layer_over_tokens_sums_each_tokens_own_rows():
    layer = nn.Linear(6, 40).requires_grad_(False)
    values = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 5, 6)).astype(np.float32)).requires_grad_()
    with SparseGradients():
        found = layer(values * 1)
    weights = torch.zeros(2, 5, 40)
    weights[0, 1, 3], weights[1, 4, 39], weights[1, 4, 0] = 1, 2, 3  # most tokens have none
    expected = weights @ layer.weight
    torch.testing.assert_close(torch.autograd.grad(found, values, weights)[0], expected)


@pytest.mark.parametrize("name", ["pointwise", "linear", "hidden"])
def test_one_class_costs_next_to_nothing_behind_the_last_layer(name):
    values = torch.ones(1, 48, 9, 9)

    def operations(mode):
        with FlopCounterMode(display=False) as counter:
            gradient(TAILS[name], values, (3,), mode)
        return counter.get_total_flops()

    dense, sparse = operations(contextlib.nullcontext()), operations(SparseGradients())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        TAILS[name](values.clone())
    forward = counter.get_total_flops()
    assert dense == 2 * forward
    assert sparse - forward < (0.02 if name == "pointwise" else 0.7) * forward


def test_other_layers_and_passes_without_gradients_are_left_alone():
    values = torch.ones(1, 48, 9, 9)
    with SparseGradients():
        assert functional.conv2d(values, torch.ones(4, 48, 1, 1)).grad_fn is None
        grouped = functional.conv2d(values.requires_grad_(), torch.ones(48, 1, 1, 1), groups=48)
        padded = functional.conv2d(values, torch.ones(4, 48, 1, 1), padding=1)
        plain = functional.conv2d(values, torch.ones(4, 48, 1, 1), None, 1, 0)
    names = [type(result.grad_fn).__name__ for result in (grouped, padded, plain)]
    assert names[0] == names[1] != names[2]
