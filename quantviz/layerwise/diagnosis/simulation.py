"""Tensor by tensor, a float network in torch beside a quantized copy of it: two passes a picture, nothing is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from quantviz.cam import one_thread
from quantviz.layerwise.diagnosis.meter import Meter
from quantviz.layerwise.diagnosis.specs import Site, TensorFigures
from quantviz.quantize import Grid, Reading, WeightGrid, hooks, quantized_layers, readings
from quantviz.specs import UsageError

INPUT, WEIGHT, BIAS = ".input", ".weight", ".bias"
"""What a tensor's name ends in, behind its layer's."""
AHEAD = "diagnosis, in float"
"""Name of the thread that runs the float network ahead."""
_BIAS_BITS = 32


@dataclass(frozen=True, slots=True)
class _Values:
    """A tensor as a forward pass read it, and which version of it that was."""

    values: Tensor
    version: int

    @property
    def overwritten(self) -> bool:
        return self.values._version != self.version


def diagnose_modules(
    reference: nn.Module,
    quantized: nn.Module,
    pictures: Iterable[Tensor],
    *,
    by_channel: bool = False,
    ahead: bool = False,
    seen: Callable[[int], None] = lambda _count: None,
) -> list[TensorFigures]:
    """Return the figures of every weight, bias and layer input, in the order of execution.

    Each picture goes through both networks once; its values are added up and let go.

    Args:
        reference: the float network that was rounded, of ``quantize.float_base``.
        quantized: a copy from ``quantize.assemble``: layers of the same names, some with ``weight_grid`` and
            ``input_quantizer``.
        pictures: inputs (1, 3, H, W) float32, at least one.
        by_channel: with the SQNR of each channel.
        ahead: run the float network on the next picture in a thread of its own meanwhile, to the same bits.
        seen: called with the number of pictures done.

    Raises:
        UsageError: there is no picture.
    """
    first, second = _places(reference), _places(quantized)
    meters: dict[str, Meter] = {}
    kept: set[str] = set()
    count = 0
    with torch.no_grad():
        for picture, values in _in_float(pictures, lambda one: _float_values(reference, first, one, kept), ahead):
            order = _compare(quantized, second, picture, values, meters, by_channel)
            if not count:
                meters = _ordered(reference, quantized, meters, order)
            count += 1
            seen(count)
    if not count:
        raise UsageError("There is no picture to diagnose on; name one, or a folder of some.")
    return [meter.figures() for meter in meters.values()]


def _in_float(
    pictures: Iterable[Tensor], values_of: Callable[[Tensor], dict[str, Tensor]], ahead: bool
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield each picture with what the float network reads of it, two of them in memory at most."""
    if not ahead:
        yield from ((picture, values_of(picture)) for picture in pictures)
        return

    def alone(picture: Tensor) -> dict[str, Tensor]:
        with one_thread(), torch.no_grad():
            return values_of(picture)

    with ThreadPoolExecutor(1, AHEAD) as pool:
        waiting: deque[tuple[Tensor, Future[dict[str, Tensor]]]] = deque()
        for picture in pictures:
            waiting.append((picture, pool.submit(alone, picture)))
            if len(waiting) > 1:
                before, made = waiting.popleft()
                yield before, made.result()
        for picture, made in waiting:
            yield picture, made.result()


