"""A quantized network whose layers' bits can be changed one at a time, without making it anew."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import quantized_layers
from quantviz.quantize.grids import InputQuantizer, WeightGrid, weight_grid
from quantviz.quantize.network import LearnedLayer, input_grid
from quantviz.quantize.ranges import Ranges
from quantviz.quantize.reading import readings
from quantviz.specs import QuantSpec, UsageError


class Switchboard:
    """One network that takes on any assignment of bits to its layers.

    Bit for bit what ``assemble`` makes of the same assignment; with every layer in float, ``base`` itself. A change
    costs what the layers cost that it changes.

    Args:
        base: from ``float_base``; left as it was, and not to be changed while this is in use.
        spec: scheme, and the bits for which ``learned`` holds.
        ranges: from ``calibrate`` on ``base``.
        learned: from ``learn`` on ``base`` for ``spec``; used for a weight at the bits that ``spec`` gives it, while
            one at other bits is rounded to the nearest integer.

    Attributes:
        network: the network, all in float at first; for one thread.
    """

    def __init__(
        self, base: nn.Module, spec: QuantSpec, ranges: Ranges, learned: Mapping[str, LearnedLayer] | None = None
    ) -> None:
        self.network = copy.deepcopy(base).eval()
        self._spec, self._ranges, self._learned = spec, ranges, learned or {}
        self._originals = dict(quantized_layers(base))
        self._layers = dict(quantized_layers(self.network))
        self._bits: dict[str, tuple[int | None, int | None]] = dict.fromkeys(self._layers, (None, None))
        self._inputs: dict[str, InputQuantizer | None] = dict.fromkeys(self._layers)
        self._grids: dict[tuple[str, int], WeightGrid] = {}
        for name, layer in self._layers.items():
            layer.register_forward_pre_hook(self._reader(name))
            self._put(name, None)
        self._readings: dict[str, list[str]] = {}
        for name, reading in readings(self.network):
            self._inputs[name] = None
            self._readings.setdefault(reading.anchor, []).append(name)
            reading.register_forward_pre_hook(self._reader(name))

    def set(self, spec: QuantSpec) -> nn.Module:
        """Take on the bits of ``spec``, of whatever scheme it is, and return the network.

        Raises:
            QuantvizError: a layer was never calibrated.
            UsageError: ``spec`` gives bit-widths to a layer that does not exist.
        """
        unknown = sorted({bits.name for bits in spec.layer_bits} - set(self._layers))
        if unknown:
            raise UsageError(f"Layer {unknown[0]!r} is none that is quantized; name a convolution or linear layer.")
        given = {bits.name: (bits.weight_bits, bits.act_bits) for bits in spec.layer_bits}
        for name in self._layers:
            self._set(name, *given.get(name, (spec.weight_bits, spec.act_bits)))
        return self.network

    def _set(self, name: str, weight_bits: int | None, act_bits: int | None) -> None:
        weight_before, act_before = self._bits[name]
        for place in (name, *self._readings.get(name, ())) if act_bits != act_before else ():
            quantizer = None
            if act_bits is not None:
                quantizer = InputQuantizer(input_grid(place, self._spec, self._ranges, act_bits))
            self._inputs[place] = quantizer
        if weight_bits != weight_before:
            self._put(name, weight_bits)
        self._bits[name] = (weight_bits, act_bits)

    def _put(self, name: str, bits: int | None) -> None:
        """Give a layer its weight and bias at these bits; in float, the very parameters of the base."""
        layer, original = self._layers[name], self._originals[name]
        layer.weight, layer.bias = original.weight, original.bias
        if bits is None:
            return
        learned = self._learned.get(name) if bits == self._spec.bits_of(name)[0] else None
        if learned is None:
            rounded = self._grid(name, bits).round(original.weight)
        else:
            rounded = learned.grid.values(learned.integers)
            if learned.bias is not None:
                layer.bias = nn.Parameter(learned.bias, requires_grad=False)
        # Laid out in memory as the original: another layout may take another kernel, which rounds otherwise.
        layer.weight = nn.Parameter(torch.empty_like(original.weight).copy_(rounded), requires_grad=False)

    def _grid(self, name: str, bits: int) -> WeightGrid:
        if (name, bits) not in self._grids:
            spec, weight = self._spec, self._originals[name].weight
            least_squares = spec.weight_ranges == "mse"
            grid = weight_grid(weight, bits, spec.scheme, spec.granularity, least_squares=least_squares)
            self._grids[name, bits] = grid
        return self._grids[name, bits]

    def _reader(self, name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            quantizer = self._inputs[name]
            return None if quantizer is None else (quantizer(inputs[0]), *inputs[1:])

        return hook
