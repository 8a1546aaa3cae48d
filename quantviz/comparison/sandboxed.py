"""The process that runs strangers' ONNX files: it limits itself before it opens them.

``python -m quantviz.comparison.sandboxed`` does a ``Job``, as ``quantviz.confined`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quantviz.confined import Tell, serve
from quantviz.networks.deferred import defer
from quantviz.specs import Crop, ImageSample


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
        picture: path of an .npy file, uint8 (H, W, 3).
        picture_id: sha256 of the picture's file.
        method: one of ``CAM_METHODS``.
        target: as ``PairRequest.target``.
        saliency: name of a method, "" for none.
        saliency_file: path of a map, or "".
        saliency_name: display name of that map.
        crop: as ``Crop.of_words`` reads it.
    """

    key: str
    reference: str
    quantized: str
    classes: str
    layer: str
    input: str
    picture: str
    picture_id: str
    method: str
    target: Literal["float", "own"] | int
    saliency: str
    saliency_file: str
    saliency_name: str
    crop: str


def _compared(job: Job, progress: Tell) -> bytes:
    import numpy as np

    from quantviz.comparison.files import compare_files
    from quantviz.comparison.files_request import FilesRequest
    from quantviz.comparison.pair import PairRequest
    from quantviz.comparison.transfer import FilesResult, packed
    from quantviz.networks.onnx_files import describe, describe_pair, open_file, pair_of

    reference, quantized = Path(job.reference), Path(job.quantized)
    classes = Path(job.classes) if job.classes else None
    files = FilesRequest(reference, (quantized,), job.layer or None, job.input, classes, external=False)
    saliency: Any = Path(job.saliency_file).read_bytes() if job.saliency_file else job.saliency or None
    request = PairRequest(job.method, job.target, saliency, job.saliency_name, Crop.of_words(job.crop))
    sample = ImageSample(job.picture_id, np.load(job.picture, allow_pickle=False))
    (comparison,) = compare_files(files, sample, request, progress=progress).values()
    size = comparison.weights.preprocessing.size
    opened = [open_file(path, external=False, size=size) for path in (reference, quantized)]
    names = ("float", "quantized")
    known = {name: describe(file) | {"quantized": [], "float": []} for name, file in zip(names, opened, strict=True)}
    return packed(FilesResult(comparison, known, describe_pair(pair_of(*opened))), job.key)


if __name__ == "__main__":
    defer()
    serve(lambda job, tell: _compared(Job(**job), tell))
