"""Networks without weights, to look at their structure, and the generator that seeded weights are drawn from."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from quantviz.specs import QuantvizError

T = TypeVar("T")

_SEED = 0
_HEAD = 0.02  # standard deviation of a head's weights where they would be zeros
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


def untrained(make: Callable[[], nn.Module], *, scaled: bool) -> nn.Module:
    """Return a network on the CPU in float32 with weights drawn with seed 0.

    A head that starts as zeros, as in torchvision's vision transformers, is drawn, too: else every class had the same
    logit.

    Args:
        make: makes the network on the default device.
        scaled: also undo what makes the signal vanish in torchvision's initialisation.
    """
    with drawn():
        model = make().float()
        with torch.no_grad():
            heads = [inner for inner in model.modules() if isinstance(inner, nn.Linear)][-1:]
            for head in heads:
                if not head.weight.any():
                    nn.init.normal_(head.weight, std=_HEAD)
    if scaled:
        _keep_signal(model)
    return model


@torch.no_grad()
def _keep_signal(model: nn.Module) -> None:
    """Undo what makes the activations of an untrained network vanish, so that maps can be made of them.

    torch.nn.init.kaiming_normal_(mode="fan_out") counts the fan of a grouped convolution as if it were dense,
    and squeeze-and-excitation gates start half shut; together they leave 1e-14 at the end of efficientnet_b0.
    """
    from torchvision.ops import SqueezeExcitation

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(math.sqrt(module.groups))
        elif isinstance(module, SqueezeExcitation) and module.fc2.bias is not None:
            module.fc2.bias.fill_(4.0)  # sigmoid(4) = 0.98: open
