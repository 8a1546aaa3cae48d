"""A request whose network, picture and saliency are found, its key in the store, and the comparison of its record."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quantviz import images
from quantviz.comparison.loaded import Subject, versions
from quantviz.comparison.machine import EXPORT_VERSION, SIMULATION_VERSION, backend_versions, integer_kernels
from quantviz.comparison.records import deployed_of, unpack_comparison
from quantviz.comparison.references import SaliencySource
from quantviz.comparison.request import CompareRequest
from quantviz.specs import RGB, CamSpec, Comparison, Crop, ImageSample, Preprocessing, Progress, StoredRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Job:
    """A request with its network, picture and saliency found.

    ``preprocessing`` says how the picture becomes the input; the subject's, how calibration pictures do.
    """

    subject: Subject
    request: CompareRequest
    cam: CamSpec
    sample: ImageSample
    preprocessing: Preprocessing
    crop: RGB
    saliency: SaliencySource
    progress: Progress
    backend: str = "torch"
    quantized_backend: str = "torch"
    backend_note: str = ""

    @property
    def key(self) -> str:
        """The store's key of the comparison."""
        return self.subject.key("comparison", **self.decides())

    def decides(self) -> dict[str, Any]:
        """Return everything that decides the two maps, apart from the model."""
        decisive: dict[str, Any] = {
            "image": self.sample.id,
            "cam": self.cam,
            "target": self.request.target,
            "quantization": self.request.quant,
            "calibration": self.subject.calibration.ref.sha256,
            "saliency": self.saliency.key,
        }
        decisive |= self.placed()
        if self.request.backend != "torch" or self.request.deployed:
            decisive["backend"] = [self.request.backend, backend_versions(self.request.backend)]
            decisive["deployed"] = [integer_kernels(), EXPORT_VERSION] if self.request.deployed else None
        if self.request.backend == "onnxruntime":  # torch ran the simulated network in earlier versions
            decisive["simulated"] = SIMULATION_VERSION
        return decisive

    def placed(self) -> dict[str, Any]:
        """Return what a key says of the crop: nothing where it is the one that the weights want."""
        return {} if self.request.crop == Crop() else {"crop": self.request.crop}


def comparison_of(job: Job, record: StoredRecord, started: float, *, cached: bool) -> Comparison:
    """Return the comparison that a record holds.

    Args:
        job: of the request.
        record: from ``pack_comparison``.
        started: when the call began, by ``time.perf_counter``.
        cached: whether the record is from the store.
    """
    reference, quantized, salient, agreement, loaded = unpack_comparison(record)
    return Comparison(
        model=job.subject.spec.name,
        weights=replace(job.subject.ref, preprocessing=job.preprocessing, **loaded),
        quant=job.request.quant,
        calibration=job.subject.calibration.ref,
        cam=job.cam,
        class_rule=job.request.target,
        sample=job.sample,
        crop=job.crop,
        reference=reference,
        quantized=quantized,
        saliency=None if salient is None else job.saliency.described(salient),
        scores=agreement,
        seconds=time.perf_counter() - started,
        cached=cached,
        versions=versions(),
        key=job.key,
        backend=record.metadata.get("backend", "torch"),
        quantized_backend=record.metadata.get("quantized_backend", "torch"),
        backend_note=record.metadata.get("backend_note", ""),
        deployed=deployed_of(record),
        notes=(*job.subject.calibration.notes, *job.saliency.notes(job.sample, job.preprocessing)),
    )


def input_of(job: Job) -> Tensor:
    """Return the picture as the network's input, (1, 3, H, W)."""
    import torch

    return torch.from_numpy(images.normalize(job.crop, job.preprocessing))
