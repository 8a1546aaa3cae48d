"""What an architecture says of itself: its target layer, its head, its number of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from quantviz.networks.skeleton import blank, looked_at, untrained
from quantviz.networks.structure import pooled_layer, structure_of
from quantviz.specs import UsageError

_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is looked up of an architecture, at 1,000 classes where it can have any number.

    Attributes:
        layer: default target layer.
        head: dotted name of the module whose weight's first dimension is the number of classes.
        parameters: number of parameters.
    """

    layer: str
    head: str
    parameters: int


def examined(construct: Callable[[int], nn.Module], size: tuple[int, int], name: str) -> Architecture:
    """Return what an architecture says of itself, without weights and arithmetic.

    A network with tokens is made once with seeded weights, to see which layers its logits rest on.

    Args:
        construct: makes the network for a number of classes, on the default device.
        size: (height, width) of the input, in pixels.
        name: of the network, for messages.

    Raises:
        UsageError: no layer gives a grid, or the network gives no logits.
    """

    def look(module: nn.Module) -> Architecture:
        structure = structure_of(module, blank(module, size, 2))
        # Which layers the logits rest on cannot be seen without weights.
        layer = "" if structure.mixes else pooled_layer(module, blank(module, size), structure).names[0]
        parameters = sum(parameter.numel() for parameter in module.parameters())
        return Architecture(layer, _head(module, name, structure.classes), parameters)

    try:
        found = looked_at(lambda: construct(_CLASSES), look)
        return found if found.layer else replace(found, layer=_layer(construct, size))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _layer(construct: Callable[[int], nn.Module], size: tuple[int, int]) -> str:
    module = untrained(lambda: construct(_CLASSES), scaled=False).eval().requires_grad_(False)
    example = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return pooled_layer(module, example).names[0]


def _head(module: nn.Module, name: str, classes: int) -> str:
    """Return the last module whose weight has a row for each class."""
    heads: list[str] = [
        inner
        for inner, layer in module.named_modules()
        if isinstance(weight := getattr(layer, "weight", None), torch.Tensor) and weight.ndim and len(weight) == classes
    ]
    if not heads:
        raise UsageError(f"{name} has no layer with a weight for each class; name a classifier.")
    return heads[-1]
