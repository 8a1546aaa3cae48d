"""Figures of one tensor over a stream of pictures: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from quantviz.layerwise.diagnosis.specs import (
    OUTLIER_RATIO,
    ChannelFigures,
    Float64,
    Site,
    TensorFigures,
    TensorHistogram,
)

SAMPLED = 2048
"""Values of each picture that the histogram counts."""
BINS = 256
_PART = 1 << 16
"""Values that are summed at a time: few enough for a core's cache, so that each is fetched once for all the sums."""
_SEED = 0


class Meter:
    """Adds up what rounding does to one tensor.

    Args:
        site: the tensor and its grid.
        depth: its place in the order of execution.
    """

    def __init__(self, site: Site, depth: int) -> None:
        self.site, self.depth = site, depth
        self._signal = self._noise = self._after = self._own_signal = self._own_noise = 0.0
        self._values = self._clipped = self._pictures = 0
        self._has_own = False
        self._widest = self._spans = 0.0
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._channel_signal: Tensor | None = None
        self._channel_noise: Tensor | None = None
        self._histogram = GrowingHistogram()

    @property
    def has_seen(self) -> bool:
        """Whether any values were added up."""
        return self._pictures > 0

    def see(self, reference: Tensor, before: Tensor | None, after: Tensor, *, by_channel: bool = False) -> None:
        """Add one picture's values, or a weight's.

        Args:
            reference: of the float network, float32.
            before: in the quantized network before it is rounded, of the same shape; None where it cannot be read.
            after: in the quantized network, rounded.
            by_channel: add up the SQNR of each channel, too, which takes as long again.
        """
        reference, before, after = _alike(reference, before, after)
        flat, rounded = _flat(reference), _flat(after)
        if before is None:
            self._add(flat, rounded)
        else:
            self._add_both(flat, _flat(before), rounded)
        self._values += flat.numel()
        self._pictures += 1
        self._see_extremes(reference)
        if by_channel:
            self._see_channels(reference, after)
        picked = _places(flat.numel()) if self.site.role == "activation" else slice(None)
        self._histogram.add(flat[picked].numpy(), rounded[picked].numpy())

    def _add(self, flat: Tensor, rounded: Tensor) -> None:
        for float_part, part in _parts(flat, rounded):
            difference = float_part - part
            self._signal += torch.dot(float_part, float_part).item()
            self._noise += torch.dot(difference, difference).item()
            self._after += torch.dot(part, part).item()

    def _add_both(self, flat: Tensor, given: Tensor, rounded: Tensor) -> None:
        self._has_own = True
        difference = torch.empty(min(_PART, flat.numel()))
        for one, own, part in _parts(flat, given, rounded):
            left = difference[: one.numel()]
            torch.sub(one, part, out=left)
            self._signal += torch.dot(one, one).item()
            self._noise += torch.dot(left, left).item()
            torch.sub(own, part, out=left)
            self._own_noise += torch.dot(left, left).item()
            self._own_signal += torch.dot(own, own).item()
            self._after += torch.dot(part, part).item()

    def _see_extremes(self, reference: Tensor) -> None:
        low, high = channel_extremes(reference, channel_axis(reference, self.site.role))
        least, greatest = float(low.min()), float(high.max())
        span = max(greatest, 0.0) - min(least, 0.0)
        self._widest, self._spans = max(self._widest, span), self._spans + span
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        if self.site.bits is not None:
            self._clipped += _beyond(reference, self.site, least, greatest)

    def _see_channels(self, reference: Tensor, after: Tensor) -> None:
        axis = channel_axis(reference, self.site.role)
        others = [at for at in range(reference.ndim) if at != axis]
        signal = reference.double().square().sum(others) if others else reference.double().square()
        difference = (reference.double() - after.double()).square()
        noise = difference.sum(others) if others else difference
        self._channel_signal = signal if self._channel_signal is None else self._channel_signal + signal
        self._channel_noise = noise if self._channel_noise is None else self._channel_noise + noise

    def figures(self) -> TensorFigures:
        """Return what was added up; at least one picture was seen."""
        assert self._low is not None
        assert self._high is not None
        low, high = self._low.double().numpy(), self._high.double().numpy()
        site, rounded = self.site, self.site.bits is not None
        ratio, outliers = _outliers(low, high) if _shared(site) else (1.0, ())
        own_noise = self._own_noise if self._has_own else self._noise if site.role == "weight" else 0.0
        vanished = _vanished(low, high, site)
        mean = self._spans / self._pictures
        return TensorFigures(
            site=site,
            depth=self.depth,
            sqnr=decibels(self._signal, self._noise),
            sqnr_isolated=decibels(self._own_signal, self._own_noise) if self._has_own and rounded else None,
            cosine=self._cosine(),
            clipped=self._clipped / self._values,
            used=_used(low, high, site) if rounded else None,
            low=float(low.min()),
            high=float(high.max()),
            picture_ratio=self._widest / mean if mean else 1.0,
            channels=len(low),
            outlier_ratio=ratio,
            outliers=outliers,
            sharing_loss=_sharing_loss(low, high) if _shared(site) else 0.0,
            zero_channels=int(vanished.sum()),
            zero_point_saturates=_saturates(low, high, site),
            noise=own_noise / self._values,
            step_noise=float(np.mean(site.scale**2) / 12) if rounded else 0.0,
            values=self._values,
            histogram=self._histogram.result(),
            by_channel=ChannelFigures(low, high, self._by_channel(len(low)), vanished),
        )

    def _cosine(self) -> float | None:
        """Return the cosine, from 2 x y = x^2 + y^2 - (x - y)^2."""
        length = np.sqrt(self._signal * self._after)
        if not length:
            return None
        return float(np.clip((self._signal + self._after - self._noise) / (2 * length), -1, 1))

    def _by_channel(self, channels: int) -> Float64:
        if self._channel_signal is None or self._channel_noise is None:
            return np.full(channels, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self._channel_signal.numpy() / self._channel_noise.numpy()
            decibel: Float64 = 10 * np.log10(ratio)
        return decibel


class GrowingHistogram:
    """A histogram of ``BINS`` bins about 0 whose bins double in width as far as values need it."""

    def __init__(self) -> None:
        self._width = 0.0
        self._counts = np.zeros((2, BINS), np.int64)
        self._sampled = 0

    def add(self, reference: np.ndarray, quantized: np.ndarray) -> None:
        """Count values of the float and of the quantized network, as many of either."""
        reach = float(max(np.abs(reference).max(initial=0.0), np.abs(quantized).max(initial=0.0)))
        if self._width == 0.0:
            if reach == 0.0:
                reach = 1e-30
            self._width = 2.0 ** np.ceil(np.log2(reach * 2 / BINS))
        while reach >= self._width * BINS / 2:
            self._double()
        for counts, values in zip(self._counts, (reference, quantized), strict=True):
            places = np.floor(values / self._width).astype(np.int64) + BINS // 2
            counts += np.bincount(places.clip(0, BINS - 1).ravel(), minlength=BINS)
        self._sampled += reference.size

    def _double(self) -> None:
        merged = self._counts.reshape(2, BINS // 2, 2).sum(axis=2)
        self._counts[:] = 0
        self._counts[:, BINS // 4 : BINS // 4 * 3] = merged
        self._width *= 2

    def result(self) -> TensorHistogram:
        """Return the counts between the first and the last bin that hold any."""
        filled = np.flatnonzero(self._counts.any(axis=0))
        first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (BINS // 2, BINS // 2 + 1)
        edges = (np.arange(first, last + 1) - BINS // 2).astype(np.float64) * self._width
        reference, quantized = self._counts[:, first:last].copy()
        return TensorHistogram(edges, reference, quantized, self._sampled)


def decibels(signal: float, noise: float) -> float | None:
    """Return 10 log10(signal / noise), or None where either is 0."""
    return float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else None


def channel_axis(values: Tensor, role: str) -> int:
    """Return the axis of a tensor's channels: the first of a weight, the second of (N, C, H, W), else the last."""
    if role != "activation":
        return 0
    return 1 if values.ndim == 4 else values.ndim - 1


def channel_extremes(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the least and greatest value of each channel, read in the order in which they lie in memory."""
    if values.ndim == 4 and axis == 1 and not values.is_contiguous():
        rows = values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])  # a view where channels lie last
        return rows.amin(0), rows.amax(0)
    rows = values.movedim(axis, 0).reshape(values.shape[axis], -1)
    return rows.amin(1), rows.amax(1)  # aminmax along an axis takes four times as long as both


def _flat(values: Tensor) -> Tensor:
    """Return the values in one row, in the order in which they lie in memory where that is without gaps."""
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).reshape(-1)
    return values.reshape(-1)


def _parts(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same ``_PART`` places of each row after each other."""
    for start in range(0, rows[0].numel(), _PART):
        yield tuple(row[start : start + _PART] for row in rows)


def _alike(reference: Tensor, before: Tensor | None, after: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the tensors in one layout in memory, so that rows of them hold the same places."""
    if reference.ndim != 4:
        return reference, before, after
    last = torch.channels_last
    if all(value is None or value.is_contiguous(memory_format=last) for value in (reference, before, after)):
        return reference, before, after
    whole = None if before is None else before.contiguous()
    return reference.contiguous(), whole, after.contiguous()


@lru_cache(maxsize=512)
def _places(count: int) -> Tensor:
    """Return the places of the sampled values among so many, the same at every call.

    At random, since regular steps would hit the same channels again and again.
    """
    if count <= SAMPLED:
        return torch.arange(count)
    return torch.from_numpy(np.sort(np.random.default_rng(_SEED).integers(0, count, SAMPLED)))


def _shared(site: Site) -> bool:
    """Return whether the channels of ``channel_axis`` share one scale."""
    return site.bits is not None and site.axis is None


def _beyond(values: Tensor, site: Site, least: float, greatest: float) -> int:
    """Return how many values lie beyond the grid by more than half a step."""
    low, high = site.low - site.scale / 2, site.high + site.scale / 2
    if least >= low.max() and greatest <= high.min():
        return 0
    if site.axis is None:
        return int((values < float(low[0])).count_nonzero() + (values > float(high[0])).count_nonzero())
    shape = [1] * values.ndim
    shape[site.axis] = -1
    ends = [torch.from_numpy(end.astype(np.float32)).view(shape) for end in (low, high)]
    return int((values < ends[0]).count_nonzero() + (values > ends[1]).count_nonzero())


def _outliers(low: Float64, high: Float64) -> tuple[float, tuple[int, ...]]:
    reach = np.maximum(np.abs(low), np.abs(high))
    median = float(np.median(reach[reach > 0])) if (reach > 0).any() else 0.0
    if not median:
        return 1.0, ()
    order = np.argsort(-reach, kind="stable")
    return float(reach.max() / median), tuple(int(at) for at in order if reach[at] > OUTLIER_RATIO * median)


def _sharing_loss(low: Float64, high: Float64) -> float:
    """Return what one scale for all channels costs over one for each, in dB, for values spread over their ranges."""
    spans = np.maximum(high, 0) - np.minimum(low, 0)
    whole, filled = max(float(high.max()), 0.0) - min(float(low.min()), 0.0), spans[spans > 0]
    if not whole or not len(filled):
        return 0.0
    return float(10 * np.log10(whole**2 / np.mean(filled**2)))


def _used(low: Float64, high: Float64, site: Site) -> float:
    span = site.high - site.low
    if site.axis is None or len(low) != len(span):
        low, high = np.array([low.min()]), np.array([high.max()])
    inside = np.minimum(np.maximum(high, 0), site.high) - np.maximum(np.minimum(low, 0), site.low)
    return float(np.mean(np.clip(inside / span, 0, 1)))


def _vanished(low: Float64, high: Float64, site: Site) -> np.ndarray:
    """Return which channels are not zero in float, and all zero on the grid: rounding keeps the order of values."""
    present = (low != 0) | (high != 0)
    if site.bits is None:
        return np.zeros_like(present)
    half = site.scale / 2 if site.axis is None or len(site.scale) == len(low) else np.full(len(low), np.inf)
    inside: np.ndarray = present & (high <= half) & (low >= -half)
    return inside if site.axis is None or len(site.scale) == len(low) else np.zeros_like(present)


def _saturates(low: Float64, high: Float64, site: Site) -> bool:
    if site.bits is None or site.axis is not None:
        return False
    half = float(site.scale[0]) / 2
    below = int(site.zero_point[0]) == site.quant_min and low.min() < -half
    above = int(site.zero_point[0]) == site.quant_max and high.max() > half
    return bool(below or above)
