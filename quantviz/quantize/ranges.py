"""What each quantized layer reads on the calibration images, and the range that its input's grid covers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.grids import activation_grid
from quantviz.quantize.reading import readings
from quantviz.specs import QuantvizError, RangeMethod, Scheme, UsageError, frozen

BINS = 2048
_AVERAGING = 0.01  # of a new image in a moving average: the default of torch's observer
_TAIL = 0.5e-4  # of the values, cut off at either end by percentile
_SHRINKS = tuple(1 - step / 100 for step in range(100))
_STRIDE = 4  # bins between the thresholds that entropy tries
_EMPTY = 1e-4  # values that a bin counts as where the coarse distribution has none
_SLICE = 2**22  # values that are counted at a time: float32 counts one by one up to 2 ** 24
_FLOAT = torch.finfo(torch.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often a layer read which values; equal where the numbers are.

    Attributes:
        low: lower edge of the first bin, 0 at most.
        high: upper edge of the last bin, 0 at least.
        counts: int64 (BINS,), the values in bins of equal width, those of exactly 0 left out: every grid holds 0.
        zeros: number of values that were exactly 0.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]
    zeros: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", frozen(self.counts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[float, float, int, bytes]:
        return self.low, self.high, self.zeros, self.counts.tobytes()

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """The edges of the bins, (BINS + 1,)."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


@dataclass(frozen=True, slots=True)
class Ranges:
    """What decides the ranges of the quantized layers' inputs.

    Attributes:
        limits: layer's dotted name -> (low, high), in the units of that layer's input: the range itself where it does
            not depend on bit-widths (minmax, moving_average, percentile), else the least and greatest value read.
        images: number of images seen.
        method: how ranges are set, see ``calibrate``.
        histograms: layer's dotted name -> what it read, where the range depends on bit-widths (mse, entropy); a layer
            that read one value only has none.
    """

    limits: Mapping[str, tuple[float, float]]
    images: int
    method: RangeMethod = "minmax"
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))
        object.__setattr__(self, "histograms", MappingProxyType(dict(self.histograms)))

    def limits_of(self, name: str, bits: int, scheme: Scheme) -> tuple[float, float]:
        """Return the range (low, high) that a layer's input grid is to cover, before any headroom.

        Args:
            name: the layer's dotted name.
            bits: of its input.
            scheme: of the activations.

        Raises:
            QuantvizError: the layer was never calibrated.
        """
        if name not in self.limits:
            raise QuantvizError(f"Layer {name!r} was not reached during calibration.")
        histogram = self.histograms.get(name)
        if histogram is None:
            return self.limits[name]
        return _BY_BITS[self.method](histogram, bits, scheme)


def calibrate(
    model: nn.Module,
    batches: Callable[[], Iterable[Tensor]] | Sequence[Tensor],
    method: RangeMethod = "minmax",
) -> Ranges:
    """Run a float model over calibration images and record what each quantized layer reads.

    Methods:
        minmax: the least and the greatest value.
        moving_average: each image's least and greatest value, averaged over the images in order: ``low += 0.01 *
            (image's low - low)``, starting at the first image's.
        percentile: the middle 99.99 % of the values: 0.005 % are cut off at either end. Within a bin of the histogram
            values are taken to be spread evenly.
        mse: the range with the least squared rounding error, for given bits and scheme. First both ends are shrunk
            together, to 1.00, 0.99, ... 0.01 of the full range; then, for affine grids, each end alone, twice.
        entropy: the threshold t whose range [-t, t], within the values read, leaves the least Kullback-Leibler
            divergence of the distribution in as many bins as the grid has values from the distribution with all
            outliers moved to the ends (Migacz 2017, "8-bit Inference with TensorRT"). Exact zeros are not counted.

    The last three go through the images twice, the second time for histograms of 2048 bins.

    Args:
        model: float, in eval mode; left as it was. No other thread may run it meanwhile.
        batches: inputs (N, 3, H, W), float32; or a function that goes through them once a call.
        method: how the ranges are set.

    Raises:
        UsageError: there is no image.
        QuantvizError: a layer read a value that is not finite, or the images changed between the two passes.
    """
    once = batches if callable(batches) else lambda: batches
    limits, images = _observed(model, once(), moving=method == "moving_average")
    if method in ("minmax", "moving_average"):
        return Ranges(limits, images, method)
    histograms, again = _histograms(model, once(), limits)
    if again != images:
        raise QuantvizError(f"Calibration read {images} images and then {again}; leave them alone and try again.")
    if method in _BY_BITS:
        return Ranges(limits, images, method, histograms)
    range_of = _BY_VALUES[method]
    return Ranges(limits | {name: range_of(histogram) for name, histogram in histograms.items()}, images, method)


