"""The process that diagnoses strangers' ONNX files: it limits itself before it opens them.

``python -m quantviz.layerwise.diagnosis.sandboxed`` does a ``Job``, as ``quantviz.confined`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantviz.confined import Tell, serve
from quantviz.specs import ImageSample

if TYPE_CHECKING:
    from quantviz.comparison.files_request import FilesRequest


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        key: under which the result is packed.
        reference: path of the float file, in the folder.
        quantized: path of the quantized file.
        classes: path of the class names, or "".
        layer: tensor that maps are taken at, or "" for the default.
        input: as ``FilesRequest.input``.
        pictures: (path of an .npy file, uint8 (H, W, 3); sha256 of the picture's file; its name) of each.
        drifts: as ``Asked.drifts``, and so the others.
        remedy: what to try, or None.
        method: of the maps.
        alone: name of a tensor of which the maps are wanted, it alone on its grid, and nothing else; or "".
    """

    key: str
    reference: str
    quantized: str
    classes: str
    layer: str
    input: str
    pictures: Sequence[tuple[str, str, str]]
    drifts: int | None
    remedy: str | None
    method: str
    alone: str


def _diagnosed(job: Job, progress: Tell) -> bytes:
    import numpy as np

    from quantviz.comparison.files_request import FilesRequest
    from quantviz.comparison.workbench import Workbench
    from quantviz.layerwise.diagnosis.asked import Asked, ask_files
    from quantviz.layerwise.diagnosis.transfer import packed
    from quantviz.store import TensorStore

    classes = Path(job.classes) if job.classes else None
    reference, quantized = Path(job.reference), Path(job.quantized)
    files = FilesRequest(reference, (quantized,), job.layer or None, job.input, classes, external=False)
    samples = [ImageSample(digest, np.load(path, allow_pickle=False), name) for path, digest, name in job.pictures]
    asked = Asked(job.drifts, job.remedy, method=job.method)
    if job.alone:
        return _alone(job, files, samples, progress)
    with TensorStore(Path("store")) as store:
        return packed(ask_files(Workbench(store), files, samples, asked, progress), job.key)


def _alone(job: Job, files: FilesRequest, samples: Sequence[ImageSample], progress: Tell) -> bytes:
    from quantviz.comparison import transfer
    from quantviz.comparison.files import pairs_of
    from quantviz.layerwise.diagnosis.files_drift import FileDrifts

    ((name, pair),) = pairs_of(files).items()
    drifts = FileDrifts(files, name, pair, tuple(samples[:1]), job.method)
    return transfer.packed(transfer.FilesResult(drifts.compared(job.alone, samples[0], progress), {}, {}), job.key)


def _job(data: dict[str, Any]) -> Job:
    return Job(**data)


if __name__ == "__main__":
    serve(lambda job, tell: _diagnosed(_job(job), tell))
