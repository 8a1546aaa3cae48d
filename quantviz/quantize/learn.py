"""Weights that are not just rounded to the nearest integer: which way, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from quantviz.quantize.bias import correct_biases
from quantviz.quantize.distil import distil
from quantviz.quantize.gptq import gptq
from quantviz.quantize.network import LearnedLayer
from quantviz.quantize.ranges import Ranges
from quantviz.specs import Progress, QuantSpec, no_progress


def learn(
    base: nn.Module,
    spec: QuantSpec,
    ranges: Ranges,
    batches: Callable[[], Iterable[Tensor]],
    views: Callable[[int], Tensor],
    progress: Progress = no_progress,
) -> dict[str, LearnedLayer]:
    """Return each layer's weight and bias as ``spec`` has them rounded and corrected; {} where it learns nothing.

    Args:
        base: from ``float_base``; left as it was. No other thread may run it meanwhile.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on ``base``.
        batches: goes through the calibration inputs, (N, 3, H, W) float32, once a call.
        views: from a number n to as many inputs cut from the calibration pictures at random, (n, 3, H, W) float32.
        progress: reports what is being done; whatever it raises ends the call.
    """
    learned: dict[str, LearnedLayer] = {}
    if spec.rounding == "gptq":
        learned = gptq(base, spec, ranges, batches, progress)
    elif spec.rounding == "distilled":
        learned = distil(base, spec, ranges, batches, views, progress)
    if spec.bias_correction:
        learned = correct_biases(base, spec, ranges, batches, learned, progress)
    return learned
