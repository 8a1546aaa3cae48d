"""What a diagnosis says: figures of every tensor, the causes that rules name, and what mends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Role = Literal["weight", "activation", "bias"]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A tensor of a network and the grid that it is rounded to.

    Attributes:
        name: of the tensor; unique.
        layer: the layer or operator that reads it.
        role: weight, activation or bias.
        bits: of its integers; None where it stays in float.
        scale: float64 (1,), or (channels,) on a per-channel grid; empty in float.
        zero_point: int64, of the scale's shape.
        quant_min: least integer.
        quant_max: greatest integer.
        axis: of the channels that have scales of their own; None where there is one scale.
        nodes: of an ONNX file, names of the operators that read it.
    """

    name: str
    layer: str
    role: Role
    bits: int | None = None
    scale: Float64 = field(default_factory=lambda: np.zeros(0))
    zero_point: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    quant_min: int = 0
    quant_max: int = 0
    axis: int | None = None
    nodes: tuple[str, ...] = ()

    @property
    def low(self) -> Float64:
        """Least value on the grid, for each scale."""
        return self.scale * (self.quant_min - self.zero_point)

    @property
    def high(self) -> Float64:
        """Greatest value on the grid, for each scale."""
        return self.scale * (self.quant_max - self.zero_point)

    @property
    def symmetric(self) -> bool:
        """Whether zero lies in the middle of the integers."""
        middle = (self.quant_min + self.quant_max + 1) // 2
        return bool(len(self.zero_point)) and bool((self.zero_point == middle).all())


@dataclass(frozen=True, slots=True, eq=False)
class ChannelFigures:
    """Figures of each channel of a tensor.

    Attributes:
        low: float64 (channels,), least float value.
        high: float64 (channels,), greatest float value.
        sqnr: float64 (channels,), accumulated, in dB; infinite where there is no difference, NaN where no signal.
        vanished: bool (channels,), not zero in float and all zero on the grid.
    """

    low: Float64
    high: Float64
    sqnr: Float64
    vanished: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TensorHistogram:
    """How often a tensor has which values, in float and quantized.

    Attributes:
        edges: float64 (bins + 1,).
        reference: int64 (bins,), counts of the float network's values.
        quantized: int64 (bins,), counts of the quantized network's.
        sampled: number of values that were counted, drawn evenly from every picture; all of a weight's.
    """

    edges: Float64
    reference: Int64
    quantized: Int64
    sampled: int


@dataclass(frozen=True, slots=True)
class TensorDrift:
    """What one tensor does to the maps.

    Attributes:
        alone: mean of 1 - CC when it alone is quantized; None where no map carries evidence.
        all_but: the same when every tensor but it is quantized.
        floor: the noise floor, or None where it is not known.
    """

    alone: float | None
    all_but: float | None
    floor: float | None

    @property
    def over_floor(self) -> float | None:
        """Drift of the tensor alone as a multiple of the noise floor."""
        return self.alone / self.floor if self.alone is not None and self.floor else None


