"""A module in memory as a network: its target layer, its weights' digest, and running it without leaving a trace."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantviz.networks.network import Network
from quantviz.specs import GivenQuant, Preprocessing, UsageError, WeightsRef

_POOLING = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.FractionalMaxPool2d),
    *(nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
)
_OBSERVED = "observer_enabled"


def network_of(
    module: nn.Module,
    example: Tensor,
    preprocessing: Preprocessing,
    *,
    layer: str | nn.Module | None = None,
    classes: Sequence[str] = (),
    name: str = "",
    quant: GivenQuant | None = None,
    notes: tuple[str, ...] = (),
) -> Network:
    """Return a classifier in memory as a network that maps can be taken of.

    Runs the module once. Call it, and whatever runs the network, inside ``untouched``.

    Args:
        module: takes (N, 3, H, W) float32 on the CPU and gives logits (N, classes) float32.
        example: one input (1, 3, H, W).
        preprocessing: how a picture becomes its input.
        layer: the target layer, by its dotted name or as the module itself; None: the first of ``last_feature_layers``.
        classes: names of the classes, in the order of the logits; empty where they are not known.
        name: for display; "" for the module's class.
        quant: what is known of how it is quantized; None for a float network.
        notes: what a reader of its results must know.

    Raises:
        UsageError: the module is not on the CPU in float32, gives no logits, or has no such layer.
    """
    check_module(module)
    count, groups = _run(module, example)
    if classes and len(classes) != count:
        raise UsageError(
            f"{len(classes)} class names were given, but {type(module).__name__} gives {count} logits; "
            "give one name for each."
        )
    target = _last(groups)[0] if layer is None else layer_name(module, layer)
    ref = WeightsRef("memory", name or type(module).__name__, state_digest(module), preprocessing, count)
    return Network(ref.name, module, target, ref, classes=tuple(classes), quant=quant, notes=notes)


def last_feature_layers(module: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Return the names of the layers that give the last feature map before pooling, the innermost first.

    A feature map is a (1, C, h, w) tensor with h and w above 1 and the input's aspect ratio, given by a module that is
    called once in a forward pass. What a pooling layer gives does not count, nor do maps with a channel for each class.
    All names that are returned stand for the same tensor.

    Args:
        module: in ``untouched``; run once.
        example: one input (1, 3, H, W).

    Raises:
        UsageError: there is none, or tokens (1, n, C) follow it, as in a vision transformer; or the
            module gives no logits.
    """
    return _last(_run(module, example)[1])


def layer_name(module: nn.Module, layer: str | nn.Module) -> str:
    """Return the dotted name of a layer of a module.

    Args:
        module: the network.
        layer: the layer itself, or its name.

    Raises:
        UsageError: it is no layer of this module.
    """
    kind = type(module).__name__
    if isinstance(layer, nn.Module):
        path: str | None = next((name for name, inner in module.named_modules() if inner is layer and name), None)
        if path is None:
            raise UsageError(
                f"The {type(layer).__name__} given as layer is not part of {kind}; give one of its modules."
            )
        return path
    names = [name for name, _ in module.named_modules() if name]
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4) or names[-3:]
        raise UsageError(f"Layer {layer!r} does not exist in {kind}; name one of its layers ({', '.join(near)}, ...).")
    return layer


def check_module(module: nn.Module) -> None:
    """Refuse a module that maps cannot be taken of here.

    Raises:
        UsageError: it is compiled to TorchScript, or a weight is not on the CPU or not in float32.
    """
    kind = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(f"{kind} is a TorchScript module, whose layers cannot be watched; give the Python module.")
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.device.type != "cpu":
            raise UsageError(f"{name} of {kind} is on {value.device}; move the module by .cpu() first.")
        if value.is_floating_point() and value.dtype not in (torch.float32, torch.float64):
            raise UsageError(f"{name} of {kind} is {value.dtype}; convert the module by .float() first.")


