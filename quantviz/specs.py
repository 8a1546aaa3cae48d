"""The values every other room speaks in, and the error tree. Imports numpy only.

The error tree::

    QuantvizError            exit status 1
    ├── UsageError           exit status 2: the request itself is wrong
    │   ├── ImageError       a picture or map file that cannot be used
    │   └── CheckpointError  a weights file that cannot be used
    ├── WeightsUnavailable   weights are neither on disk nor reachable
    └── StoreError           the cache on disk cannot be used
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]
RGB = npt.NDArray[np.uint8]

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the fraction done in [0, 1], or None while it is unknown."""

COMPUTATION_VERSION = 1
"""Raised whenever a change of the code changes a map, so that older cache entries are not read."""

CAM_METHODS = (
    "gradcam",
    "gradcam++",
    "xgradcam",
    "hirescam",
    "layercam",
    "eigencam",
    "eigengradcam",
    "scorecam",
    "ablationcam",
)
MIN_BITS, MAX_BITS = 2, 16


class QuantvizError(Exception):
    """Whatever quantviz refuses or cannot do, told in one sentence."""

    exit_status = 1


class UsageError(QuantvizError):
    """The request is wrong: a value out of range, an unknown name."""

    exit_status = 2


class ImageError(UsageError):
    """A picture or map file cannot be used."""


class CheckpointError(UsageError):
    """A weights file cannot be used with the model."""


class WeightsUnavailable(QuantvizError):
    """Weights are neither on disk nor reachable."""


class StoreError(QuantvizError):
    """The cache on disk cannot be used."""


def no_progress(message: str, fraction: float | None = None) -> None:
    """Report nothing; the default of every ``progress`` argument."""


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only, contiguous view that later writes of the caller cannot reach."""
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C", copy=True)
        array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Attributes:
        resize: length in pixels that the shorter side is resized to.
        crop: side in pixels of the square centre crop, which is the input's resolution.
        interpolation: ``"bilinear"`` or ``"bicubic"``, both antialiased.
        mean: per channel, subtracted after scaling to [0, 1].
        std: per channel, divided by afterwards.
    """

    resize: int
    crop: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One set of published weights of a model.

    Attributes:
        name: as its library calls it, ``"IMAGENET1K_V1"`` for instance.
        file: the file's name; for torch hub it ends in the first eight digits of its sha256.
        sha256: the whole digest, or its published prefix.
        preprocessing: what these weights were evaluated with.
        bundled: True when an installed package holds the file.
    """

    name: str
    file: str
    sha256: str
    preprocessing: Preprocessing
    bundled: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One architecture of the table.

    Attributes:
        name: what users type.
        family: the name readers of the paper know it by.
        library: ``"torchvision"`` or ``"timm"``.
        constructor: the function's name in that library.
        layer: default CAM target layer, a module's dotted name (the paper's, where it has the model).
        head: dotted name of the module whose weight's first dimension is the number of classes.
        parameters: number of parameters at 1,000 classes.
        weights: the published weights, the default first.
    """

    name: str
    family: str
    library: Literal["torchvision", "timm"]
    constructor: str
    layer: str
    head: str
    parameters: int
    weights: tuple[PublishedWeights, ...]


@dataclass(frozen=True, slots=True)
class WeightsRef:
    """Which weights are in a model: everything a reader needs to get the same ones.

    Attributes:
        source: ``"bundled"``, ``"file"`` (the user's), ``"hub"`` or ``"untrained"``.
        name: name of the published weights, the user's file name, or ``"untrained"``.
        sha256: of the file's bytes; for untrained weights, of the seeded tensors' names and bytes.
        preprocessing: the matching preprocessing.
        classes: number of classes.
        note: what was adapted while loading (observer entries ignored, say), or "".
    """

    source: Literal["bundled", "file", "hub", "untrained"]
    name: str
    sha256: str
    preprocessing: Preprocessing
    classes: int = 1000
    note: str = ""

    @property
    def trained(self) -> bool:
        """False for seeded random weights, which must be labelled wherever they show."""
        return self.source != "untrained"


@dataclass(frozen=True, slots=True)
class QuantSpec:
    """How a network is quantized.

    Attributes:
        weight_bits: 2 to 16.
        act_bits: 2 to 16, or None for weight-only.
        scheme: of the weights; activations are affine.
        granularity: of the weights; activations are per-tensor.
        ranges: how activation ranges are set from the calibration images.
        protocol: ``"calibrated"``: eval mode, batch norm folded, ranges calibrated and then frozen.

    Raises:
        UsageError: a bit-width is out of range.
    """

    weight_bits: int = 8
    act_bits: int | None = 8
    scheme: Literal["symmetric"] = "symmetric"
    granularity: Literal["per_channel"] = "per_channel"
    ranges: Literal["minmax"] = "minmax"
    protocol: Literal["calibrated"] = "calibrated"

    def __post_init__(self) -> None:
        for what, bits in (("weight", self.weight_bits), ("activation", self.act_bits)):
            if bits is None and what == "activation":
                continue
            if type(bits) is not int or not MIN_BITS <= bits <= MAX_BITS:
                raise UsageError(f"{what} bit-width {bits!r} is not a whole number from {MIN_BITS} to {MAX_BITS}.")

    @property
    def headroom(self) -> float:
        """Factor by which calibrated activation ranges are widened: 2 from 12 bits on, else 1.

        A range from a few dozen images is exceeded by the odd image. Up to 8 bits a wider range costs more by its
        coarser grid than it saves; with 12 bits and more, saturation is the larger error by far, so one bit is
        spent on room for it (measured in the method page).
        """
        return 2.0 if self.act_bits is not None and self.act_bits >= 12 else 1.0

    @property
    def label(self) -> str:
        """The field's short name: ``"W8A8"``, or ``"W4"`` for weight-only."""
        return f"W{self.weight_bits}" + (f"A{self.act_bits}" if self.act_bits else "")


