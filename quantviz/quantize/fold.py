"""Batch norm into the convolution that feeds it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import hooks, sharing
from quantviz.specs import QuantvizError

_TOLERANCE = 1e-3


def folded(model: nn.Module, example: Tensor, keep: str | None = None) -> nn.Module:
    """Return a copy of a float model, batch norm folded, in eval mode, without gradients for its parameters.

    What is not folded lies in the memory of the model's own parameters (``sharing``).

    Args:
        model: float, in eval mode; left as it was.
        example: one input (1, 3, H, W), by which batch norms are matched and the fold is checked.
        keep: as in ``fold_batch_norm``.

    Raises:
        QuantvizError: folding changed the model's output.
    """
    copied = sharing(model).eval()
    fold_batch_norm(copied, example, keep)
    check_same(model, copied, example, "Folding batch norm", "use other weights")
    return copied


def check_same(model: nn.Module, changed: nn.Module, example: Tensor, what: str, instead: str) -> None:
    """Refuse a change that ought to keep the model's function and did not.

    Raises:
        QuantvizError: the outputs differ by more than 1e-3 of the greatest logit.
    """
    with torch.no_grad():
        before, after = model(example), changed(example)
    error = float((before - after).abs().max() / before.abs().max().clamp_min(1e-12))
    if not error < _TOLERANCE:
        raise QuantvizError(f"{what} changed the output by {error:.2g} of its range; {instead}.")


def fold_batch_norm(model: nn.Module, example: Tensor, keep: str | None = None) -> list[tuple[str, str]]:
    """Fold each batch norm into the convolution that feeds it, in place.

    Pairs are found by running the model once: a batch norm belongs to a convolution when it receives the very
    tensor, unchanged, that the convolution returned, and nothing else of the model's modules does. This needs no
    tracing, so it works for models that cannot be traced. The arithmetic is done in float64.

    Args:
        model: in eval mode.
        example: one input (1, 3, H, W).
        keep: dotted name of a module whose output must stay what it is.

    Returns:
        The folded pairs of names (convolution, batch norm), in execution order.
    """
    pairs = conv_norm_pairs(model, example, keep)
    for conv_name, norm_name in pairs:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _fold_pair(conv, norm)
        parent, _, child = norm_name.rpartition(".")
        setattr(model.get_submodule(parent), child, _without_norm(norm))
    return pairs


def _fold_pair(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    offset = -norm.running_mean.double() * gain
    if norm.bias is not None:
        offset = offset + norm.bias.double()
    if conv.bias is not None:
        offset = offset + conv.bias.double() * gain
    weight = (conv.weight.double() * gain[:, None, None, None]).to(conv.weight.dtype)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(offset.to(weight.dtype), requires_grad=False)


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what is left of a folded batch norm: timm's classes carry the activation inside."""
    rest = OrderedDict((name, child) for name, child in norm.named_children())
    return nn.Sequential(rest) if rest else nn.Identity()


def conv_norm_pairs(model: nn.Module, example: Tensor, keep: str | None = None) -> list[tuple[str, str]]:
    """Return the names of each convolution and of the batch norm that alone reads it, in execution order.

    Args:
        model: in eval mode.
        example: one input (1, 3, H, W).
        keep: dotted name of a module whose output no pair may make.
    """
    produced: dict[int, tuple[str, Tensor, int]] = {}
    readers: dict[int, list[str]] = {}
    kept: list[Tensor] = []
    names = {module: name for name, module in model.named_modules()}

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        source = produced.get(id(inputs[0])) if inputs else None
        # timm's batch norms have children (drop and activation), and read their input themselves all the same.
        reads = isinstance(module, nn.BatchNorm2d) or not any(module.children())
        if source is not None and reads:
            unchanged = source[2] == inputs[0]._version
            readers.setdefault(id(inputs[0]), []).append(names[module] if unchanged else "")

    def after(module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            produced[id(output)] = (names[module], output, output._version)
        if names[module] == keep:
            kept.append(output)

    modules = list(names)
    handles = [module.register_forward_pre_hook(before) for module in modules]
    handles += [module.register_forward_hook(after) for module in modules]
    with hooks(handles), torch.no_grad():
        model(example)
    pairs = []
    for identity, (conv, tensor, _version) in produced.items():
        norm = readers.get(identity, [])
        if len(norm) == 1 and norm[0] and isinstance(model.get_submodule(norm[0]), nn.BatchNorm2d):
            if not any(tensor is output for output in kept):
                pairs.append((conv, norm[0]))
    return pairs