@dataclass(frozen=True, slots=True, eq=False)
class TensorFigures:
    """What rounding does to one tensor, over all pictures.

    SQNR is 10 log10(sum x^2 / sum (x - y)^2) in dB over all values of all pictures, as in
    ``onnxruntime.quantization.qdq_loss_debug``.

    Attributes:
        site: the tensor and its grid.
        depth: place in the order of execution, from 0.
        sqnr: accumulated: x of the float network, y of the quantized network, in which everything before it is rounded
            too; None where there is no difference, or no signal.
        sqnr_isolated: of its own rounding alone: x before and y after it, both in the quantized network; of a weight
            the same as ``sqnr``. None where there is no difference, where it is not rounded or cannot be read.
        cosine: of x and y as in ``sqnr``; None where one of them is zero throughout.
        clipped: part of the float values that lie beyond the ends of the grid by more than half a step, 0 to 1.
        used: part of the grid's range that the float values fill, 0 to 1; the mean over the scales; None in float.
        low: least float value.
        high: greatest float value.
        picture_ratio: greatest picture's range over the mean picture's; 1 for a weight.
        channels: number of channels.
        outlier_ratio: greatest channel's reach (max |x|) over the median channel's, among channels that share a scale
            and are not zero throughout; 1 where there is but one.
        outliers: the channels that reach more than ``OUTLIER_RATIO`` times as far as the median, farthest first.
        sharing_loss: dB that it costs that channels share one scale: of the noise that a step of the shared grid makes
            over that of a step of each channel's own, the mean over channels.
        zero_channels: number of channels that are not zero in float and all zero on the grid.
        zero_point_saturates: whether 0 stands at an end of the grid while values lie beyond that end.
        noise: sum of (x - y)^2 of its own rounding over all values, over n: mean squared error.
        step_noise: mean of step^2 / 12 over scales: what rounding to nearest makes where nothing is clipped.
        values: number of values over all pictures.
        histogram: of sampled values.
        by_channel: figures of every channel.
        drift: what it does to the maps, where that was measured.
    """

    site: Site
    depth: int
    sqnr: float | None
    sqnr_isolated: float | None
    cosine: float | None
    clipped: float
    used: float | None
    low: float
    high: float
    picture_ratio: float
    channels: int
    outlier_ratio: float
    outliers: tuple[int, ...]
    sharing_loss: float
    zero_channels: int
    zero_point_saturates: bool
    noise: float
    step_noise: float
    values: int
    histogram: TensorHistogram
    by_channel: ChannelFigures
    drift: TensorDrift | None = None

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.site.name


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the structure of a network that does not show in a tensor's values.

    Attributes:
        cause: name of the cause, of ``causes.CAUSES``.
        tensor: the tensor that it is found at.
        figures: what speaks for it.
        sentence: what was found.
    """

    cause: str
    tensor: str
    figures: Mapping[str, float]
    sentence: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a tensor is harmed, and what mends it.

    Attributes:
        tensor: its name.
        cause: name of the cause, of ``causes.CAUSES``.
        sentence: what is wrong, with the figure behind it.
        figures: the figures that the rule judged by, with the thresholds.
        severity: the dB that it costs, estimated; of what shows in the structure alone a fixed number.
        remedy: name of the remedy, of ``causes.REMEDIES``.
        advice: what to do, in a few words.
        reference: where the rule is from.
        page: the page of the troubleshooting manual.
    """

    tensor: str
    cause: str
    sentence: str
    figures: Mapping[str, float]
    severity: float
    remedy: str
    advice: str
    reference: str
    page: str


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """Every tensor of a quantized network beside the float one, and what is wrong with which.

    Attributes:
        network: name of the network, or of the quantized file.
        kind: ``"simulation"`` for a network that quantviz rounds, ``"files"`` for a pair of ONNX files.
        quantization: label of how it is quantized, ``"W8A8"``.
        details: what else decides the result: weights, scheme and calibration, or files; JSON-able.
        images: (sha256, name) of each picture.
        tensors: in order of execution.
        causes: the most severe first.
        floor: the noise floor of the maps, where drift was measured.
        notes: what a reader should know, a sentence each.
    """

    network: str
    kind: Literal["simulation", "files"]
    quantization: str
    details: Mapping[str, object]
    images: tuple[tuple[str, str], ...]
    tensors: tuple[TensorFigures, ...]
    causes: tuple[Cause, ...]
    floor: float | None = None
    notes: tuple[str, ...] = ()

    def tensor(self, name: str) -> TensorFigures:
        """Return a tensor by name.

        Raises:
            KeyError: there is none.
        """
        for entry in self.tensors:
            if entry.name == name:
                return entry
        raise KeyError(name)

    @property
    def ranking(self) -> tuple[str, ...]:
        """Names of the tensors, worst first.

        Tensors with a cause come first, by the causes' severity; then the others, by drift over the floor where it was
        measured, else by their isolated SQNR, weights and activations before biases. Tensors that lose nothing come
        last.
        """
        severity: dict[str, float] = {}
        for cause in self.causes:
            severity[cause.tensor] = max(severity.get(cause.tensor, 0.0), cause.severity)
        names = {entry.name for entry in self.tensors}
        extra = [name for name in severity if name not in names]

        def worst(entry: TensorFigures) -> tuple[float, float, bool, float, int]:
            drift = -1.0 if entry.drift is None or entry.drift.alone is None else entry.drift.alone
            lost = np.inf if entry.sqnr_isolated is None else entry.sqnr_isolated
            # A bias lies on the step of the sums that it is added to, of which it may be a small part: a low SQNR of a
            # small bias says nothing of what it does to them.
            minor = entry.site.role == "bias"
            return (-severity.get(entry.name, 0.0), -drift, minor, lost, entry.depth)

        ranked = [entry.name for entry in sorted(self.tensors, key=worst)]
        return (*extra, *ranked) if extra else tuple(ranked)


OUTLIER_RATIO = 8.0
"""Channels that reach this many times as far as the median one are called outliers."""