@dataclass(frozen=True, slots=True)
class CamSpec:
    """Which class activation map is taken, and where.

    Attributes:
        method: one of ``CAM_METHODS``.
        layer: dotted name of the target layer, or None for the model's default.

    Raises:
        UsageError: the method is unknown.
    """

    method: str = "gradcam++"
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.method not in CAM_METHODS:
            raise UsageError(f"CAM method {self.method!r} is unknown; use one of {', '.join(CAM_METHODS)}.")


@dataclass(frozen=True, slots=True, eq=False)
class ImageSample:
    """One picture.

    Attributes:
        id: sha256 of the file's bytes, in hex.
        rgb: uint8 (H, W, 3), upright, sRGB, read-only.
        name: file name or the bundled photograph's name, for display.
        label: ImageNet class index, or None where it is not known.
        notes: what had to be done to get RGB (alpha composited, first frame taken, ...).
    """

    id: str
    rgb: RGB
    name: str = ""
    label: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rgb", _frozen(self.rgb))


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """A map of where something is, min-max scaled.

    Attributes:
        values: float32 (h, w) in [0, 1], read-only; zeros where degenerate.
        degenerate: why the map carries no evidence (so that it is not scored), or "" when it does.
    """

    values: FloatMap
    degenerate: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _frozen(np.asarray(self.values, dtype=np.float32)))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class with its softmax probability in [0, 1]."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class CamResult:
    """What one model says of one image: its map on two grids and its predictions.

    Attributes:
        heatmap: (H, W) at the input's resolution.
        native: (h, w) on the target layer's own grid.
        class_index: the class that the map explains.
        predictions: top-5, most probable first.
    """

    heatmap: Heatmap
    native: Heatmap
    class_index: int
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement of two maps; None throughout where either map is degenerate.

    Attributes:
        sim: similarity (histogram intersection), [0, 1], higher is closer.
        cc: Pearson's linear correlation coefficient, [-1, 1], higher is closer.
        kld: Kullback-Leibler divergence in nats, 0 and up, lower is closer.
    """

    sim: float | None
    cc: float | None
    kld: float | None


def digest_of(value: Any) -> str:
    """Return the sha256 in hex of the canonical JSON of ``value``.

    Canonical: keys sorted, no spaces, ASCII; dataclasses as objects. NaN is refused.
    """
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, eq=False)
class StoredRecord:
    """What the store keeps under one key: arrays by name, and JSON-able metadata."""

    arrays: Mapping[str, npt.NDArray[Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CalibrationRef:
    """Which images the activation ranges come from.

    Attributes:
        source: ``"bundled photographs"`` or the user's folder name.
        images: number of network inputs made from them.
        sha256: over the files' digests and the way crops are taken.
    """

    source: str
    images: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """A map of what is salient in the image, with where it comes from.

    Attributes:
        heatmap: at the input's resolution.
        source: the method's or the file's name.
        predicted: True for a computed prediction, False for a map that the user supplied.
    """

    heatmap: Heatmap
    source: str
    predicted: bool


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One image, one float model and its quantized copy: the maps, what they were made with, and their agreement.

    Attributes:
        model: name of the architecture.
        weights: which weights.
        quant: bit-widths and scheme.
        calibration: what the activation ranges come from.
        cam: method and (named) target layer.
        class_rule: ``"float"``, ``"own"`` or the chosen class index.
        sample: the picture.
        crop: uint8 (H, W, 3), the pixels that the network saw, at the input's resolution.
        reference: the float model's result.
        quantized: the quantized model's result.
        saliency: the image's saliency, or None.
        scores: ``"quantized_v_float"``, and with a saliency ``"float_v_saliency"`` and ``"quantized_v_saliency"``.
        seconds: what this call took.
        cached: True when every map came from the store.
        versions: of quantviz and of the libraries that decide the result.
    """

    model: str
    weights: WeightsRef
    quant: QuantSpec
    calibration: CalibrationRef
    cam: CamSpec
    class_rule: str | int
    sample: ImageSample
    crop: RGB
    reference: CamResult
    quantized: CamResult
    saliency: Saliency | None
    scores: Mapping[str, Scores]
    seconds: float
    cached: bool
    versions: Mapping[str, str]

    @property
    def flipped(self) -> bool:
        """True when quantization changed the top-1 class."""
        return self.reference.predictions[0].index != self.quantized.predictions[0].index

    @property
    def degenerate(self) -> dict[str, str]:
        """The maps that carry no evidence, by name, each with the reason."""
        maps = {"float": self.reference.heatmap, "quantized": self.quantized.heatmap}
        if self.saliency is not None:
            maps["saliency"] = self.saliency.heatmap
        return {name: heatmap.degenerate for name, heatmap in maps.items() if heatmap.degenerate}
