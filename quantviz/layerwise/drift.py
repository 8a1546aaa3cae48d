"""How far changed networks are from the float network, over a set of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantviz import images, scores
from quantviz.comparison.loaded import Subject
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.specs import Drift
from quantviz.specs import (
    CALIBRATED,
    RGB,
    CamSpec,
    Cost,
    Crop,
    FloatMap,
    ImageSample,
    LayerCost,
    Phase,
    Progress,
    QuantSpec,
    StoredRecord,
    UsageError,
    no_progress,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.cam import KeptFeatures, Locked
    from quantviz.quantize import Switchboard

Float64 = npt.NDArray[np.float64]

VERSION, _COUNTING = 2, 2
"""Raised whenever a change of the code changes a drift, or a cost, so that older cache entries are not read."""

DRIFT = "drift"
"""Part of the store's keys of changed networks' ``Changes``."""

LOST = 1.0
"""Drift of a map that has lost all evidence: it agrees with the float one no more than chance does (CC 0)."""

_CLASSES = 1000
_FEW = 16
_ARRAYS = ("cams", "kl", "signal", "noise", "before", "after")


@dataclass(frozen=True, slots=True, eq=False)
class MapAndLogits:
    """What a network says of one image.

    Attributes:
        heatmap: float32 (H, W), zeros where the map carries no evidence.
        logits: float64 (classes,).
        class_index: the class that the map explains.
    """

    heatmap: FloatMap
    logits: Float64
    class_index: int


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What a changed network does to each of n images.

    Attributes:
        cams: float64 (n,), 1 - CC; ``LOST`` where only the changed map carries no evidence; NaN where the float map
            carries none.
        kl: float64 (n,), Kullback-Leibler divergence from the float network's probabilities, nats.
        signal: float64 (n,), sum over the float logits' squares.
        noise: float64 (n,), sum over the squared differences of the logits.
        before: int64 (n,), the float network's top-1.
        after: int64 (n,), the changed network's top-1.
    """

    cams: Float64
    kl: Float64
    signal: Float64
    noise: Float64
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]

    @classmethod
    def of(cls, before: Sequence[MapAndLogits], after: Sequence[MapAndLogits]) -> Changes:
        """Return the changes between answers of two networks on the same images."""
        pairs = list(zip(before, after, strict=True))
        cams = [_map_drift(changed.heatmap, first.heatmap) for first, changed in pairs]
        return cls(
            cams=np.array([np.nan if mark is None else mark for mark in cams], np.float64),
            kl=np.array([_divergence(first.logits, changed.logits) for first, changed in pairs]),
            signal=np.array([np.square(first.logits).sum() for first, _ in pairs]),
            noise=np.array([np.square(first.logits - changed.logits).sum() for first, changed in pairs]),
            before=np.array([first.logits.argmax() for first, _ in pairs], np.int64),
            after=np.array([changed.logits.argmax() for _, changed in pairs], np.int64),
        )

    def drift(self, labels: Sequence[int | None]) -> Drift:
        """Return the drift over all images; ``labels`` are theirs."""
        cams = tuple(None if np.isnan(mark) else float(mark) for mark in self.cams)
        scored = [mark for mark in cams if mark is not None]
        noise = float(self.noise.sum())
        return Drift(
            cam=float(np.mean(scored)) if scored else None,
            cams=cams,
            kl=float(self.kl.mean()),
            sqnr=float(10 * np.log10(self.signal.sum() / noise)) if noise else None,
            flips=float((self.before != self.after).mean()),
            accuracy=accuracy(self.after, labels),
        )


def accuracy(classes: npt.NDArray[np.int64], labels: Sequence[int | None]) -> float | None:
    """Return the part of the labelled images whose class is the label, or None where there is none."""
    right = [int(index) == label for index, label in zip(classes, labels, strict=True) if label is not None]
    return sum(right) / len(right) if right else None