def state_digest(module: nn.Module) -> str:
    """Return the sha256 in hex of the names and values of a module's state."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + b"\0")
        for part in _parts(value):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Let a module be run in eval mode for the length of a block, and leave it as it was.

    Modes and buffers are put back. Observers of torch's ``prepare_qat`` and ``prepare`` watch nothing meanwhile: the
    network is taken as it is, and does not move with the picture.

    Args:
        module: any; the caller sees to it that no other thread runs it.

    Raises:
        UsageError: an observer has seen nothing yet, so that its layer has no scale.
    """
    training = [inner for inner in module.modules() if inner.training]
    buffers = [
        (inner, name, buffer, buffer.clone(), buffer._version)
        for inner in module.modules()
        for name, buffer in inner._buffers.items()
        if buffer is not None
    ]
    try:
        _hold_observers(module)
        for inner in training:
            inner.training = False  # not by eval(), which a class may have made to do more
        yield
    finally:
        for inner in training:
            inner.training = True
        with torch.no_grad():
            for inner, name, buffer, before, version in buffers:
                inner._buffers[name] = buffer
                if buffer._version != version:
                    buffer.resize_(before.shape).copy_(before)


def _hold_observers(module: nn.Module) -> None:
    for name, inner in module.named_modules():
        enabled = inner._buffers.get(_OBSERVED)
        if enabled is None or not bool(enabled.any()):
            continue
        least = getattr(getattr(inner, "activation_post_process", None), "min_val", None)
        if isinstance(least, Tensor) and (least.numel() == 0 or bool(torch.isinf(least).any())):
            raise UsageError(
                f"The observer {name!r} of {type(module).__name__} has seen no data, so that its layer has no scale; "
                "run some pictures through the module first."
            )
        enabled.zero_()


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers that give one tensor in a forward pass.

    Attributes:
        names: in the order in which they end, so the innermost first.
        feature: it is a feature map; see ``last_feature_layers``.
        tokens: it is (1, n, C).
    """

    names: tuple[str, ...]
    feature: bool
    tokens: bool


def _run(module: nn.Module, example: Tensor) -> tuple[int, list[_Group]]:
    """Return the number of logits, and the layers grouped by the tensor that they give, in execution order."""
    seen: list[tuple[str, nn.Module, Tensor, int]] = []
    handles = []

    def note(name: str, inner: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((name, inner, output, output._version))

    for name, inner in module.named_modules():
        if name:
            handles.append(inner.register_forward_hook(lambda inner, _, output, name=name: note(name, inner, output)))
    try:
        with torch.no_grad():
            logits = module(example)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        given = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(
            f"{type(module).__name__} gives {given} in place of logits (1, classes); wrap it in a module that returns "
            "them."
        )
    return int(logits.shape[1]), _groups(seen, example, int(logits.shape[1]))


def _groups(seen: Sequence[tuple[str, nn.Module, Tensor, int]], example: Tensor, classes: int) -> list[_Group]:
    calls = Counter(name for name, *_ in seen)
    by_tensor: dict[tuple[int, int], list[tuple[str, nn.Module, Tensor]]] = {}
    for name, inner, output, version in seen:  # all are held, so that no two have the same id
        by_tensor.setdefault((id(output), version), []).append((name, inner, output))
    groups = []
    for entries in by_tensor.values():
        output, names = entries[0][2], tuple(name for name, *_ in entries if calls[name] == 1)
        pooled = any(isinstance(inner, _POOLING) for _, inner, _ in entries)
        feature = bool(names) and not pooled and _is_feature_map(output, example) and output.shape[1] != classes
        groups.append(_Group(names, feature, tokens=output.ndim == 3 and output.shape[1] > 1))
    return groups


def _is_feature_map(output: Tensor, example: Tensor) -> bool:
    if output.ndim != 4 or min(output.shape[2:]) <= 1:
        return False
    (height, width), (down, across) = output.shape[2:], example.shape[2:]
    return abs(height * across / down - width) <= 1 + 0.1 * width  # else channels are last, as in Swin


def _last(groups: Sequence[_Group]) -> tuple[str, ...]:
    places = [place for place, group in enumerate(groups) if group.feature]
    if not places:
        raise UsageError("The module has no layer with a feature map (1, C, h, w); name the target layer by layer=.")
    if any(group.tokens for group in groups[places[-1] + 1 :]):
        raise UsageError(
            f"Tokens follow the last feature map ({groups[places[-1]].names[0]}), as in a vision transformer; maps "
            "there would not say what the class rests on. Name the target layer by layer= if you want one."
        )
    return groups[places[-1]].names


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the bytes of a state's entry: a tensor, or what quantized modules pack."""
    if isinstance(value, Tensor):
        if value.is_quantized:
            yield f"{value.dtype} {value.qscheme()}".encode()
            value = value.int_repr()
        yield value.detach().contiguous().numpy().tobytes()
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _parts(part)
    else:
        yield repr(value).encode()
