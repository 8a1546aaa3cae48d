"""From a request to a comparison, by way of the store and the loaded models."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from quantviz import __version__, images, scores, zoo
from quantviz.pipeline.calibration import CalibrationSet, calibration_set
from quantviz.pipeline.pool import Pool
from quantviz.pipeline.records import pack_comparison, pack_result, unpack_comparison, unpack_result
from quantviz.pipeline.sources import SPECTRAL_RESIDUAL, SaliencySource, saliency_source
from quantviz.specs import (
    COMPUTATION_VERSION,
    RGB,
    CamResult,
    CamSpec,
    Comparison,
    Heatmap,
    ImageSample,
    ModelSpec,
    Prediction,
    Preprocessing,
    Progress,
    QuantSpec,
    Scores,
    StoredRecord,
    UsageError,
    WeightsRef,
    digest_of,
    no_progress,
)
from quantviz.store import TensorStore

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.quantize import Ranges

_CALIBRATION_BATCH = 8
_TOP = 5


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare an image by.

    Attributes:
        model: name of an architecture.
        weights: None for the default published weights, the name of others, ``"untrained"``, or a file's path.
        quant: bit-widths and scheme.
        cam: method, and target layer (None for the model's default).
        target: ``"float"``: both maps explain the float model's top-1; ``"own"``: each its own; or a class index.
        calibration: folder of calibration pictures, or None for the bundled photographs.
        saliency: None; a method's name (``"spectral_residual"``); the path of an .onnx network or of a map; or a
            map file's bytes.
        saliency_name: display name of a supplied map.

    Raises:
        UsageError: the class rule is unknown.
    """

    model: str = zoo.DEFAULT_MODEL
    weights: str | None = None
    quant: QuantSpec = field(default_factory=QuantSpec)
    cam: CamSpec = field(default_factory=CamSpec)
    target: Literal["float", "own"] | int = "float"
    calibration: Path | None = None
    saliency: Path | bytes | str | None = SPECTRAL_RESIDUAL
    saliency_name: str = ""

    def __post_init__(self) -> None:
        if self.target not in ("float", "own") and type(self.target) is not int:
            raise UsageError(f"Class rule {self.target!r} is unknown; use float, own or a class index.")


@dataclass(frozen=True, slots=True)
class _Loaded:
    module: nn.Module
    ref: WeightsRef


@dataclass(frozen=True, slots=True)
class _Job:
    """A request with everything resolved that decides its result."""

    spec: ModelSpec
    located: zoo.LocatedWeights
    ref: WeightsRef
    request: CompareRequest
    cam: CamSpec
    sample: ImageSample
    crop: RGB
    calibration: CalibrationSet
    saliency: SaliencySource
    progress: Progress

    def decides(self) -> dict[str, Any]:
        """Return what decides the two maps, beyond the model."""
        return {
            "image": self.sample.id,
            "cam": self.cam,
            "target": self.request.target,
            "quantization": self.request.quant,
            "calibration": self.calibration.ref.sha256,
            "saliency": self.saliency.key,
        }

    def key(self, kind: str, **rest: Any) -> str:
        """Return the store's key: the digest of everything that decides a result of this kind."""
        decides = {
            "kind": kind,
            "computation": COMPUTATION_VERSION,
            "versions": deciding_versions(),
            "model": self.spec.name,
            "weights": self.ref.sha256,
            "preprocessing": self.ref.preprocessing,
        }
        return digest_of(decides | rest)


