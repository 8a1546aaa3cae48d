"""What the steps share: the layers that are quantized, copies, and hooks that do not outlive their block."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from quantviz.specs import UNUSED

QUANTIZED = (nn.Conv2d, nn.Linear)


def quantized_layers(model: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    """Return the layers that quantization changes, by name, in the order of registration.

    Those that only training uses, as auxiliary heads do, are left out where the model marks them (``specs.UNUSED``).
    """
    named = model.named_modules()
    return [(name, module) for name, module in named if isinstance(module, QUANTIZED) and not hasattr(module, UNUSED)]


def sharing(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters lie in the original's memory, until one of either is replaced.

    They ask for no gradient and must not be written to. Buffers are copied.
    """
    shared = {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in model.parameters()}
    return copy.deepcopy(model, dict[int, Any](shared))


@contextmanager
def hooks(handles: Iterable[Any]) -> Iterator[None]:
    """Hold hooks for the length of a block and remove them however it ends."""
    active = list(handles)
    try:
        yield
    finally:
        for handle in active:
            handle.remove()