def _observed(
    model: nn.Module, batches: Iterable[Tensor], *, moving: bool
) -> tuple[dict[str, tuple[float, float]], int]:
    """Return each layer's least and greatest value, or their moving average, and the number of images."""
    limits: dict[str, tuple[float, float]] = {}
    rows = 1

    def observe(name: str, values: Tensor) -> None:
        for image in values.reshape(rows, -1) if moving else [values]:
            low, high = (float(value) for value in torch.aminmax(image))
            # The comparison is False for NaN, which min and max would pass over silently.
            if not (abs(low) < float("inf") and abs(high) < float("inf")):
                raise QuantvizError(f"Layer {name!r} read a value that is not finite during calibration.")
            before = limits.get(name, (low, high))
            if moving:
                limits[name] = tuple(  # type: ignore[assignment]
                    old + _AVERAGING * (new - old) for old, new in zip(before, (low, high), strict=True)
                )
            else:
                limits[name] = (min(low, before[0]), max(high, before[1]))

    images = 0
    with hooks(_watch(name, layer, observe) for name, layer in _places(model)), torch.no_grad():
        for batch in batches:
            rows = len(batch)
            model(batch)
            images += rows
    if not images:
        raise UsageError("There is no calibration image; name a folder that holds some.")
    return limits, images