class Workbench:
    """Loaded models and quantized copies over one store; any number of threads may share it.

    Args:
        store: where maps and ranges are kept.
        float_models: how many float models to keep in memory.
        quantized_models: how many quantized copies to keep.
    """

    def __init__(self, store: TensorStore, *, float_models: int = 3, quantized_models: int = 4) -> None:
        self.store = store
        self._floats: Pool[_Loaded] = Pool(float_models)
        self._quantized: Pool[nn.Module] = Pool(quantized_models)

    def compare(self, request: CompareRequest, sample: ImageSample, progress: Progress = no_progress) -> Comparison:
        """Compare the float and the quantized model on one image; what the store holds is not computed again.

        Args:
            request: what to compare by.
            sample: the picture.
            progress: told what is being done; whatever it raises ends the call and leaves nothing half done.

        Raises:
            UsageError: an unknown model, layer or class, or a file that cannot be used.
            WeightsUnavailable: the weights are neither on disk nor reachable.
            QuantvizError: the model gave values that are not finite.
        """
        started = time.perf_counter()
        job = self._job(request, sample, progress)
        key = job.key("comparison", **job.decides())
        record = self.store.get(key)
        if record is None:
            # First, so that a map that does not fit is told at once.
            salient = job.saliency.heatmap(sample, job.crop, job.ref.preprocessing)
            job = self._loaded_job(job)
            reference, quantized = self._pair(job)
            marks = _scores(reference, quantized, salient)
            loaded: dict[str, Any] = {"classes": job.ref.classes, "note": job.ref.note}
            self.store.put(key, pack_comparison(reference, quantized, salient, marks, loaded))
        else:
            reference, quantized, salient, marks, loaded = unpack_comparison(record)
        return Comparison(
            model=job.spec.name,
            weights=replace(job.ref, **loaded),
            quant=request.quant,
            calibration=job.calibration.ref,
            cam=job.cam,
            class_rule=request.target,
            sample=sample,
            crop=job.crop,
            reference=reference,
            quantized=quantized,
            saliency=None if salient is None else job.saliency.described(salient),
            scores=marks,
            seconds=time.perf_counter() - started,
            cached=record is not None,
            versions=versions(),
            key=key,
        )

    def float_result(
        self,
        request: CompareRequest,
        sample: ImageSample,
        target: int | None,
        preprocessing: Preprocessing,
        progress: Progress = no_progress,
    ) -> CamResult:
        """Return the float model's result alone, explaining class ``target`` or, for None, its own top-1.

        The picture is cropped by ``preprocessing``, so that maps of several weights are of the same pixels.

        Raises:
            as ``compare``.
        """
        job = self._job(request, sample, progress)
        crop = images.crop(sample.rgb, preprocessing)
        return self._result(replace(job, ref=replace(job.ref, preprocessing=preprocessing), crop=crop), None, target)

    def models(
        self, request: CompareRequest, sample: ImageSample, progress: Progress = no_progress
    ) -> tuple[nn.Module, nn.Module, Tensor]:
        """Return the float model, its quantized copy, and the picture as their input (1, 3, H, W).

        Both models are shared: run them under ``cam.lock_of`` and leave them as they are.

        Raises:
            as ``compare``.
        """
        import torch

        job = self._job(request, sample, progress)
        image = torch.from_numpy(images.normalize(job.crop, job.ref.preprocessing))
        model = self._float(job.spec, job.located, progress).module
        return model, self._quantized_model(job, request.quant), image

    def _job(self, request: CompareRequest, sample: ImageSample, progress: Progress) -> _Job:
        spec = zoo.spec(request.model)
        located = zoo.resolve(spec, request.weights, progress=progress)
        ref = located.ref
        if not ref.sha256:  # untrained weights are known by their digest, which takes drawing them
            ref = self._float(spec, located, progress).ref
        layer = request.cam.layer or spec.layer
        if layer != spec.layer:
            from quantviz.zoo.build import check_layer

            check_layer(spec, layer)
        return _Job(
            spec=spec,
            located=located,
            ref=ref,
            request=request,
            cam=replace(request.cam, layer=layer),
            sample=sample,
            crop=images.crop(sample.rgb, ref.preprocessing),
            calibration=calibration_set(request.calibration),
            saliency=saliency_source(request.saliency, request.saliency_name),
            progress=progress,
        )

    def _loaded_job(self, job: _Job) -> _Job:
        job = replace(job, ref=self._float(job.spec, job.located, job.progress).ref)
        target = job.request.target
        if not isinstance(target, str) and not 0 <= target < job.ref.classes:
            last = job.ref.classes - 1
            raise UsageError(f"Class {target} does not exist; {job.spec.name} has classes 0 to {last} here.")
        return job

    def _float(self, spec: ModelSpec, located: zoo.LocatedWeights, progress: Progress) -> _Loaded:
        def load() -> _Loaded:
            from quantviz.zoo.build import build

            progress(f"Loading {spec.name}", None)
            return _Loaded(*build(spec, located))

        return self._floats.get((spec.name, located.ref.sha256, located.ref.source), load)

    def _pair(self, job: _Job) -> tuple[CamResult, CamResult]:
        target = None if isinstance(job.request.target, str) else job.request.target
        reference = self._result(job, None, target)
        if job.request.target == "float":
            target = reference.class_index
        return reference, self._result(job, job.request.quant, target)

    def _result(self, job: _Job, quant: QuantSpec | None, target: int | None) -> CamResult:
        """Return the float (``quant`` None) or quantized model's result, from the store if it is there."""
        decides = {"image": job.sample.id, "cam": job.cam, "target": target, "quantization": quant}
        if quant is not None:
            decides["calibration"] = job.calibration.ref.sha256
        key = job.key("map", **decides)
        record = self.store.get(key)
        if record is not None:
            return unpack_result(record)
        result = self._explained(job, quant, target)
        self.store.put(key, pack_result(result))
        return result

    def _explained(self, job: _Job, quant: QuantSpec | None, target: int | None) -> CamResult:
        import torch

        from quantviz import cam
        from quantviz.zoo.build import labels

        model = self._quantized_model(job, quant) if quant else self._float(job.spec, job.located, job.progress).module
        name = quant.label if quant else "float"
        job.progress(f"{job.cam.method} of the {name} model", None)
        image = torch.from_numpy(images.normalize(job.crop, job.ref.preprocessing))
        found = cam.explain(
            model, image, job.cam, target, lambda message, part: job.progress(f"{message}, {name} model", part)
        )
        names = labels(len(found.probabilities))
        order = np.argsort(-found.probabilities, kind="stable")[:_TOP]
        return CamResult(
            heatmap=found.heatmap,
            native=found.native,
            class_index=found.class_index,
            predictions=tuple(
                Prediction(int(index), names[index], float(found.probabilities[index])) for index in order
            ),
        )

    def _quantized_model(self, job: _Job, quant: QuantSpec) -> nn.Module:
        def make() -> nn.Module:
            import torch

            from quantviz import cam
            from quantviz.quantize import quantize

            ranges = self._ranges(job)
            job.progress(f"Quantizing to {quant.label}", None)
            model = self._float(job.spec, job.located, job.progress).module
            example = torch.from_numpy(next(job.calibration.inputs(job.ref.preprocessing)))
            with cam.lock_of(model):
                return quantize(model, quant, ranges, example, job.cam.layer)

        key = (job.spec.name, job.ref.sha256, job.ref.preprocessing, quant, job.calibration.ref.sha256, job.cam.layer)
        return self._quantized.get(key, make)

    def _ranges(self, job: _Job) -> Ranges:
        from quantviz.quantize import Ranges

        key = job.key("ranges", calibration=job.calibration.ref.sha256)
        record = self.store.get(key)
        if record is not None:
            low_high = record.arrays["limits"].tolist()
            limits = {name: (low, high) for name, (low, high) in zip(record.metadata["layers"], low_high, strict=True)}
            return Ranges(limits, record.metadata["images"])
        ranges = self._calibrated(job)
        limits_array = np.array(list(ranges.limits.values()), dtype=np.float64)
        metadata = {"layers": list(ranges.limits), "images": ranges.images}
        self.store.put(key, StoredRecord({"limits": limits_array}, metadata))
        return ranges

    def _calibrated(self, job: _Job) -> Ranges:
        import torch

        from quantviz import cam
        from quantviz.quantize import calibrate

        def batches() -> Iterator[torch.Tensor]:
            done = 0
            inputs = job.calibration.inputs(job.ref.preprocessing)
            while batch := list(islice(inputs, _CALIBRATION_BATCH)):
                job.progress("Calibrating the activation ranges", done / job.calibration.ref.images)
                yield torch.from_numpy(np.concatenate(batch))
                done += len(batch)

        model = self._float(job.spec, job.located, job.progress).module
        with cam.lock_of(model):
            return calibrate(model, batches())


def _scores(reference: CamResult, quantized: CamResult, salient: Heatmap | None) -> dict[str, Scores]:
    """Score each pair of maps at the input's resolution; the second of a pair is the ground truth of KLD."""
    first, second = reference.heatmap.values, quantized.heatmap.values
    found = {"quantized_v_float": scores.compare(second, first)}
    if salient is not None:
        found["float_v_saliency"] = scores.compare(first, salient.values)
        found["quantized_v_saliency"] = scores.compare(second, salient.values)
    return found


def versions() -> dict[str, str]:
    """Return the versions of quantviz and of every library that decides a result."""
    return {"quantviz": __version__, **deciding_versions()}


@lru_cache(maxsize=1)
def deciding_versions() -> Mapping[str, str]:
    """Return the versions of the libraries that decide a result, part of every key."""
    return {name: version(name) for name in ("torch", "torchvision", "timm", "grad-cam", "numpy", "scipy", "pillow")}
