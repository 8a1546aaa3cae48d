"""Bias correction: the mean error that rounding leaves in each output channel is taken out of the biases.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section
4.2; here measured on the calibration images, as in its appendix D, not worked out from batch norm's statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.gptq import execution_order
from quantviz.quantize.network import LearnedLayer, assemble, nearest
from quantviz.quantize.ranges import Ranges
from quantviz.specs import Phase, Progress, QuantSpec, no_progress


class _Reached(Exception):
    """Ends a forward pass behind the layer that is asked about."""


def correct_biases(
    base: nn.Module,
    spec: QuantSpec,
    ranges: Ranges,
    batches: Callable[[], Iterable[Tensor]],
    learned: Mapping[str, LearnedLayer],
    progress: Progress = no_progress,
) -> dict[str, LearnedLayer]:
    """Return every rounded layer with a bias that brings its mean output back to the float network's.

    ``bias_c += E[float output_c] - E[quantized output_c]``, the mean over the calibration images and positions. Layer
    after layer in the order of execution, each in the network whose inputs are rounded and whose earlier layers are
    rounded and corrected. A layer whose weight stays in float is left alone.

    Args:
        base: from ``float_base``; left as it was. No other thread may run it meanwhile.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on ``base``.
        batches: goes through the calibration inputs, (N, 3, H, W) float32, once a call.
        learned: layers that are not just rounded to the nearest integer; their biases are where correction starts.
        progress: reports how far it is; whatever it raises ends the call.
    """
    corrected = {
        name: learned[name] if name in learned else nearest(layer.weight, spec, bits)
        for name, layer in quantized_layers(base)
        if (bits := spec.bits_of(name)[0]) is not None
    }
    network = assemble(base, spec, ranges, corrected)
    layers = dict(quantized_layers(network))
    inputs = list(batches())
    order = [name for name in execution_order(network, inputs[0][:1]) if name in corrected]
    wanted = _means(base, {name: base.get_submodule(name) for name in order}, inputs)
    for done, name in enumerate(order):
        progress("Correcting the biases", done / len(order), Phase.LEARNING)
        layer = layers[name]
        error = wanted[name] - _means(network, {name: layer}, inputs)[name]
        bias = (error if layer.bias is None else layer.bias.double() + error).float()
        layer.bias = nn.Parameter(bias, requires_grad=False)
        corrected[name] = replace(corrected[name], bias=bias.clone())
    return corrected


def _means(network: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the mean of each output channel of the layers over images and positions, float64 (channels,).

    Where one layer is asked about, no forward pass goes further than to it.
    """
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(layers, 0)

    def gather(name: str, layer: nn.Module, output: Tensor) -> None:
        channels = 1 if isinstance(layer, nn.Conv2d) else -1
        rows = output.movedim(channels, 0).flatten(1)
        sums[name] = sums.get(name, 0) + rows.sum(1, dtype=torch.float64)
        counts[name] += rows.shape[1]
        if len(layers) == 1:
            raise _Reached

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda layer, _inputs, output: gather(name, layer, output)

    with hooks(layer.register_forward_hook(hook(name)) for name, layer in layers.items()), torch.no_grad():
        for batch in batches:
            try:
                network(batch)
            except _Reached:
                continue
    return {name: total / counts[name] for name, total in sums.items()}
