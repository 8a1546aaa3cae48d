"""The quantization of the published code of arXiv 2403.09939, each of its deviations a switch of its own.

The four that change the network are in ``NETWORK_DEVIATIONS``; ``specs.DEVIATIONS`` says what each means. With all four
on, outputs and grids are those of ``torch.ao.quantization.prepare_qat`` on the eager model, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.grids import Grid, WeightGrid, activation_grid, round_to, weight_grid
from quantviz.quantize.network import float_base
from quantviz.quantize.training import seed_draws, train_mode
from quantviz.specs import QuantSpec, QuantvizError, Scheme, UsageError, headroom, scheme_name, spec_of

NETWORK_DEVIATIONS: Final = ("train_mode", "output_quantizers", "coarse_grids", "online_ranges")
"""The names in ``specs.DEVIATIONS`` that change the network rather than what is asked of it."""

_AVERAGING = 0.01
_EPSILON = torch.finfo(torch.float32).eps
# What prepare_qat puts a fake-quantize module behind; plain ReLU, SiLU, pooling and dropout are not among them.
_OBSERVED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU6, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.LayerNorm)
_UNIT = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)  # their range is known: 0 to 1, on at most 256 steps
_UNIT_BITS = 8


class SiteQuantizer(nn.Module):
    """Rounds what passes one place in the network to a per-tensor grid; the gradient is 1 inside its range, else 0.

    Args:
        bits: 2 to 16.
        scheme: of the grid where it is not coarse.
        coarse: torch's grid on half of the range (``coarse_grid``) in place of the project's own.
        limits: (low, high), frozen; or None: moving averages of the least and greatest value, which the first
            forward pass sets and every one updates.
        unit: the values are known to lie in [0, 1]: the coarse grid is then fixed, as torch has it.
    """

    def __init__(
        self, bits: int, scheme: Scheme, coarse: bool, limits: tuple[float, float] | None, unit: bool = False
    ) -> None:
        super().__init__()
        self.bits, self.scheme, self.coarse = bits, scheme, coarse
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        self.fixed = coarse and unit
        self.online = limits is None and not self.fixed
        self.grid = Grid(1.0, 0, 0, 1)
        if self.fixed:
            levels = 2 ** min(bits, _UNIT_BITS)
            self.grid = Grid(1 / levels, 0, 0, levels - 1)
        elif limits is not None:
            self._cover(torch.tensor(limits[0]), torch.tensor(limits[1]))

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values`` on the grid, same shape and dtype."""
        if self.online:
            self._observe(values.detach())
        return round_to(values, self.grid)

    def _observe(self, values: Tensor) -> None:
        low, high = torch.aminmax(values)
        if self.low is not None and self.high is not None:
            low = self.low + _AVERAGING * (low - self.low)
            high = self.high + _AVERAGING * (high - self.high)
        self._cover(low, high)

    def _cover(self, low: Tensor, high: Tensor) -> None:
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise QuantvizError("A layer read a value that is not finite; use more bits or other weights.")
        self.low, self.high = low, high
        if self.coarse:
            self.grid = coarse_grid(low, high, self.bits)
        else:
            self.grid = activation_grid(float(low), float(high), self.bits, self.scheme)

    def extra_repr(self) -> str:
        """Describe the grid in the printed model."""
        return f"{self.grid}, {'online' if self.online else 'frozen'}"


def coarse_grid(low: Tensor, high: Tensor, bits: int) -> Grid:
    """Return the affine grid that torch's observers make with ``reduce_range``: ``bits`` - 1 bits are used.

    ``scale = max((high - low) / (quant_max - quant_min), eps)`` in float32 with the range widened to contain 0 and
    eps that of float32, ``zero_point = quant_min - round(low / scale)``. Up to 8 bits quant_min is 0, as in
    default_fake_quant; above, the range is signed.

    Args:
        low: float32, no dimensions.
        high: the same.
        bits: 2 to 16.
    """
    steps = 2 ** (bits - 1)
    quant_min = 0 if bits <= _UNIT_BITS else -steps // 2
    quant_max = quant_min + steps - 1
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = ((high - low) / float(steps - 1)).clamp_min(_EPSILON)
    zero_point = quant_min - int(torch.round(low / scale))
    return Grid(float(scale), min(max(zero_point, quant_min), quant_max), quant_min, quant_max)


