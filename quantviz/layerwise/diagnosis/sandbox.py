"""Strangers' ONNX files diagnosed in a process of its own, within the limits of a sandbox."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from quantviz.comparison import transfer
from quantviz.comparison.sandbox import Sandbox, SavedFiles, UploadedFiles
from quantviz.layerwise.diagnosis.asked import Answer, Asked
from quantviz.layerwise.diagnosis.sandboxed import Job
from quantviz.layerwise.diagnosis.transfer import unpacked
from quantviz.specs import Comparison, ImageSample, Progress, UsageError, no_progress

T = TypeVar("T")

MOST_PICTURES: Final = 64
"""Most pictures that strangers' files are diagnosed on: the process has minutes, not hours."""


def diagnose_uploaded(
    sandbox: Sandbox,
    files: UploadedFiles,
    samples: Sequence[ImageSample],
    asked: Asked,
    *,
    progress: Progress = no_progress,
) -> Answer:
    """Diagnose a stranger's quantized file beside the float one, as ``ask_files`` does, without single channels.

    Args:
        sandbox: with the limits, and the line of those who wait.
        files: the files.
        samples: the pictures, at least one, at most ``MOST_PICTURES``.
        asked: what is asked beside the figures.
        progress: reports what is being done, several times a second; whatever it raises ends the process.

    Raises:
        CheckpointError: as ``Sandbox.compare``; the sentence of a wrong use of ``ask_files`` too.
        UsageError: too many pictures; too many wait already.
    """
    if len(samples) > MOST_PICTURES:
        raise UsageError(f"{len(samples)} pictures are more than {MOST_PICTURES}; choose fewer for uploaded files.")
    return _run(sandbox, files, samples, asked, "", unpacked, progress)


def compare_uploaded(
    sandbox: Sandbox,
    files: UploadedFiles,
    sample: ImageSample,
    tensor: str,
    method: str,
    *,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare a stranger's float file with the quantized one of which a tensor alone is on its grid.

    Args:
        sandbox: as in ``diagnose_uploaded``.
        files: the files.
        sample: the picture.
        tensor: its name.
        method: of the maps, one of ``CAM_METHODS``.
        progress: as in ``diagnose_uploaded``.

    Raises:
        CheckpointError: as ``diagnose_uploaded``; or there is no map of the tensor alone.
        UsageError: too many wait already.
    """

    def read(blob: bytes, key: str) -> Comparison:
        return transfer.unpacked(blob, key, sample).comparison

    return _run(sandbox, files, [sample], Asked(method=method), tensor, read, progress)


def _run(
    sandbox: Sandbox,
    files: UploadedFiles,
    samples: Sequence[ImageSample],
    asked: Asked,
    alone: str,
    read: Callable[[bytes, str], T],
    progress: Progress,
) -> T:
    key = secrets.token_hex(32)

    def job(folder: Path, saved: SavedFiles) -> Job:
        pictures = []
        for place, sample in enumerate(samples):
            path = folder / f"picture-{place}.npy"
            np.save(path, sample.rgb, allow_pickle=False)
            pictures.append((str(path), sample.id, sample.name))
        return Job(
            key=key,
            reference=saved.reference,
            quantized=saved.quantized,
            classes=saved.classes,
            layer=files.layer or "",
            input=files.input,
            pictures=pictures,
            drifts=asked.drifts,
            remedy=asked.remedy,
            method=asked.method,
            alone=alone,
        )

    module = "quantviz.layerwise.diagnosis.sandboxed"
    return sandbox.run(module, files, job, lambda blob: read(blob, key), progress=progress)
