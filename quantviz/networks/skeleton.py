"""Networks without weights, to look at their structure, and the generator that seeded weights are drawn from."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantviz.networks.deferred import one_by_one
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


class _NothingDrawn(TorchFunctionMode):
    """Leaves out what draws weights, which a tensor without storage has none of.

    Torch draws numbers on the meta device by its reference functions, which import its whole compiler.
    """

    _DRAWING = frozenset(
        {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}
        | {nn.init.kaiming_normal_, nn.init.trunc_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_}
    )

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        if function in self._DRAWING and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return function(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Let networks be made on the meta device, without storage, for the length of a block."""
    with torch.device("meta"), _NothingDrawn():
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
        with without_weights(), torch.no_grad():
            return look(make().eval())
    except QuantvizError:
        raise
    except Exception:  # the kinds are many: NotImplementedError, RuntimeError, or TypeError behind them
        with drawn(), torch.no_grad():
            return look(make().eval())


def blank(module: nn.Module, size: tuple[int, int], batch: int = 1) -> Tensor:
    """Return zeros (batch, 3, height, width) float32 on a network's device."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    return torch.zeros(batch, 3, *size, device=device)


def untrained(make: Callable[[], nn.Module], *, scaled: bool, size: tuple[int, int] | None = None) -> nn.Module:
    """Return a network on the CPU in float32 with weights drawn with seed 0.

    A head that starts as zeros, as in torchvision's vision transformers, is drawn, too: else every class had the same
    logit.

    Args:
        make: makes the network on the default device.
        scaled: also undo what makes the signal vanish in torchvision's initialisation.
        size: (height, width) of the input, for batch norms whose variances fit the signal; None leaves them at 1,
            behind which GoogLeNet's signal, for one, ends at 1e-11.
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
    if size is not None:
        _fit_variances(model, size)
    return model


@torch.no_grad()
def _keep_signal(model: nn.Module) -> None:
    """Undo what makes the activations of an untrained network vanish, so that maps can be made of them.

    torch.nn.init.kaiming_normal_(mode="fan_out") counts the fan of a grouped convolution as if it were dense,
    and squeeze-and-excitation gates start half shut; together they leave 1e-14 at the end of efficientnet_b0.
    """
    with one_by_one():
        from torchvision.ops.misc import SqueezeExcitation

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(math.sqrt(module.groups))
        elif isinstance(module, SqueezeExcitation) and module.fc2.bias is not None:
            module.fc2.bias.fill_(4.0)  # sigmoid(4) = 0.98: open


@torch.no_grad()
def _fit_variances(model: nn.Module, size: tuple[int, int]) -> None:
    """Set the variance of every batch norm to the power of two next to what it reads of seeded noise.

    Powers of two, so that rounding on another machine hardly ever changes the weights' digest.
    """

    def fit(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance = float(inputs[0].double().square().mean())
        running = norm.running_var
        if isinstance(running, Tensor) and math.isfinite(variance) and variance > 0:
            running.fill_(2.0 ** round(math.log2(variance)))

    norms = [norm for norm in model.modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    handles = [norm.register_forward_pre_hook(fit) for norm in norms]
    training = model.training
    try:
        noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(_SEED))
        model.eval()(noise)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