def _places(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what reads values that are rounded: layers, and readings."""
    return [*quantized_layers(model), *readings(model)]


def _watch(name: str, layer: nn.Module, see: Callable[[str, Tensor], None]) -> torch.utils.hooks.RemovableHandle:
    return layer.register_forward_pre_hook(lambda _module, inputs: see(name, inputs[0]))


def _histograms(
    model: nn.Module, batches: Iterable[Tensor], limits: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, Histogram], int]:
    """Return the histogram of what each layer reads, and the number of images."""
    spans = {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in limits.items()}
    # A width that float32 cannot hold, or that it cannot divide by the number of bins, has no histogram.
    spans = {name: (low, high) for name, (low, high) in spans.items() if BINS * _FLOAT.tiny < high - low < _FLOAT.max}
    counts = {name: torch.zeros(BINS, dtype=torch.int64) for name in spans}
    zeros = dict.fromkeys(spans, 0)

    def count(name: str, values: Tensor) -> None:
        low, high = spans[name]
        for part in torch.split(values.reshape(-1), _SLICE):
            counts[name] += torch.histc(part, BINS, low, high).long()
        zeros[name] += values.numel() - int(values.count_nonzero())

    images = 0
    layers = [(name, layer) for name, layer in _places(model) if name in spans]
    with hooks(_watch(name, layer, count) for name, layer in layers), torch.no_grad():
        for batch in batches:
            model(batch)
            images += len(batch)
    for name, (low, high) in spans.items():
        counts[name] -= zeros[name] * torch.histc(torch.zeros(1), BINS, low, high).long()
    return {name: Histogram(*spans[name], counted.numpy(), zeros[name]) for name, counted in counts.items()}, images


def _percentile(histogram: Histogram) -> tuple[float, float]:
    """Return the values that ``_TAIL`` of all values are below, and above."""
    counts = histogram.counts.astype(np.float64)
    counts[min(int(np.searchsorted(histogram.edges, 0.0, "right")), BINS) - 1] += histogram.zeros
    below = np.concatenate([[0.0], counts.cumsum()]) / counts.sum()
    # Bins without values make steps that interpolation cannot invert: keep the ends of the filled ones.
    low = _crossing(below, histogram.edges, _TAIL)
    high = -_crossing(1 - below[::-1], -histogram.edges[::-1], _TAIL)
    return low, high


def _crossing(below: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], part: float) -> float:
    """Return where a rising sequence at the edges first exceeds ``part``."""
    after = int(np.searchsorted(below, part, "right"))
    before = after - 1
    inside = (part - below[before]) / (below[after] - below[before])
    return float(edges[before] + inside * (edges[after] - edges[before]))


@lru_cache(maxsize=1024)
def _least_error(histogram: Histogram, bits: int, scheme: Scheme) -> tuple[float, float]:
    """Return the range whose grid leaves the least squared error; the widest of equals."""
    best = (_squared_error(histogram, 1.0, 1.0, bits, scheme), 1.0, 1.0)

    def attempt(candidates: Iterable[tuple[float, float]]) -> None:
        nonlocal best
        for low, high in candidates:
            error = _squared_error(histogram, low, high, bits, scheme)
            if error < best[0]:
                best = error, low, high

    attempt((shrink, shrink) for shrink in _SHRINKS)
    for _round in range(2 if scheme == "affine" and histogram.low < 0 < histogram.high else 0):
        attempt([(best[1], shrink) for shrink in _SHRINKS])
        attempt([(shrink, best[2]) for shrink in _SHRINKS])
    return histogram.low * best[1], histogram.high * best[2]


def _squared_error(histogram: Histogram, low: float, high: float, bits: int, scheme: Scheme) -> float:
    """Return the sum of squared differences of the values from a grid, for values spread evenly in each bin.

    The integral of the squared difference from 0 to x, in steps of the grid, is n / 12 + (x - n) ** 3 / 3, where n is
    the grid's value nearest to x; beyond the grid's ends it holds with n the end.
    """
    grid = activation_grid(histogram.low * low, histogram.high * high, bits, scheme)
    edges = histogram.edges / grid.scale
    nearest = np.clip(np.rint(edges), grid.quant_min - grid.zero_point, grid.quant_max - grid.zero_point)
    beyond = edges - nearest
    integral = nearest / 12 + beyond * beyond * beyond / 3  # a power would take most of the search's time
    means = np.diff(integral) / np.diff(edges) * grid.scale**2
    return float(histogram.counts @ means)


@lru_cache(maxsize=1024)
def _least_divergence(histogram: Histogram, bits: int, scheme: Scheme) -> tuple[float, float]:
    """Return the range of least divergence; the widest of equals. A bin for each value leaves nothing to choose."""
    zero = -histogram.low / (histogram.high - histogram.low) * BINS
    widest = max(zero, BINS - zero)
    best, limits = np.inf, (histogram.low, histogram.high)
    for reach in np.arange(widest, 0, -_STRIDE):
        start, end = max(round(zero - reach), 0), min(round(zero + reach), BINS)
        share = 1.0 if scheme == "affine" else (end - start) / (2 * reach)
        levels = max(round(2**bits * share), 2)
        if end - start < levels:
            break
        divergence = _divergence(histogram.counts, start, end, levels)
        if divergence < best:
            best, limits = divergence, (histogram.edges[start], histogram.edges[end])
    return float(limits[0]), float(limits[1])


def _divergence(counts: npt.NDArray[np.int64], start: int, end: int, levels: int) -> float:
    """Return the Kullback-Leibler divergence, in nats, of bins start to end merged into levels from the bins."""
    inside = counts[start:end].astype(np.float64)
    reference = inside.copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[end:].sum()
    filled = reference > 0
    if not filled.any():
        return np.inf
    level = np.arange(end - start) * levels // (end - start)
    merged = np.bincount(level, inside, levels) / np.bincount(level, filled, levels).clip(1)
    coarse = np.maximum(merged[level][filled], _EMPTY)
    reference = reference[filled] / reference.sum()
    return float(reference @ np.log(reference / (coarse / coarse.sum())))


_BY_VALUES: dict[RangeMethod, Callable[[Histogram], tuple[float, float]]] = {"percentile": _percentile}
"""Methods whose range is that of the values read, whatever the grid."""

_BY_BITS: dict[RangeMethod, Callable[[Histogram, int, Scheme], tuple[float, float]]] = {
    "mse": _least_error,
    "entropy": _least_divergence,
}
"""Methods whose range depends on the bits and the scheme of the grid."""
