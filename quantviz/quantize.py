"""Float model -> quantized copy that simulates integer arithmetic and stays differentiable.

What is simulated: every convolution and linear layer reads its input on an affine per-tensor integer grid
and holds its weight on a symmetric per-channel integer grid. Batch norm is folded into the convolution before
it. Biases, additions, concatenations, pooling and activation functions stay in float32.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quantviz.specs import QuantSpec, QuantvizError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUANTIZED = (nn.Conv2d, nn.Linear)
_FOLD_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Ranges:
    """The least and greatest value that each quantized layer read during calibration.

    Attributes:
        limits: layer's dotted name -> (low, high), in the units of that layer's input.
        images: number of images seen.
    """

    limits: Mapping[str, tuple[float, float]]
    images: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))


@dataclass(frozen=True, slots=True)
class Grid:
    """An integer grid: real value = scale * (integer - zero_point).

    Attributes:
        scale: step between neighbouring values, greater than 0.
        zero_point: the integer that stands for exactly 0, in [quant_min, quant_max].
        quant_min: least integer.
        quant_max: greatest integer.
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int


def affine_grid(low: float, high: float, bits: int) -> Grid:
    """Return the affine grid of ``2 ** bits`` values that covers [low, high] and holds 0 exactly.

    The range is first widened to contain 0. ``scale = (high - low) / (2 ** bits - 1)`` and
    ``zero_point = round(-low / scale)``, as in Jacob et al. 2018 (arXiv 1712.05877), section 3. An empty range
    (a layer that only ever read zeros) gets scale 1.

    Raises:
        QuantvizError: a limit is not finite.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise QuantvizError(f"The calibrated range [{low}, {high}] is not finite; check the weights and images.")
    quant_max = 2**bits - 1
    # The kernels work in float32: a step below its least normal number would divide by zero there.
    scale = (high - low) / quant_max
    if scale < torch.finfo(torch.float32).tiny:
        scale = 1.0
    return Grid(scale, min(max(round(-low / scale), 0), quant_max), 0, quant_max)


def quantize_weight(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a weight to its symmetric per-channel grid.

    ``scale_c = max |w_c| / (2 ** (bits - 1) - 1)``; integers run from ``-(2 ** (bits - 1) - 1)`` to
    ``2 ** (bits - 1) - 1`` (the narrow range of integer kernels), zero_point is 0. Rounding is half to even.

    Args:
        weight: (out_channels, ...), float32.
        bits: 2 to 16.

    Returns:
        The weight on the grid, same shape and dtype, and the scales, (out_channels,) float32.
    """
    limit = 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(dim=1) / limit
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, torch.ones_like(scale), scale)
    zero_point = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero_point, 0, -limit, limit), scale


class InputQuantizer(nn.Module):
    """Rounds a layer's input to a frozen grid; the gradient is 1 inside the range and 0 where clipped."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values`` on the grid, same shape and dtype."""
        grid = self.grid
        return torch.fake_quantize_per_tensor_affine(
            values, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max
        )

    def extra_repr(self) -> str:
        """Describe the grid in the printed model."""
        return str(self.grid)


def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> Ranges:
    """Run a float model over calibration images and record what each quantized layer reads.

    Args:
        model: float, in eval mode; left as it was. No other thread may run it meanwhile.
        batches: inputs (N, 3, H, W), float32.

    Raises:
        UsageError: there is no image.
        QuantvizError: a layer read a value that is not finite.
    """
    limits: dict[str, tuple[float, float]] = {}
    images = 0

    def observe(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(value) for value in torch.aminmax(inputs[0]))
            # The comparison is False for NaN, which min and max would pass over silently.
            if not (abs(low) < float("inf") and abs(high) < float("inf")):
                raise QuantvizError(f"Layer {name!r} read a value that is not finite during calibration.")
            before = limits.get(name, (low, high))
            limits[name] = (min(low, before[0]), max(high, before[1]))

        return hook

    with _hooks(layer.register_forward_pre_hook(observe(name)) for name, layer in _quantized_layers(model)):
        with torch.no_grad():
            for batch in batches:
                model(batch)
                images += batch.shape[0]
    if not images:
        raise UsageError("There is no calibration image; name a folder that holds some.")
    return Ranges(limits, images)


def quantize(model: nn.Module, spec: QuantSpec, ranges: Ranges, example: Tensor, layer: str | None = None) -> nn.Module:
    """Return a quantized copy of a float model.

    The copy keeps every module's name. A convolution whose own output is the map's target keeps its batch norm
    apart, so that the target means the same in both models; on a symmetric per-channel grid this changes
    nothing but rounding of float32, as each channel's scale absorbs the batch norm's gain.

    Args:
        model: float, in eval mode; left as it was.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on the same model.
        example: one input (1, 3, H, W) by which batch norms are matched with convolutions and the fold is checked.
        layer: dotted name of the CAM target layer, or None.

    Raises:
        QuantvizError: folding changed the model's output, or a layer was never calibrated.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norm(copied, example, keep=layer)
    with torch.no_grad():
        before, after = model(example), copied(example)
    error = float((before - after).abs().max() / before.abs().max().clamp_min(1e-12))
    if not error < _FOLD_TOLERANCE:
        raise QuantvizError(f"Folding batch norm changed the output by {error:.2g} of its range; use other weights.")
    for name, module in _quantized_layers(copied):
        module.weight.copy_(quantize_weight(module.weight, spec.weight_bits)[0])
        if spec.act_bits is None:
            continue
        if name not in ranges.limits:
            raise QuantvizError(f"Layer {name!r} was not reached during calibration.")
        low, high = (limit * spec.headroom for limit in ranges.limits[name])
        module.add_module("input_quantizer", InputQuantizer(affine_grid(low, high, spec.act_bits)))
        module.register_forward_pre_hook(_quantize_input)
    return copied.eval()  # the modules put in are in training mode until told


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
    pairs = _conv_norm_pairs(model, example, keep)
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


def _conv_norm_pairs(model: nn.Module, example: Tensor, keep: str | None) -> list[tuple[str, str]]:
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
    with _hooks(handles), torch.no_grad():
        model(example)
    pairs = []
    for identity, (conv, tensor, _version) in produced.items():
        norm = readers.get(identity, [])
        if len(norm) == 1 and norm[0] and isinstance(model.get_submodule(norm[0]), nn.BatchNorm2d):
            if not any(tensor is output for output in kept):
                pairs.append((conv, norm[0]))
    return pairs


def _quantize_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    quantizer = module.get_submodule("input_quantizer")
    return (quantizer(inputs[0]), *inputs[1:])


def _quantized_layers(model: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, _QUANTIZED)]


@contextmanager
def _hooks(handles: Iterable[Any]) -> Iterator[None]:
    """Hold hooks for the length of a block and remove them however it ends."""
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()
