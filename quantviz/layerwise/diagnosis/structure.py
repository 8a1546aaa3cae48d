"""What of two networks in torch does not show in a tensor's values: operators, shapes, batch norms, joined branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantviz.layerwise.diagnosis.specs import Finding, TensorFigures
from quantviz.quantize import conv_norm_pairs, hooks, quantized_layers

_JOINING = (torch.cat, torch.concat, torch.concatenate)
_OF_CONVOLUTIONS = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


def module_findings(
    reference: nn.Module,
    quantized: nn.Module,
    tensors: Sequence[TensorFigures],
    example: Tensor,
    kept: str | None = None,
) -> list[Finding]:
    """Return what the structure of a quantized network shows beside the float one.

    Args:
        reference: the float network, in eval mode.
        quantized: its quantized copy.
        tensors: of ``diagnose_modules``.
        example: one input (1, 3, H, W).
        kept: the target layer, whose own output keeps its batch norm apart by design.
    """
    found = list(_changed_layers(reference, quantized))
    found += _unfolded(quantized, example, kept)
    # What stays in float behind a changed or a split layer says nothing more.
    return found + list(left_in_float(tensors))


def left_in_float(tensors: Sequence[TensorFigures]) -> Iterator[Finding]:
    """Yield the layers whose weight and input stay in float between layers that are quantized.

    The first and the last layer are often left in float on purpose, and a network of which most is float is not
    quantized by mistake.
    """
    layers: dict[str, list[TensorFigures]] = {}
    for entry in tensors:
        if entry.site.role != "bias":
            layers.setdefault(entry.site.layer, []).append(entry)
    names = list(layers)
    in_float = {name for name, entries in layers.items() if all(entry.site.bits is None for entry in entries)}
    weighted = {name for name, entries in layers.items() if any(entry.site.role == "weight" for entry in entries)}
    if len(in_float) * 2 > len(names):
        return
    for name in names[1:-1]:
        if name in in_float and name in weighted:
            sentence = (
                f"Layer {name} computes in float, while {len(names) - len(in_float)} of {len(names)} layers are "
                "quantized: values are converted before and after it."
            )
            yield Finding("left_in_float", layers[name][0].name, {"layers_in_float": float(len(in_float))}, sentence)


def _changed_layers(reference: nn.Module, quantized: nn.Module) -> Iterator[Finding]:
    others = dict(quantized_layers(quantized))
    for name, layer in quantized_layers(reference):
        other = others.get(name)
        if not isinstance(layer, nn.Conv2d) or not isinstance(other, nn.Conv2d):
            continue
        for attribute in _OF_CONVOLUTIONS:
            first, second = getattr(layer, attribute), getattr(other, attribute)
            if first != second:
                sentence = f"Layer {name} has {attribute} {first} in float and {second} in the quantized network."
                yield Finding("graph_differs", f"{name}.input", {}, sentence)
                break


def _unfolded(quantized: nn.Module, example: Tensor, kept: str | None) -> Iterator[Finding]:
    for conv, norm in conv_norm_pairs(quantized, example, kept):
        sentence = (
            f"Batch norm {norm} stands behind {conv} in the quantized network: the convolution is rounded before its "
            "channels are scaled."
        )
        yield Finding("batch_norm_not_folded", f"{conv}.weight", {}, sentence)


def blocks_of(network: nn.Module, example: Tensor) -> Mapping[str, Sequence[int]]:
    """Return the numbers of channels of the branches that were concatenated to what a layer reads.

    Args:
        network: in eval mode.
        example: one input (1, 3, H, W).

    Returns:
        ``LAYER.input`` -> channels of each branch, for inputs that a concatenation gave, or that operations between
        the two only passed on channel by channel.
    """
    watch = _Joined()
    found: dict[str, list[int]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            blocks = watch.blocks(inputs[0])
            if blocks is not None:
                found[f"{name}.input"] = blocks

        return before

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in quantized_layers(network)]
    with hooks(handles), torch.no_grad(), watch:
        network(example)
    return found


class _Joined(TorchFunctionMode):
    """Follows what concatenations of channels gave through operations that keep channels."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[int, list[int]] = {}
        self._alive: list[Tensor] = []

    def blocks(self, values: Any) -> list[int] | None:
        return self._blocks.get(id(values))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or result.ndim != 4:
            return result
        if func in _JOINING:
            parts, axis = args[0], args[1] if len(args) > 1 else (kwargs or {}).get("dim", 0)
            if axis in (1, -3):
                self._keep(result, [part.shape[1] for part in parts])
            return result
        # Convolutions mix channels, even where they give as many.
        source = self.blocks(args[0]) if args and func not in (torch.conv2d, nn.functional.conv2d) else None
        if source is not None and sum(source) == result.shape[1]:
            self._keep(result, source)
        return result

    def _keep(self, values: Tensor, blocks: list[int]) -> None:
        self._blocks[id(values)] = blocks
        self._alive.append(values)  # so that no other tensor gets its id
