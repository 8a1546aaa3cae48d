"""Cross-layer equalization: channels of neighbouring convolutions are scaled against each other.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721),
section 4.1. It matters where a weight has one scale for all its channels.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.fold import check_same

# f(s x) = s f(x) for every s > 0, channel by channel.
_HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_SWEEPS = 100
_SETTLED = 1e-3  # greatest natural logarithm of a scale at which the sweeps end
_Key = tuple[int, int]


class ChannelClip(nn.Module):
    """ReLU6 between equalized layers: ``min(max(x_c, 0), 6 / s_c)``, which is ``ReLU6(s_c x_c) / s_c``.

    Args:
        limit: float32 (channels,), where each channel is clipped; greater than 0.
    """

    limit: Tensor

    def __init__(self, limit: Tensor) -> None:
        super().__init__()
        self.register_buffer("limit", limit.view(-1, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values`` (N, channels, H, W) clipped, same shape and dtype."""
        return torch.minimum(functional.relu(values), self.limit)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two convolutions that one tensor's channels connect.

    Attributes:
        first: dotted name of the convolution that makes the channels.
        second: dotted name of the one that alone reads them.
        clips: dotted names of the ReLU6 modules between the two.
    """

    first: str
    second: str
    clips: tuple[str, ...] = ()


def equalized(base: nn.Module, example: Tensor, keep: str | None = None) -> nn.Module:
    """Return a copy of a float network that computes the same with weights of more even channels.

    For each pair of convolutions W1 and W2 in turn, the channel c between them is divided by ``s_c = sqrt(r1_c /
    r2_c)``, where r1_c and r2_c are the greatest absolute weights of W1 that make it and of W2 that read it: W1 and
    its bias are divided by s_c and W2 is multiplied by it, after which both are sqrt(r1_c r2_c). The pairs are gone
    through until no s_c moves, at most 100 times, in float64. A channel without weights on one side stays.

    Args:
        base: float, in eval mode, batch norm folded; left as it was.
        example: one input (1, 3, H, W) by which pairs are found and the change is checked.
        keep: dotted name of a module whose output must stay what it is.

    Raises:
        QuantvizError: the change altered the network's output.
    """
    copied = copy.deepcopy(base)
    pairs = equalizable(copied, example, keep)
    scales = _equalize(copied, pairs)
    for pair, scale in zip(pairs, scales, strict=True):
        for name in pair.clips:
            parent, _, child = name.rpartition(".")
            setattr(copied.get_submodule(parent), child, ChannelClip((6 / scale).float()))
    check_same(base, copied, example, "Cross-layer equalization", "leave equalize out")
    return copied.eval()


def equalizable(model: nn.Module, example: Tensor, keep: str | None = None) -> list[Pair]:
    """Return the pairs of convolutions that can be scaled against each other, in order of execution.

    Pairs are found by running the model once, without tracing it: the second convolution receives the very tensor
    that the first returned, or what identities, ReLU, leaky ReLU, ReLU6 and poolings made of it, and nothing else,
    be it a module or a function, reads any tensor on the way. A convolution or ReLU6 that runs twice is part of none.

    Args:
        model: in eval mode.
        example: one input (1, 3, H, W).
        keep: dotted name of a module whose output must not be scaled.
    """
    names = {module: name for name, module in model.named_modules()}
    watch = _Watch(names, keep)
    handles = [module.register_forward_pre_hook(watch.before) for module in names]
    handles += [module.register_forward_hook(watch.after) for module in names]
    with hooks(handles), torch.no_grad(), watch:
        model(example)
    return [pair for start in watch.starts if (pair := watch.pair(start)) is not None]


@dataclass(slots=True)
class _State:
    """A tensor at one version: who made it, who reads it, and what an activation makes of it."""

    maker: str
    readers: list[str] = field(default_factory=list)
    after: _Key | None = None


class _Watch(TorchFunctionMode):
    """Follows tensors through a forward pass: modules by hooks, functions between modules as a torch function mode."""

    def __init__(self, names: Mapping[nn.Module, str], keep: str | None) -> None:
        super().__init__()
        self._names, self._keep = names, keep
        self._modules = {name: module for module, name in names.items()}
        self._inside = 0
        self._runs: Counter[str] = Counter()
        self._states: dict[_Key, _State] = {}
        self._alive: list[Tensor] = []  # an id is a tensor's own for only as long as it lives
        self._kept: set[_Key] = set()
        self.starts: list[_Key] = []

    def before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See what a module without children reads."""
        if any(module.children()):
            return
        self._inside += 1
        self._runs[self._names[module]] += 1
        for value in inputs:
            self._read(value, self._names[module])
        # An activation in place returns the tensor that it read, which by then has another version.
        module.__dict__["_read_key"] = _key(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else None

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """See what a module returns."""
        name = self._names[module]
        if not any(module.children()):
            self._inside -= 1
            read = module.__dict__.pop("_read_key")
            if isinstance(output, Tensor):
                self._made(module, name, read, output)
        if name == self._keep and isinstance(output, Tensor):
            self._kept.add(_key(output))

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See what a function between modules reads; asking a tensor for its shape is no reading."""
        if not self._inside and getattr(function, "__name__", "") != "__get__":
            self._read([*args, *(kwargs or {}).values()], "")
        return function(*args, **(kwargs or {}))

    def pair(self, start: _Key) -> Pair | None:
        """Return the pair that begins with the convolution's output ``start``, if there is one."""
        first, key = self._states[start].maker, start
        clips: list[str] = []
        while len(self._states[key].readers) == 1 and key not in self._kept:
            reader = self._states[key].readers[0]
            scaled = isinstance(self._modules.get(reader), nn.Conv2d | nn.ReLU6)
            if scaled and (self._runs[reader] > 1 or self._runs[first] > 1):
                return None
            if isinstance(self._modules.get(reader), nn.Conv2d):
                return Pair(first, reader, tuple(clips))
            if scaled:
                clips.append(reader)
            following = self._states[key].after
            if following is None:
                return None
            key = following
        return None

    def _read(self, value: Any, reader: str) -> None:
        if isinstance(value, Tensor):
            state = self._states.get(_key(value))
            if state is not None:
                state.readers.append(reader)
        elif isinstance(value, list | tuple):
            for part in value:
                self._read(part, reader)

    def _made(self, module: nn.Module, name: str, read: _Key | None, output: Tensor) -> None:
        key = _key(output)
        if isinstance(module, nn.Conv2d):
            self.starts.append(key)
        elif read not in self._states:
            return
        elif key == read:  # handed on unchanged: neither a reader nor a maker
            self._states[key].readers.remove(name)
            return
        elif isinstance(module, (*_HOMOGENEOUS, nn.ReLU6)):
            self._states[read].after = key
        else:
            return
        self._alive.append(output)
        self._states[key] = _State(name)


def _key(tensor: Tensor) -> _Key:
    return id(tensor), tensor._version


def _equalize(model: nn.Module, pairs: list[Pair]) -> list[Tensor]:
    """Scale the pairs' weights in place and return each pair's scales s, float64 (channels,)."""
    modules = dict(quantized_layers(model))
    convs = {name: _conv(modules[name]) for pair in pairs for name in (pair.first, pair.second)}
    scales = _scales(convs, pairs)
    # A convolution is the first of one pair at most, and the second of one.
    weights = {name: conv.weight.detach().double() for name, conv in convs.items()}
    for pair, scale in zip(pairs, scales, strict=True):
        weights[pair.first] = weights[pair.first] / scale.view(-1, 1, 1, 1)
        weights[pair.second] = _scaled(convs[pair.second], weights[pair.second], scale)
        first = convs[pair.first]
        if first.bias is not None:
            first.bias = nn.Parameter((first.bias.double() / scale).to(first.bias.dtype), requires_grad=False)
    for name, conv in convs.items():
        conv.weight = nn.Parameter(weights[name].to(conv.weight.dtype), requires_grad=False)
    return scales


def _scales(convs: Mapping[str, nn.Conv2d], pairs: list[Pair]) -> list[Tensor]:
    """Return the scales at which the sweeps end."""
    peaks = {name: conv.weight.detach().double().abs().amax((2, 3), keepdim=True) for name, conv in convs.items()}
    scales = [torch.ones(len(peaks[pair.first]), dtype=torch.float64) for pair in pairs]
    for _sweep in range(_SWEEPS):
        moved = 0.0
        for pair, scale in zip(pairs, scales, strict=True):
            second = convs[pair.second]
            made = peaks[pair.first].flatten(1).amax(1)
            read = _by_input(second, peaks[pair.second]).amax((1, 3, 4)).flatten()
            step = torch.where((made > 0) & (read > 0), (made / read).sqrt(), torch.ones_like(made))
            peaks[pair.first] /= step.view(-1, 1, 1, 1)
            peaks[pair.second] = _scaled(second, peaks[pair.second], step)
            scale *= step
            moved = max(moved, float(step.log().abs().max()))
        if moved < _SETTLED:
            break
    return scales


def _conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _scaled(conv: nn.Conv2d, weight: Tensor, scale: Tensor) -> Tensor:
    """Return a weight with each input channel multiplied by its scale."""
    grouped = _by_input(conv, weight)
    return (grouped * scale.view(len(grouped), 1, -1, 1, 1)).view(weight.shape)


def _by_input(conv: nn.Conv2d, weight: Tensor) -> Tensor:
    """Return a weight as (groups, out_channels / groups, in_channels / groups, height, width)."""
    return weight.view(conv.groups, -1, *weight.shape[1:])