def _places(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [*quantized_layers(module), *readings(module)]


def _float_values(
    reference: nn.Module, places: Sequence[tuple[str, nn.Module]], picture: Tensor, kept: set[str]
) -> dict[str, Tensor]:
    """Return what each place reads in float; ``kept``: those to copy, since a later operation overwrites them."""
    while True:
        found: dict[str, _Values] = {}

        def note(name: str, inputs: tuple[Tensor, ...], found: dict[str, _Values] = found) -> None:
            values = inputs[0].clone() if name in kept else inputs[0]
            found.setdefault(name, _Values(values, _version(values)))

        with hooks(_before(layer, name, note) for name, layer in places):
            reference(picture)
        overwritten = {name for name, entry in found.items() if entry.overwritten} - kept
        if not overwritten:
            return {name: entry.values for name, entry in found.items()}
        kept.update(overwritten)


def _version(values: Tensor) -> int:
    return values._version


def _before(
    layer: nn.Module, name: str, see: Callable[[str, tuple[Tensor, ...]], None], *, first: bool = False
) -> torch.utils.hooks.RemovableHandle:
    return layer.register_forward_pre_hook(lambda _module, inputs: see(name, inputs), prepend=first)


def _compare(
    quantized: nn.Module,
    places: Sequence[tuple[str, nn.Module]],
    picture: Tensor,
    values: dict[str, Tensor],
    meters: dict[str, Meter],
    by_channel: bool,
) -> list[str]:
    """Add one picture's values to the meters, and return the places in the order in which they were read."""
    given: dict[str, Tensor] = {}
    order: list[str] = []
    layers = dict(places)

    def before(name: str, inputs: tuple[Tensor, ...]) -> None:
        given[name] = inputs[0]

    def after(name: str, inputs: tuple[Tensor, ...]) -> None:
        if name in order or name not in values:
            return
        order.append(name)
        if name not in meters:
            meters[name] = Meter(_input_site(name, layers[name]), 0)
        meters[name].see(values.pop(name), given.pop(name), inputs[0], by_channel=by_channel)

    handles = [_before(layer, name, before, first=True) for name, layer in places]
    with hooks([*handles, *(_before(layer, name, after) for name, layer in places)]):
        quantized(picture)
    return order


def _ordered(
    reference: nn.Module, quantized: nn.Module, meters: dict[str, Meter], order: Sequence[str]
) -> dict[str, Meter]:
    """Return the meters of every tensor in order of execution: a layer's input, its weight, its bias."""
    first, second = dict(quantized_layers(reference)), dict(quantized_layers(quantized))
    found: dict[str, Meter] = {}
    for name in order:
        found[name] = meters[name]
        found[name].depth = len(found) - 1
        if name not in second:
            continue
        for end, meter in _own_tensors(name, first[name], second[name], found[name].site):
            meter.depth = len(found)
            found[f"{name}{end}"] = meter
    return found


def _own_tensors(
    name: str, first: nn.Conv2d | nn.Linear, second: nn.Conv2d | nn.Linear, read: Site
) -> Iterable[tuple[str, Meter]]:
    """Yield the meters of a layer's weight and of its bias, where that was changed or would not fit."""
    grid = getattr(second, "weight_grid", None)
    site = Site(f"{name}{WEIGHT}", name, "weight") if grid is None else _weight_site(name, grid)
    meter = Meter(site, 0)
    meter.see(_plain(first.weight), _plain(first.weight), _plain(second.weight), by_channel=True)
    yield WEIGHT, meter
    if first.bias is None or second.bias is None:
        return
    rounded = read.bits is not None and site.bits is not None
    bias = Site(f"{name}{BIAS}", name, "bias")
    if rounded:
        scale = site.scale * read.scale[0]
        zeros = np.zeros(len(scale), np.int64)
        limit = 2 ** (_BIAS_BITS - 1)
        axis = None if len(scale) == 1 else 0
        bias = Site(bias.name, name, "bias", _BIAS_BITS, scale, zeros, -limit, limit - 1, axis)
    meter = Meter(bias, 0)
    meter.see(_plain(first.bias), _plain(first.bias), _plain(second.bias))
    yield BIAS, meter


def _plain(parameter: Tensor) -> Tensor:
    return parameter.detach().float().contiguous()


def _input_site(name: str, layer: nn.Module) -> Site:
    reader = layer.anchor if isinstance(layer, Reading) else name
    named = name if isinstance(layer, Reading) else f"{name}{INPUT}"
    quantizer = getattr(layer, "input_quantizer", None)
    if quantizer is None:
        return Site(named, reader, "activation")
    grid: Grid = quantizer.grid
    return Site(
        named,
        reader,
        "activation",
        (grid.quant_max - grid.quant_min + 1).bit_length() - (0 if _narrow(grid) else 1),
        np.array([np.float32(grid.scale)], np.float64),
        np.array([grid.zero_point], np.int64),
        grid.quant_min,
        grid.quant_max,
    )


def _weight_site(name: str, grid: WeightGrid) -> Site:
    scale = grid.scale.detach().double().numpy()
    return Site(
        f"{name}{WEIGHT}",
        name,
        "weight",
        (grid.quant_max - grid.quant_min + 1).bit_length() - (0 if _narrow(grid) else 1),
        scale,
        grid.zero_point.detach().long().numpy(),
        grid.quant_min,
        grid.quant_max,
        None if len(scale) == 1 else 0,
    )


def _narrow(grid: Grid | WeightGrid) -> bool:
    """Return whether the grid leaves out the least integer, as symmetric ones do."""
    return grid.quant_min == -grid.quant_max
