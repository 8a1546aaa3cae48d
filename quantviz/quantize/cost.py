"""What a quantized network costs: stored bytes, multiply-accumulates, bit operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import QUANTIZED, hooks, quantized_layers
from quantviz.quantize.reading import counted_products
from quantviz.specs import Cost, LayerCost, QuantSpec

_FLOAT_BITS = 32
_FLOAT_BYTES = 4


def layer_costs(base: nn.Module, example: Tensor) -> tuple[LayerCost, ...]:
    """Return what each quantized layer costs, in the order in which a forward pass first reaches them.

    A convolution with weight (O, I / g, k, l) and output (O, h, w) takes O I / g k l h w multiply-accumulates; a
    linear layer its weights times the number of positions. A layer that runs several times has the sum. Products of
    activations (``reading``) are counted with the layer that ran before. Layers that never run (auxiliary classifiers)
    are left out.

    Args:
        base: from ``float_base``.
        example: one input (1, 3, H, W), float32; the network is run on it once.
    """
    macs: dict[str, int] = {}

    def count(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            positions = prod(output.shape[2:]) if isinstance(module, nn.Conv2d) else prod(output.shape[:-1])
            macs[name] = macs.get(name, 0) + positions * module.get_parameter("weight").numel()

        return hook

    layers = dict(quantized_layers(base))
    handles = [layer.register_forward_hook(count(name)) for name, layer in layers.items()]
    with hooks(handles), torch.no_grad(), counted_products() as products:
        base(example)
    return tuple(_layer_cost(name, layers[name], number, products.get(name, 0)) for name, number in macs.items())


def other_values(base: nn.Module) -> int:
    """Return the number of float values that a network stores beside its convolution and linear layers.

    Parameters and buffers of floating point: batch norms that could not be folded, learned scales, position
    embeddings.
    """
    inside = {id(value) for module in base.modules() if isinstance(module, QUANTIZED) for value in module.parameters()}
    values = {id(value): value for value in (*base.parameters(), *base.buffers())}
    return sum(value.numel() for key, value in values.items() if key not in inside and value.is_floating_point())


def cost(layers: Sequence[LayerCost], quant: QuantSpec, other_values: int) -> Cost:
    """Return what a network costs when its layers are quantized by ``quant``.

    Counted as stored: each weight at its bits, packed layer by layer and filled up to whole bytes; for a rounded
    weight a float32 scale for each channel (one where per-tensor) and, where affine, as many zero points at the
    weight's bits; for a rounded input one float32 scale and, where affine, one zero point at the input's bits; biases,
    also those that learning adds, weights left in float, and everything else as float32. Bit operations are MACs x
    weight bits x activation bits, of products of activations MACs x activation bits x activation bits, as in Baskin et
    al. 2021 (UNIQ, arXiv 1804.10969) without the accumulator's term; float counts as 32 bits.

    Args:
        layers: from ``layer_costs``.
        quant: bit-widths and scheme.
        other_values: from the function of this name.
    """
    total = float_total = _FLOAT_BYTES * other_values
    bops = float_bops = macs = 0
    for layer in layers:
        weight_bits, act_bits = quant.bits_of(layer.name)
        total += _stored(layer, quant, weight_bits, act_bits)
        float_total += _FLOAT_BYTES * (layer.weights + layer.biases)
        macs += layer.macs + layer.products
        bops += layer.macs * (weight_bits or _FLOAT_BITS) * (act_bits or _FLOAT_BITS)
        bops += layer.products * (act_bits or _FLOAT_BITS) ** 2
        float_bops += (layer.macs + layer.products) * _FLOAT_BITS**2
    return Cost(total, float_total, macs, bops, float_bops)


def _stored(layer: LayerCost, quant: QuantSpec, weight_bits: int | None, act_bits: int | None) -> int:
    """Return the bytes of one layer: weight, bias, and the grids of weight and input."""
    biases = layer.biases
    if weight_bits is not None and (quant.rounding == "distilled" or quant.bias_correction):
        biases = layer.channels  # a layer without a bias gets one
    size = _FLOAT_BYTES * biases
    if weight_bits is None:
        size += _FLOAT_BYTES * layer.weights
    else:
        scales = layer.channels if quant.granularity == "per_channel" else 1
        size += ceil(layer.weights * weight_bits / 8) + _FLOAT_BYTES * scales
        if quant.scheme == "affine":
            size += ceil(scales * weight_bits / 8)
    if act_bits is not None:
        size += _FLOAT_BYTES + (ceil(act_bits / 8) if quant.act_scheme == "affine" else 0)
    return size


def _layer_cost(name: str, layer: nn.Conv2d | nn.Linear, macs: int, products: int) -> LayerCost:
    kind = "linear"
    if isinstance(layer, nn.Conv2d):
        kind = "depthwise" if layer.groups > 1 and layer.weight.shape[1] == 1 else "conv"
    biases = 0 if layer.bias is None else layer.bias.numel()
    return LayerCost(name, kind, layer.weight.numel(), biases, layer.weight.shape[0], macs, products)
