"""What an architecture says of itself: its target layer, its head, its number of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from quantviz.networks.module import last_feature_layers
from quantviz.networks.skeleton import blank, looked_at
from quantviz.specs import UsageError

_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is looked up of an architecture, at 1,000 classes.

    Attributes:
        layer: default target layer.
        head: dotted name of the module whose weight's first dimension is the number of classes.
        parameters: number of parameters.
    """

    layer: str
    head: str
    parameters: int


def examined(construct: Callable[[int], nn.Module], side: int, name: str) -> Architecture:
    """Return what an architecture says of itself, without weights and arithmetic.

    Args:
        construct: makes the network for a number of classes, on the default device.
        side: of the square input, in pixels.
        name: of the network, for messages.

    Raises:
        UsageError: no layer gives a grid, or the network gives no logits.
    """

    def look(module: nn.Module) -> Architecture:
        layer = last_feature_layers(module, blank(module, side))[0]
        parameters = sum(parameter.numel() for parameter in module.parameters())
        return Architecture(layer, _head(module, name), parameters)

    try:
        return looked_at(lambda: construct(_CLASSES), look)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _head(module: nn.Module, name: str) -> str:
    """Return the last module whose weight has a row for each class."""
    heads: list[str] = [
        inner
        for inner, layer in module.named_modules()
        if isinstance(weight := getattr(layer, "weight", None), torch.Tensor) and len(weight) == _CLASSES
    ]
    if not heads:
        raise UsageError(f"{name} has no layer with a weight for each class; name a classifier.")
    return heads[-1]
