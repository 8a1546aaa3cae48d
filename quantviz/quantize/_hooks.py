"""What the steps share: the layers that are quantized, and hooks that do not outlive their block."""

from __future__ import annotations

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


@contextmanager
def hooks(handles: Iterable[Any]) -> Iterator[None]:
    """Hold hooks for the length of a block and remove them however it ends."""
    active = list(handles)
    try:
        yield
    finally:
        for handle in active:
            handle.remove()