def coarse_weight_grid(weight: Tensor, bits: int) -> WeightGrid:
    """Return torch's per-tensor symmetric grid on the full signed range, zero_point 0.

    ``scale = max(max |w| / ((quant_max - quant_min) / 2), eps)``, integers from -(2 ** (bits - 1)) to
    2 ** (bits - 1) - 1, as default_weight_fake_quant. The greatest weight is half a step beyond the last integer.

    Args:
        weight: (out_channels, ...), float32.
        bits: 2 to 16.
    """
    low, high = torch.aminmax(weight)
    limit = torch.maximum(-low.clamp_max(0), high.clamp_min(0))
    scale = (limit / (float(2**bits - 1) / 2)).clamp_min(_EPSILON)
    return WeightGrid(scale.view(1), torch.zeros(1, dtype=torch.int32), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def check_protocol(spec: QuantSpec) -> None:
    """Refuse what a protocol with deviations does not define.

    Raises:
        UsageError: learned rounding, equalization, bias correction, or ranges other than min-max, together with a
            deviation that changes the network.
    """
    changed = spec.deviations & set(NETWORK_DEVIATIONS)
    if not changed:
        return
    what, plain = "", QuantSpec(spec.weight_bits, spec.act_bits)
    if spec.rounding != "nearest":
        what = f"Rounding {spec.rounding!r}"
    elif spec.equalize or spec.bias_correction:
        what = "Equalization" if spec.equalize else "Bias correction"
    elif spec.ranges != "minmax":
        what = f"Range setting {spec.ranges!r}"
    elif "coarse_grids" in changed and spec_of(scheme_name(spec), spec.weight_bits, spec.act_bits) != plain:
        what = f"Scheme {scheme_name(spec)!r}"
    if what:
        raise UsageError(
            f"{what} is not defined for the paper's protocol or deviations from it; use the scheme standard with "
            "minmax ranges, or the calibrated protocol."
        )


def paper_base(model: nn.Module, spec: QuantSpec, example: Tensor, layer: str | None = None) -> nn.Module:
    """Return the float network that ``paper`` rounds.

    Batch norm is folded (``float_base``) only if neither ``train_mode`` nor ``output_quantizers`` is on.

    Args:
        model: float, in eval mode; left as it was.
        spec: how it is going to be quantized, with its deviations.
        example: one input (1, 3, H, W) by which folding is checked.
        layer: dotted name of the CAM target layer, or None.

    Raises:
        UsageError: as ``check_protocol``.
        QuantvizError: folding altered the model's output.
    """
    check_protocol(spec)
    if "train_mode" in spec.deviations:
        return train_mode(model)
    if "output_quantizers" in spec.deviations:
        return copy.deepcopy(model).eval().requires_grad_(False)
    return float_base(model, spec, example, layer)


def site_ranges(base: nn.Module, spec: QuantSpec, batches: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """Run the float network over calibration images and return what passes each place that is quantized.

    Args:
        base: from ``paper_base``; left as it was. No other thread may run it meanwhile.
        spec: as in ``paper_base``.
        batches: inputs (N, 3, H, W), float32.

    Returns:
        Module's dotted name -> (least, greatest) value of its input or, with ``output_quantizers``, its output.
    """
    limits: dict[str, tuple[float, float]] = {}

    def note(name: str, values: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(values))
        before = limits.get(name, (low, high))
        limits[name] = min(low, before[0]), max(high, before[1])

    outputs = "output_quantizers" in spec.deviations
    handles = [_attach(module, outputs, _noting(name, note)) for name, module in _sites(base, spec)]
    with hooks(handles), torch.no_grad():
        for batch in batches:
            base(batch)
    return limits


def paper(base: nn.Module, spec: QuantSpec, ranges: Mapping[str, tuple[float, float]] | None = None) -> nn.Module:
    """Return a quantized copy of the float network that ``paper_base`` made.

    Weights: ``coarse_weight_grid`` with ``coarse_grids``, else the grids of ``spec``. Activations are quantized at the
    input of every convolution and linear layer or, with ``output_quantizers``, where prepare_qat does it: at the output
    of convolutions, linear layers, batch norms, ReLU6 and sigmoids, but not of plain ReLU, SiLU, pooling or functions.
    Subclasses count too, which prepare_qat passes over; of a batch norm with a quantized activation inside, only
    the activation's output is quantized.

    Args:
        base: from ``paper_base``; left as it was.
        spec: as in ``paper_base``.
        ranges: from ``site_ranges``; not used with ``online_ranges``. Widened as ``specs.headroom`` says.

    Raises:
        QuantvizError: a place was never calibrated.
    """
    network, on = copy.deepcopy(base), spec.deviations
    outputs, coarse = "output_quantizers" in on, "coarse_grids" in on
    for name, layer in quantized_layers(network):
        if (bits := spec.bits_of(name)[0]) is not None:
            _round_weight(layer, spec, bits, coarse)
    for name, module in _sites(network, spec):
        act_bits = _act_bits(name, module, spec)
        assert act_bits is not None
        limits = None
        if "online_ranges" not in on:
            if name not in (ranges or {}):
                raise QuantvizError(f"Layer {name!r} was not reached during calibration.")
            low, high = (ranges or {})[name]
            limits = low * headroom(act_bits), high * headroom(act_bits)
        quantizer = SiteQuantizer(act_bits, spec.act_scheme, coarse, limits, isinstance(module, _UNIT))
        module.add_module("site_quantizer", quantizer)
        _attach(module, outputs, _quantize_site)
    return network.eval()


@contextmanager
def frozen_observers(network: nn.Module) -> Iterator[None]:
    """Keep the observers of ``online_ranges`` from updating for the length of a block."""
    watching = [quantizer for _, quantizer in quantizers(network) if quantizer.online]
    try:
        for quantizer in watching:
            quantizer.online = False
        yield
    finally:
        for quantizer in watching:
            quantizer.online = True


def after_picture(network: nn.Module, image: Tensor, seed: int) -> nn.Module:
    """Return a copy as it is after one picture: its observers have seen it and watch no longer, its draws are fixed.

    Args:
        network: from ``train_mode`` or ``paper``; left as it was.
        image: (1, 3, H, W) float32.
        seed: of the draws, from now on.
    """
    copied = copy.deepcopy(network)
    seed_draws(copied, seed)
    with torch.no_grad():
        copied(image)
    for _, quantizer in quantizers(copied):
        quantizer.online = False
    return copied


def quantizers(network: nn.Module) -> list[tuple[str, SiteQuantizer]]:
    """Return the activation quantizers of a network that ``paper`` made, by the name of the module they stand at."""
    places = network.named_modules()
    return [(name.rpartition(".")[0], module) for name, module in places if isinstance(module, SiteQuantizer)]


def _sites(network: nn.Module, spec: QuantSpec) -> list[tuple[str, nn.Module]]:
    """Return the modules at which activations are quantized."""
    if "output_quantizers" not in spec.deviations:
        places: list[tuple[str, nn.Module]] = [*quantized_layers(network)]
    else:
        kinds = (*_OBSERVED, *_UNIT)
        places = [
            (name, module)
            for name, module in network.named_modules()
            if isinstance(module, kinds) and not any(isinstance(child, kinds) for child in module.children())
        ]
    return [(name, module) for name, module in places if _act_bits(name, module, spec) is not None]


def _act_bits(name: str, module: nn.Module, spec: QuantSpec) -> int | None:
    return spec.bits_of(name)[1] if isinstance(module, (nn.Conv2d, nn.Linear)) else spec.act_bits


def _round_weight(layer: nn.Conv2d | nn.Linear, spec: QuantSpec, bits: int, coarse: bool) -> None:
    if coarse:
        grid = coarse_weight_grid(layer.weight, bits)
    else:
        least_squares = spec.weight_ranges == "mse"
        grid = weight_grid(layer.weight, bits, spec.scheme, spec.granularity, least_squares=least_squares)
    layer.weight.copy_(grid.round(layer.weight))
    object.__setattr__(layer, "weight_grid", grid)


def _attach(module: nn.Module, output: bool, hook: Callable[..., Any]) -> Any:
    """Call ``hook(module, values)`` with a module's output or first input; what it returns takes their place."""
    if output:
        # First among the hooks, so that a target layer's map is taken of the rounded output.
        return module.register_forward_hook(lambda module, _inputs, values: hook(module, values), prepend=True)
    return module.register_forward_pre_hook(_on_first(hook))


def _on_first(hook: Callable[..., Any]) -> Callable[..., Any]:
    def pre_hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        replaced = hook(module, inputs[0])
        return None if replaced is None else (replaced, *inputs[1:])

    return pre_hook


def _noting(name: str, note: Callable[[str, Tensor], None]) -> Callable[[nn.Module, Tensor], None]:
    return lambda _module, values: note(name, values)


def _quantize_site(module: nn.Module, values: Tensor) -> Tensor:
    quantizer = module.get_submodule("site_quantizer")
    rounded: Tensor = quantizer(values)
    return rounded