class Drifts:
    """Measures changed networks against the float network, by way of the store.

    The float network is the one that a comparison shows, and its maps are made once, when first needed.

    Args:
        bench: with the models and the store.
        subject: the model, weights and calibration images.
        cam: method, and the named target layer.
        samples: the pictures, at least one.
        class_index: the class that every map explains; None: what the float network saw in the picture.
        crop: which part of each picture the network sees.
    """

    def __init__(
        self,
        bench: Workbench,
        subject: Subject,
        cam: CamSpec,
        samples: Sequence[ImageSample],
        class_index: int | None = None,
        crop: Crop | None = None,
    ) -> None:
        if not samples:
            raise UsageError("There is no picture to measure on; name one, or a folder of some.")
        self.bench, self.subject, self.cam, self.samples = bench, subject, cam, tuple(samples)
        self.class_index, self.crop = class_index, crop or Crop()
        self.preprocessing = subject.ref.preprocessing.at(self.crop)
        known = bool(subject.ref.names) or subject.ref.classes == _CLASSES
        self.labels = tuple(sample.label if known else None for sample in samples)
        self._crops: list[RGB] = []
        self._before: list[MapAndLogits] = []

    @property
    def images(self) -> tuple[tuple[str, str], ...]:
        """The (sha256, name) of each image."""
        return tuple((sample.id, sample.name) for sample in self.samples)

    def key(self, kind: str, **rest: Any) -> str:
        """Return the store's key of a result over these images."""
        ids = [sample.id for sample in self.samples]
        rest |= {} if self.class_index is None else {"class": self.class_index}
        rest |= {} if self.crop == Crop() else {"crop": self.crop}
        return self.subject.key(kind, version=VERSION, images=ids, cam=self.cam, **rest)

    def changes(
        self,
        network: Callable[[], nn.Module | Locked[nn.Module]],
        decides: Mapping[str, Any],
        progress: Progress,
    ) -> Changes:
        """Return what the network that ``network`` makes changes, from the store if it is there.

        Args:
            network: makes it; called only where the store does not hold the changes.
            decides: all that decides the network, beside the float one.
            progress: reports the part of the images done; whatever it raises ends the call and nothing is kept.
        """

        def measure() -> Changes:
            before = self.before(progress)
            return Changes.of(before, self.answers(network(), self.crops, progress))

        return self.cached(DRIFT, decides, measure)

    def cached(self, kind: str, decides: Mapping[str, Any], measure: Callable[[], Changes]) -> Changes:
        """Return the changes that ``measure`` returns, from the store if they are there."""
        changes = self.stored(kind, decides)
        if changes is None:
            changes = measure()
            record = StoredRecord({name: getattr(changes, name) for name in _ARRAYS})
            self.bench.store.put(self.key(kind, **decides), record)
        return changes

    def stored(self, kind: str, decides: Mapping[str, Any]) -> Changes | None:
        """Return the changes that ``cached`` keeps under this key, or None where they are not in the store."""
        record = self.bench.store.get(self.key(kind, **decides))
        if record is None:
            return None
        return Changes(**{name: np.asarray(record.arrays[name]) for name in _ARRAYS})

    def before(self, progress: Progress) -> list[MapAndLogits]:
        """Return the float network's answers, each map of its own top-1 or of ``class_index``."""
        if not self._before:
            progress("Maps of the float network", 0.0, Phase.EXPLAINING)  # before torch is imported
            network = self.bench.networks.reference(self.subject, progress)
            found: dict[str, MapAndLogits] = {}  # a picture that is there twice is computed once
            for place, (sample, crop) in enumerate(zip(self.samples, self.crops, strict=True)):
                progress("Maps of the float network", place / len(self.crops), Phase.EXPLAINING)
                if sample.id not in found:
                    found[sample.id] = answer(network, self._input(crop), self.cam, self.class_index, self.passes)
            self._before = [found[sample.id] for sample in self.samples]
        return self._before

    @property
    def crops(self) -> list[RGB]:
        """The pixels that the network sees of each picture, uint8 (H, W, 3)."""
        if not self._crops:
            self._crops = [images.crop(sample.rgb, self.preprocessing) for sample in self.samples]
        return self._crops

    @property
    def passes(self) -> KeptFeatures | None:
        """Where the float network's forward passes are kept; None for many pictures, which would put each other out."""
        return self.bench.networks.kept_features() if len(self.samples) <= _FEW else None

    def answers(
        self,
        network: nn.Module | Locked[nn.Module],
        crops: Sequence[RGB],
        progress: Progress,
        kept: KeptFeatures | None = None,
    ) -> list[MapAndLogits]:
        """Return a network's answers on other pixels, each map of the class that the float network saw in the picture.

        Args:
            network: float or quantized.
            crops: one for each picture, decided by it.
            progress: reports the part done.
            kept: ``passes`` for the float network.
        """
        found: dict[str, MapAndLogits] = {}
        rows = zip(self.samples, crops, self.before(progress), strict=True)
        for place, (sample, crop, first) in enumerate(rows):
            progress("Maps", place / len(crops), Phase.EXPLAINING)
            if sample.id not in found:
                found[sample.id] = answer(network, self._input(crop), self.cam, first.class_index, kept)
        return [found[sample.id] for sample in self.samples]

    def _input(self, crop: RGB) -> Tensor:
        import torch

        return torch.from_numpy(images.normalize(crop, self.preprocessing))


def answer(
    network: nn.Module | Locked[nn.Module],
    image: Tensor,
    cam: CamSpec,
    class_index: int | None,
    kept: KeptFeatures | None = None,
) -> MapAndLogits:
    """Return a network's map and logits of one image (1, 3, H, W); None explains its own top-1.

    Args:
        network: float or quantized.
        image: (1, 3, H, W) float32.
        cam: method and named layer.
        class_index: the class to explain, or None.
        kept: as in ``cam.explain``; not for a switchboard's network, which changes.
    """
    from quantviz.cam import explain

    explanation = explain(network, image, cam, class_index, kept=kept)
    return MapAndLogits(explanation.heatmap.values, explanation.logits.astype(np.float64), explanation.class_index)


