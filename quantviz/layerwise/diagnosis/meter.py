"""Figures of one tensor over a stream of pictures: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
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

SAMPLED = 1024
"""Values of each picture that the histogram counts."""
BINS = 256
_WAITING = 8192
"""Sampled values of either network that are counted at once."""
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
        self._ends = None if site.bits is None else _Ends(site)

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
        axis = channel_axis(reference, self.site.role)
        rows, along = _rows(_alike(reference, before, after), axis)
        least, greatest = self._add(rows, along)
        span = max(greatest, 0.0) - min(least, 0.0)
        self._widest, self._spans = max(self._widest, span), self._spans + span
        self._values += reference.numel()
        self._pictures += 1
        if self._ends is not None:
            self._clipped += self._ends.beyond(reference, least, greatest)
        if by_channel:
            self._see_channels(reference, after)
        self._histogram.add(rows[0].reshape(-1), rows[-1].reshape(-1), all_of=self.site.role != "activation")

    def _add(self, rows: Sequence[Tensor], along: int) -> tuple[float, float]:
        """Add up squares and extremes of the values in float, before rounding where that is there, and behind it.

        Part by part, so that each value is fetched once for all the sums.

        Args:
            rows: of one shape, two dimensions.
            along: which of them is that of the channels.

        Returns:
            The least and the greatest value in float.
        """
        self._has_own = self._has_own or len(rows) == 3
        step = max(1, _PART // max(rows[0].shape[1], 1))
        difference = torch.empty(min(step, len(rows[0])), rows[0].shape[1])
        ends = []
        for start in range(0, len(rows[0]), step):
            one, *others = (row[start : start + step] for row in rows)
            part, left = others[-1].reshape(-1), difference[: len(one)].view(-1)
            ends.append((one.amin(1 - along), one.amax(1 - along)))  # aminmax takes four times as long as both
            one = one.reshape(-1)
            self._signal += torch.dot(one, one).item()
            torch.sub(one, part, out=left)
            self._noise += torch.dot(left, left).item()
            self._after += torch.dot(part, part).item()
            if len(others) == 2:
                own = others[0].reshape(-1)
                torch.sub(own, part, out=left)
                self._own_noise += torch.dot(left, left).item()
                self._own_signal += torch.dot(own, own).item()
        low, high = (_joined([pair[at] for pair in ends], along, at) for at in (0, 1))
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        return float(low.min()), float(high.max())

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
        self._waiting: list[np.ndarray] = []
        self._sampled = 0

    def add(self, reference: Tensor, quantized: Tensor, *, all_of: bool = False) -> None:
        """Count values of the float and of the quantized network, as many of either.

        Args:
            reference: in one row.
            quantized: the same places.
            all_of: count all of them, else ``SAMPLED`` of them.
        """
        values = torch.stack([reference, quantized]) if all_of else _sampled(reference, quantized)
        self._waiting.append(values.numpy())
        self._sampled += values.shape[1]
        if sum(part.shape[1] for part in self._waiting) >= _WAITING:
            self._count()

    def _count(self) -> None:
        """Count the values that wait: many at once, as each call takes longer than some thousand values."""
        if not self._waiting:
            return
        values = np.concatenate(self._waiting, axis=1)
        self._waiting.clear()
        reach = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
        if self._width == 0.0:
            if reach == 0.0:
                reach = 1e-30
            self._width = 2.0 ** np.ceil(np.log2(reach * 2 / BINS))
        while reach >= self._width * BINS / 2:
            self._double()
        # The width is a power of two, and all values reach less far than the bins: neither rounds, nor leaves them.
        places = np.floor(values * np.float32(1 / self._width)).astype(np.intp)
        places += np.array([[BINS // 2], [BINS // 2 + BINS]])
        self._counts += np.bincount(places.ravel(), minlength=2 * BINS).reshape(2, BINS)

    def _double(self) -> None:
        merged = self._counts.reshape(2, BINS // 2, 2).sum(axis=2)
        self._counts[:] = 0
        self._counts[:, BINS // 4 : BINS // 4 * 3] = merged
        self._width *= 2

    def result(self) -> TensorHistogram:
        """Return the counts between the first and the last bin that hold any."""
        self._count()
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


def _rows(tensors: Sequence[Tensor | None], axis: int) -> tuple[list[Tensor], int]:
    """Return tensors with their channels along the first or the second of two dimensions, and which it is.

    Without a copy where they lie in memory without gaps, of one picture.
    """
    known = [values for values in tensors if values is not None]
    shape = known[0].shape
    if axis == known[0].ndim - 1 and axis:
        return [values.reshape(-1, shape[axis]) for values in known], 1
    if axis == 1 and known[0].ndim == 4 and not known[0].is_contiguous():  # channels lie last
        return [values.permute(0, 2, 3, 1).reshape(-1, shape[1]) for values in known], 1
    return [values.movedim(axis, 0).reshape(shape[axis], -1) for values in known], 0


def _joined(ends: Sequence[Tensor], along: int, at: int) -> Tensor:
    """Return the least (``at`` 0) or greatest value of each channel, from those of parts."""
    if along == 0:
        return ends[0] if len(ends) == 1 else torch.cat(list(ends))
    stacked = torch.stack(list(ends))
    return stacked.amax(0) if at else stacked.amin(0)


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


def _sampled(reference: Tensor, quantized: Tensor) -> Tensor:
    """Return the values at the sampled places, (2, n)."""
    if reference.numel() <= SAMPLED:
        return torch.stack([reference, quantized])
    picked = _places(reference.numel())
    return torch.stack([reference.index_select(0, picked), quantized.index_select(0, picked)])


def _shared(site: Site) -> bool:
    """Return whether the channels of ``channel_axis`` share one scale."""
    return site.bits is not None and site.axis is None


class _Ends:
    """The ends of a grid, half a step beyond its least and its greatest value.

    Args:
        site: with the grid.
    """

    def __init__(self, site: Site) -> None:
        ends = (site.low - site.scale / 2, site.high + site.scale / 2)
        self._axis = site.axis
        self._low, self._high = (torch.from_numpy(end.astype(np.float32)) for end in ends)
        self._inner = float(self._low.max()), float(self._high.min())

    def beyond(self, values: Tensor, least: float, greatest: float) -> int:
        """Return how many values lie beyond the ends.

        Args:
            values: of one picture, or a weight's.
            least: the least of them; an end that none passes is not looked at.
            greatest: the greatest.
        """
        count = 0
        if least < self._inner[0]:
            count += int((values < self._along(self._low, values)).count_nonzero())
        if greatest > self._inner[1]:
            count += int((values > self._along(self._high, values)).count_nonzero())
        return count

    def _along(self, end: Tensor, values: Tensor) -> Tensor | float:
        if self._axis is None:
            return self._inner[0] if end is self._low else self._inner[1]
        shape = [1] * values.ndim
        shape[self._axis] = -1
        return end.view(shape)


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
