"""Pictures, maps, predictions, and a whole comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quantviz.specs.attention import Verdict
from quantviz.specs.basics import RGB, FloatMap, frozen
from quantviz.specs.quantization import GivenQuant, QuantSpec
from quantviz.specs.settings import CalibrationRef, CamSpec, WeightsRef


@dataclass(frozen=True, slots=True, eq=False)
class ImageSample:
    """One picture.

    Attributes:
        id: sha256 of the file's bytes, in hex.
        rgb: uint8 (H, W, 3), upright, sRGB, read-only.
        name: file name or the bundled photograph's name, for display.
        label: ImageNet class index, or None where it is not known.
        notes: what had to be done to get RGB (alpha composited, first frame taken, ...).
        orientation: the file's EXIF orientation, 1 to 8, by which the stored picture was turned upright.
    """

    id: str
    rgb: RGB
    name: str = ""
    label: int | None = None
    notes: tuple[str, ...] = ()
    orientation: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "rgb", frozen(self.rgb))


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
        object.__setattr__(self, "values", frozen(np.asarray(self.values, dtype=np.float32)))


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
class NetworkMap:
    """One network's map of one image: what it was made with, and its agreement with the image's saliency.

    Attributes:
        model: name of the network.
        weights: which weights it has.
        cam: method and (named) target layer.
        class_rule: ``"own"``, the network's own top-1, or the chosen class index.
        sample: the picture.
        crop: uint8 (H, W, 3), the pixels that the network saw, at the input's resolution.
        result: the map, the class that it explains, and the predictions.
        saliency: the image's saliency, or None.
        scores: ``"map_v_saliency"`` with a saliency; else empty.
        seconds: what this call took.
        versions: of quantviz and of the libraries that decide the result.
        notes: what a reader must know beside the numbers.
    """

    model: str
    weights: WeightsRef
    cam: CamSpec
    class_rule: str | int
    sample: ImageSample
    crop: RGB
    result: CamResult
    saliency: Saliency | None
    scores: Mapping[str, Scores]
    seconds: float
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def degenerate(self) -> dict[str, str]:
        """The maps that carry no evidence, by name, each with the reason."""
        maps = {"map": self.result.heatmap}
        if self.saliency is not None:
            maps["saliency"] = self.saliency.heatmap
        return {name: heatmap.degenerate for name, heatmap in maps.items() if heatmap.degenerate}


@dataclass(frozen=True, slots=True, eq=False)
class Deployed:
    """What the quantized network says as deployed: activation and logits by integer kernels, its gradient by torch.

    Where several layers of weights follow the target layer (VGG16), what follows it is the simulation's altogether.

    Attributes:
        result: its map and its predictions.
        scores: ``"deployed_v_quantized"`` (the simulation), ``"deployed_v_float"``, and with a saliency
            ``"deployed_v_saliency"``.
        milliseconds: what a map took by ``"float"``, ``"quantized"`` (simulated) and ``"deployed"`` when this was
            computed, medians of a few runs on that machine; empty for methods with many forward passes.
        raised_channels: channels whose weight has a larger scale than simulated, so that the bias fits into int32.
    """

    result: CamResult
    scores: Mapping[str, Scores]
    milliseconds: Mapping[str, float]
    raised_channels: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One image, a float and a quantized network: the maps, what they were made with, and their agreement.

    Attributes:
        model: name of the architecture, or of the float network.
        weights: which weights the float network has.
        quant: bit-widths and scheme; or what is known of a network that came quantized.
        calibration: what the activation ranges come from; None where the network came quantized.
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
        key: the store's key, the digest of everything that decides the result; "" where it is not known.
        backend: what computed the float map's activation, ``"torch"``, ``"onnxruntime"`` or ``"ncnn"``.
        quantized_backend: what computed the quantized map's activation, ``"torch"`` or ``"onnxruntime"``.
        backend_note: why torch did it though another was asked for, or "".
        deployed: the third result, where it was asked for.
        notes: what a reader must know beside the numbers (the two maps are on different grids, say).
        floor: drift, 1 - CC, of the float network's own map under a change that nobody sees; None where it was not
            measured.
    """

    model: str
    weights: WeightsRef
    quant: QuantSpec | GivenQuant
    calibration: CalibrationRef | None
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
    key: str
    backend: str = "torch"
    backend_note: str = ""
    quantized_backend: str = "torch"
    deployed: Deployed | None = None
    notes: tuple[str, ...] = ()
    floor: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the quantized network looks where the float one does."""
        return Verdict.of(self.scores["quantized_v_float"].cc, self.floor)

    @property
    def flipped(self) -> bool:
        """True when quantization changed the top-1 class."""
        return self.reference.predictions[0].index != self.quantized.predictions[0].index

    @property
    def degenerate(self) -> dict[str, str]:
        """The maps that carry no evidence, by name, each with the reason."""
        maps = {"float": self.reference.heatmap, "quantized": self.quantized.heatmap}
        if self.deployed is not None:
            maps["deployed"] = self.deployed.result.heatmap
        if self.saliency is not None:
            maps["saliency"] = self.saliency.heatmap
        return {name: heatmap.degenerate for name, heatmap in maps.items() if heatmap.degenerate}
