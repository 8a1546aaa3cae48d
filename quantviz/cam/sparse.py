"""Gradients of few outputs, at the cost of few outputs.

The gradient of one class's logit is zero at all other classes. The layer that gives the logits (a linear layer, or
SqueezeNet's 1 x 1 convolution and its ReLU, a quarter of that network's work) would multiply all these zeros by its
weights. Behind a ReLU the gradients of hidden units are zero where it was closed, too: in VGG16's linear layers at half
of the units or more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Where more of the channels than this have a gradient, picking them costs what it saves.
_MOST = 0.25


_PLAIN = (Tensor, nn.Parameter)  # whose rows can be taken; torchao's tensors hold integers


class SparseGradients(TorchFunctionMode):
    """While it is active, some layers are recorded so that only channels that have a gradient cost something.

    They are linear layers, 1 x 1 convolutions, and ReLUs over feature maps. What is left out are products with zero:
    the gradients with respect to their inputs are those that torch gives, to the bit but for linear layers where
    several units have a gradient, whose products are summed in another order. Weights and biases get none.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a function of tensors, those of the three kinds of layers in their own way."""
        options = dict(kwargs or {})
        if torch.is_grad_enabled() and args and isinstance(args[0], Tensor) and args[0].requires_grad:
            if function is functional.linear and not options and type(args[1]) in _PLAIN:
                return _Sparse.apply(function, *args)
            if function is functional.conv2d and not options and type(args[1]) in _PLAIN and _pointwise(*args):
                return _Sparse.apply(function, *args[:3])
            if function is functional.relu and args[0].ndim == 4:
                return _Relu.apply(args[0], *args[1:], *options.values())
        return function(*args, **options)


def _pointwise(
    values: Tensor,
    weight: Tensor,
    _bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    _dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Return whether a convolution, by the arguments of ``functional.conv2d``, mixes channels and nothing else."""
    plain = values.ndim == 4 and weight.shape[2:] == (1, 1) and groups == 1
    return plain and stride in (1, (1, 1)) and padding in (0, (0, 0), "valid", "same")


class _Sparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], values: Tensor, weight: Tensor, *bias: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.linear, ctx.biases = function is functional.linear, len(bias)
        return function(values, weight, *bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        inner = _through_linear(gradient, weight) if ctx.linear else _through_pointwise(gradient, weight)
        return (None, inner, None, *[None] * ctx.biases)


def _through_linear(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return gradient @ weight, of only those rows of the weight (out, in) that have a gradient."""
    rows = gradient.reshape(-1, len(weight))
    sample, live = rows.nonzero(as_tuple=True)
    if len(live) > len(weight) or not rows.isfinite().all():
        return gradient @ weight
    # A sum of rows by their weights, which this function takes where they lie: copied first, they would cost
    # several times the whole product (measured on VGG16's).
    begins = torch.searchsorted(sample, torch.arange(len(rows)))
    inner = functional.embedding_bag(live, weight, begins, mode="sum", per_sample_weights=rows[sample, live])
    return inner.reshape(*gradient.shape[:-1], -1)


def _through_pointwise(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return what a 1 x 1 convolution gives back, of only those channels that have a gradient."""
    if (live := _live(gradient, 1)) is not None:
        gradient, weight = gradient.index_select(1, live), weight[live]
    inner = weight.flatten(1).T @ gradient.flatten(2)
    return inner.reshape(*inner.shape[:2], *gradient.shape[2:])


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, inplace: bool = False) -> Tensor:
        result = functional.relu(values, inplace)
        if inplace:
            ctx.mark_dirty(values)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (result,) = ctx.saved_tensors
        if (live := _live(gradient, 1)) is None:
            return gradient.where(result > 0, 0), None
        inner = torch.zeros_like(result)
        inner[:, live] = gradient[:, live].where(result[:, live] > 0, 0)
        return inner, None


def _live(gradient: Tensor, channels: int) -> Tensor | None:
    """Return the places along a dimension that have a gradient anywhere, or None where they are not few."""
    others = [place for place in range(gradient.ndim) if place != channels]
    # Two passes, as the absolute values would be another tensor of that size.
    nowhere = (gradient.amax(dim=others) == 0) & (gradient.amin(dim=others) == 0)
    live = (~nowhere).nonzero()[:, 0]
    if not len(live):
        return torch.zeros(1, dtype=torch.long)  # no kernel takes no channels
    return live if len(live) <= _MOST * gradient.shape[channels] else None
