"""A module in memory as a network: its target layer, its weights' digest, and running it without leaving a trace."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quantviz.networks.network import Network
from quantviz.networks.structure import Structure, pooled_layer, structure_of
from quantviz.specs import LAYOUT, GivenQuant, Preprocessing, UsageError, WeightsRef

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

    Runs the module up to three times. Call it, and whatever runs the network, inside ``untouched``.

    Args:
        module: takes (N, 3, H, W) float32 on the CPU and gives logits (N, classes) float32.
        example: one input (1, 3, H, W).
        preprocessing: how a picture becomes its input.
        layer: the target layer, by its dotted name or as the module itself; None: ``structure.pooled_layer``.
            Where its output is no (N, C, h, w) tensor, the layer carries its layout until ``untouched`` ends.
        classes: names of the classes, in the order of the logits; empty where they are not known.
        name: for display; "" for the module's class.
        quant: what is known of how it is quantized; None for a float network.
        notes: what a reader of its results must know.

    Raises:
        UsageError: the module is not on the CPU in float32, gives no logits, or has no such layer.
    """
    check_module(module)
    structure = structure_of(module, example)
    count = structure.classes
    if classes and len(classes) != count:
        raise UsageError(
            f"{len(classes)} class names were given, but {type(module).__name__} gives {count} logits; "
            "give one name for each."
        )
    target = _target(module, example, layer, structure)
    ref = WeightsRef("memory", name or type(module).__name__, state_digest(module), preprocessing, count)
    return Network(ref.name, module, target, ref, classes=tuple(classes), quant=quant, notes=notes)


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

    Modes and buffers are put back, and layouts of grids are taken off.
    Observers of torch's ``prepare_qat`` and ``prepare`` watch nothing meanwhile: the
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
        for inner in module.modules():
            vars(inner).pop(LAYOUT, None)
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


def _target(module: nn.Module, example: Tensor, layer: str | nn.Module | None, structure: Structure) -> str:
    """Return the name of the target layer, which then carries its layout."""
    if layer is None:
        grid = pooled_layer(module, example, structure)
        name = grid.names[0]
    else:
        name = layer_name(module, layer)
        found = [entry for entry in structure.layers if name in entry.names]
        if not found:
            raise UsageError(
                f"Layer {name!r} of {type(module).__name__} gives no grid of places, or is called more than once; name "
                f"another, such as {pooled_layer(module, example, structure).names[0]}."
            )
        grid = found[0]
    if grid.layout is not None:
        setattr(module.get_submodule(name), LAYOUT, grid.layout)
    return name


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the bytes of a state's entry: a tensor, or what quantized modules pack."""
    if isinstance(value, Tensor) and hasattr(value, "__tensor_flatten__"):  # torchao's, of integers and scales
        names, settings = value.__tensor_flatten__()
        yield f"{type(value).__name__} {settings}".encode()
        for name in names:
            yield from _parts(getattr(value, name))
    elif isinstance(value, Tensor):
        if value.is_quantized:
            yield f"{value.dtype} {value.qscheme()}".encode()
            value = value.int_repr()
        yield value.detach().contiguous().numpy().tobytes()
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _parts(part)
    else:
        yield repr(value).encode()
