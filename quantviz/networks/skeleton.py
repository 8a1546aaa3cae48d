"""Networks without weights, to look at their structure, and the generator that seeded weights are drawn from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from quantviz.specs import QuantvizError

T = TypeVar("T")

_SEED = 0
# Weights are drawn from torch's global generator, which one thread at a time may borrow.
_GENERATOR = threading.Lock()


@contextmanager
def drawn() -> Iterator[None]:
    """Let networks be made on the CPU with seed 0 for the length of a block; the global generator stays as it was."""
    with _GENERATOR, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would seed every accelerator's generator too.
        torch.default_generator.manual_seed(_SEED)
        yield


def looked_at(make: Callable[[], nn.Module], look: Callable[[nn.Module], T]) -> T:
    """Return what is to be seen of a network: on the meta device, without weights and arithmetic, where it can be so.

    Some constructors compute with tensors (torchvision's RegNet), and some networks look at values as they run; these
    are made and run on the CPU.

    Args:
        make: makes the network on the default device.
        look: given the network in eval mode; it may run it on ``blank``.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            return look(make().eval())
    except QuantvizError:
        raise
    except Exception:  # the kinds are many: NotImplementedError, RuntimeError, or TypeError behind them
        with drawn(), torch.no_grad():
            return look(make().eval())


def blank(module: nn.Module, side: int, batch: int = 1) -> Tensor:
    """Return zeros (batch, 3, side, side) float32 on a network's device."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    return torch.zeros(batch, 3, side, side, device=device)