def resolved(bench: Workbench, request: CompareRequest, progress: Progress) -> tuple[Subject, CamSpec]:
    """Return a request's subject and its map's method and named layer.

    Raises:
        UsageError: the request is not of the calibrated protocol; or as ``Workbench.subject``.
    """
    if request.quant.protocol != CALIBRATED:
        raise UsageError(
            f"Single layers cannot be switched under the protocol {request.quant.protocol!r}; use {CALIBRATED}."
        )
    subject = _complete(bench, bench.subject(request, progress), progress)
    return subject, replace(request.cam, layer=subject.layer)


def _complete(bench: Workbench, subject: Subject, progress: Progress) -> Subject:
    """Return a subject whose weights' number of classes is known, which for a user's file takes reading it."""
    if subject.ref.source != "file":
        return subject
    record = bench.store.get(key := subject.key("weights"))
    if record is None:
        ref = bench.networks.load(subject.spec, subject.located, progress).ref
        record = StoredRecord({}, {"classes": ref.classes, "note": ref.note})
        bench.store.put(key, record)
    return replace(subject, ref=replace(subject.ref, **record.metadata))


def decides(subject: Subject, quant: QuantSpec, learned_for: QuantSpec | None = None) -> dict[str, Any]:
    """Return what decides a quantized network, beside the float one.

    Args:
        subject: with the calibration images.
        quant: bits and scheme.
        learned_for: the quantization that weights were learned for of which some are used, where it learns any.
    """
    context = learned_for if learned_for is not None and learned_for.learns else None
    return {"quantization": quant, "calibration": subject.calibration.ref.sha256, "learned for": context}


def switchboard(bench: Workbench, subject: Subject, quant: QuantSpec, progress: Progress) -> Switchboard:
    """Return a network that takes on any bits of its layers, in the scheme of ``quant``."""
    from quantviz.quantize import Switchboard

    base = bench.networks.base(subject, quant, progress)
    ranges = bench.networks.ranges(subject, quant, progress)
    learned = bench.networks.learned(subject, quant, progress)
    with base.locked() as module:
        return Switchboard(module, quant, ranges, learned)


def layers_of(
    bench: Workbench, subject: Subject, quant: QuantSpec, progress: Progress
) -> tuple[tuple[LayerCost, ...], int]:
    """Return a network's quantized layers in order of execution, and the number of its other float values."""
    stored = stored_layers(bench, subject, quant)
    if stored is not None:
        return stored
    from quantviz.quantize import layer_costs, other_values

    base = bench.networks.base(subject, quant, progress)
    with base.locked() as module:
        layers, others = layer_costs(module, bench.networks.example(subject)), other_values(module)
    record = StoredRecord({}, {"layers": [asdict(layer) for layer in layers], "others": others})
    bench.store.put(_layers_key(subject, quant), record)
    return tuple(layers), others


def stored_layers(bench: Workbench, subject: Subject, quant: QuantSpec) -> tuple[tuple[LayerCost, ...], int] | None:
    """Return what ``layers_of`` would read from the store, or None."""
    record = bench.store.get(_layers_key(subject, quant))
    if record is None:
        return None
    return tuple(LayerCost(**layer) for layer in record.metadata["layers"]), record.metadata["others"]


def _layers_key(subject: Subject, quant: QuantSpec) -> str:
    return subject.key("layers", version=[VERSION, _COUNTING], layer=subject.layer, equalize=quant.equalize)


def subject_cost(bench: Workbench, subject: Subject, quant: QuantSpec, progress: Progress) -> Cost:
    """Return what a network costs under ``quant``, from the store if it is there."""
    known = stored_cost(bench, subject, quant)
    if known is not None:
        return known
    from quantviz.quantize import cost

    layers, others = layers_of(bench, subject, quant, progress)
    computed = cost(layers, quant, others)
    bench.store.put(_cost_key(subject, quant), StoredRecord({}, asdict(computed)))
    return computed


def stored_cost(bench: Workbench, subject: Subject, quant: QuantSpec) -> Cost | None:
    """Return what ``subject_cost`` would read from the store, or None."""
    record = bench.store.get(_cost_key(subject, quant))
    return None if record is None else Cost(**record.metadata)


def _cost_key(subject: Subject, quant: QuantSpec) -> str:
    return subject.key("cost", version=[VERSION, _COUNTING], layer=subject.layer, quantization=quant)


def model_cost(bench: Workbench, request: CompareRequest, progress: Progress = no_progress) -> Cost:
    """Return a quantized network's size, multiply-accumulates and bit operations; raises as ``Workbench.compare``."""
    return subject_cost(bench, bench.subject(request, progress), request.quant, progress)


def _map_drift(changed: FloatMap, first: FloatMap) -> float | None:
    if first.any() and not changed.any():  # a map without evidence is zeros
        return LOST
    agreement = scores.compare(changed, first).cc
    return None if agreement is None else 1 - agreement


def _divergence(first: Float64, changed: Float64) -> float:
    """Return the Kullback-Leibler divergence in nats of two softmaxes, from logits (classes,)."""
    log_p, log_q = (values - np.logaddexp.reduce(values) for values in (first, changed))
    return max(0.0, float((np.exp(log_p) * (log_p - log_q)).sum()))
