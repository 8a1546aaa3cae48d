"""Float model -> quantized copy that simulates integer arithmetic and stays differentiable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import quantized_layers, sharing
from quantviz.quantize.equalize import equalized
from quantviz.quantize.fold import check_same, folded
from quantviz.quantize.grids import Grid, InputQuantizer, WeightGrid, activation_grid, weight_grid
from quantviz.quantize.ranges import Ranges
from quantviz.quantize.reading import lead_through, readings
from quantviz.specs import LayerBits, QuantSpec, UsageError, headroom

_FINE_BITS = 8
_AT_ONCE = 1 << 20  # weights that are rounded in one step: the steps between take several times their memory
_ROUNDED = "_quantviz_rounded"


@dataclass(frozen=True, slots=True, eq=False)
class LearnedLayer:
    """A layer's weight where it is not just rounded to the nearest integer, and its bias.

    Attributes:
        grid: the weight's declared grid.
        integers: int32, the weight's shape, in [quant_min, quant_max].
        bias: float32 (out_channels,), or None for the layer's own.
    """

    grid: WeightGrid
    integers: Tensor
    bias: Tensor | None = None


def float_base(model: nn.Module, spec: QuantSpec, example: Tensor, layer: str | None = None) -> nn.Module:
    """Return the float network that is rounded: batch norm folded, layers equalized if ``spec`` says so.

    Products of activations and the outputs of layer norms are led through readings (``reading``). It computes what
    ``model`` computes and keeps every module's name; its weights lie in memory channels last. A
    convolution whose own output is the map's target keeps its batch norm apart, so that the target means the same in
    both models; on a symmetric per-channel grid this changes nothing but rounding of float32, as each channel's scale
    absorbs the batch norm's gain.

    Args:
        model: float, in eval mode; left as it was.
        spec: how it is going to be quantized.
        example: one input (1, 3, H, W) by which the change is checked.
        layer: dotted name of the CAM target layer, or None.

    Raises:
        QuantvizError: the change altered the model's output.
    """
    base = folded(model, example, keep=layer)
    base = equalized(base, example, keep=layer) if spec.equalize else base
    if lead_through(base, example):
        check_same(model, base, example, "Taking attention apart", "use another network")
    # On a CPU no network of the zoo is slower so, and some take two thirds of the time (measured).
    return base.to(memory_format=torch.channels_last)


def assemble(
    base: nn.Module, spec: QuantSpec, ranges: Ranges, learned: Mapping[str, LearnedLayer] | None = None
) -> nn.Module:
    """Return a quantized copy of the float network that ``float_base`` made.

    Args:
        base: from ``float_base``; left as it was.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on ``base``.
        learned: from ``learn`` on ``base``, where weights are not just rounded to the nearest integer.

    Returns:
        The network. Each layer whose weight was rounded holds its ``WeightGrid`` as ``weight_grid``, and each whose
        input is rounded, and each ``Reading``, an ``InputQuantizer`` as ``input_quantizer``. A reading has the bits of
        the layer before it.

    Raises:
        QuantvizError: a layer was never calibrated.
        UsageError: ``spec`` gives bit-widths to a layer that does not exist.
    """
    copied = sharing(base)
    layers = quantized_layers(copied)
    unknown = sorted({bits.name for bits in spec.layer_bits} - {name for name, _ in layers})
    if unknown:
        raise UsageError(f"Layer {unknown[0]!r} is none that is quantized; name a convolution or linear layer.")
    for name, module in layers:
        weight_bits, act_bits = spec.bits_of(name)
        if weight_bits is not None:
            _round_weight(module, spec, weight_bits, (learned or {}).get(name))
        if act_bits is not None:
            module.add_module("input_quantizer", InputQuantizer(input_grid(name, spec, ranges, act_bits)))
            module.register_forward_pre_hook(_quantize_input)
    for name, reading in readings(copied):
        if (act_bits := spec.bits_of(reading.anchor)[1]) is not None:
            reading.add_module("input_quantizer", InputQuantizer(input_grid(name, spec, ranges, act_bits)))
            reading.register_forward_pre_hook(_quantize_input)
    return copied.eval()  # the modules put in are in training mode otherwise


def without_weights(spec: QuantSpec, base: nn.Module) -> QuantSpec:
    """Return what the steps that learn a weight read through: every weight in float, and only coarse inputs rounded.

    Rounding an input to 8 bits or more teaches the weights nothing (measured), and takes as long as the layers do.
    """
    layers = []
    for name, _ in quantized_layers(base):
        act_bits = spec.bits_of(name)[1]
        layers.append(LayerBits(name, None, None if act_bits is None or act_bits >= _FINE_BITS else act_bits))
    return replace(spec, layer_bits=tuple(layers))


def input_grid(name: str, spec: QuantSpec, ranges: Ranges, act_bits: int) -> Grid:
    """Return the grid of a layer's input.

    Raises:
        QuantvizError: the layer was never calibrated.
    """
    limits = ranges.limits_of(name, act_bits, spec.act_scheme)
    low, high = (limit * headroom(act_bits) for limit in limits)
    return activation_grid(low, high, act_bits, spec.act_scheme)


def nearest(weight: Tensor, spec: QuantSpec, bits: int) -> LearnedLayer:
    """Return a weight (out_channels, ...) rounded to the nearest integers of the grid that ``spec`` declares."""
    grid = _grid_of(weight, spec, bits)
    return LearnedLayer(grid, _nearest_integers(grid, weight))


def _grid_of(weight: Tensor, spec: QuantSpec, bits: int) -> WeightGrid:
    least_squares = spec.weight_ranges == "mse"
    return weight_grid(weight, bits, spec.scheme, spec.granularity, least_squares=least_squares)


def put_weight(module: nn.Conv2d | nn.Linear, grid: WeightGrid, integers: Tensor | None = None) -> None:
    """Give a layer the values of integers on a grid as its weight, in memory of its own.

    Args:
        module: keeps its weight's layout in memory: another one may take another kernel, which rounds otherwise.
        grid: of the weight.
        integers: int32, the weight's shape; None: those nearest to the weight.
    """
    weight = module.weight.detach()
    values = torch.empty_like(weight)
    step = max(1, _AT_ONCE // max(1, weight[0].numel()))
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        part = grid.of_rows(rows)
        if integers is None:
            part.round(weight[rows], values[rows])
        else:
            values[rows] = part.values(integers[rows])
    module.weight = nn.Parameter(values, requires_grad=False)


def _nearest_integers(grid: WeightGrid, weight: Tensor) -> Tensor:
    # Rounded first: where a quotient lies next to a half, dividing and the kernel's multiplying may part.
    return grid.integers(grid.round(weight))


def _round_weight(module: nn.Conv2d | nn.Linear, spec: QuantSpec, bits: int, learned: LearnedLayer | None) -> None:
    if learned is None:
        grid = _grid_of(module.weight, spec, bits)
        put_weight(module, grid)
    else:
        grid = learned.grid
        put_weight(module, grid, learned.integers)
        if learned.bias is not None:
            module.bias = nn.Parameter(learned.bias.clone(), requires_grad=False)
    object.__setattr__(module, "weight_grid", grid)


def quantize(model: nn.Module, spec: QuantSpec, ranges: Ranges, example: Tensor, layer: str | None = None) -> nn.Module:
    """Return a quantized copy of a float model: ``float_base`` and ``assemble`` in one, for rounding to nearest.

    Args:
        model: float, in eval mode; left as it was.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on the same model.
        example: one input (1, 3, H, W) by which batch norms are matched with convolutions and the fold is checked.
        layer: dotted name of the CAM target layer, or None.

    Raises:
        QuantvizError: folding changed the model's output, or a layer was never calibrated.
    """
    return assemble(float_base(model, spec, example, layer), spec, ranges)


def _quantize_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    quantizer = module.get_submodule("input_quantizer")
    assert isinstance(quantizer, InputQuantizer)
    return (_rounded_once(inputs[0], quantizer), *inputs[1:])


def _rounded_once(values: Tensor, quantizer: InputQuantizer) -> Tensor:
    """Round a tensor that several layers read on one grid (SqueezeNet's expand, ResNet's downsample) only once.

    What was rounded stands at the tensor itself, and is gone with it.
    """
    recorded = torch.is_grad_enabled() and values.requires_grad
    # A leaf would be held by what was rounded from it, and hold that; other kinds of tensors are being traced.
    if type(values) is not Tensor or values.is_inference() or (recorded and values.is_leaf):
        return quantizer(values)  # type: ignore[no-any-return]
    made_from = (quantizer.grid, values._version, recorded)
    known = getattr(values, _ROUNDED, None)
    if known is None or known[0] != made_from:
        known = (made_from, quantizer(values))
        setattr(values, _ROUNDED, known)
    rounded: Tensor = known[1]
    return rounded
