"""Strangers' ONNX files compared in a process of its own, within limits, a few at a time."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from quantviz.comparison.pair import PairRequest
from quantviz.comparison.sandbox_process import Limits
from quantviz.comparison.sandboxed import Job
from quantviz.comparison.transfer import LARGEST, FilesResult, unpacked
from quantviz.comparison.waiting import Line
from quantviz.confined import Child, private_folder
from quantviz.specs import CheckpointError, ImageSample, Progress, UsageError, limits, no_progress

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

CLASSES_BYTES: Final = limits.CLASSES_BYTES
"""Largest file of class names."""


@dataclass(frozen=True, slots=True, repr=False)
class UploadedFiles:
    """A float and a quantized ONNX file as they were uploaded.

    Attributes:
        reference: bytes of the float file.
        reference_name: its name.
        quantized: bytes of the quantized file.
        quantized_name: its name.
        classes: bytes of a text file with a class name a line; empty for none.
        classes_name: its name.
        layer: tensor that maps are taken at, or None.
        input: as ``FilesRequest.input``.
    """

    reference: bytes
    reference_name: str
    quantized: bytes
    quantized_name: str
    classes: bytes = b""
    classes_name: str = "classes.txt"
    layer: str | None = None
    input: str = ""


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """Where a process finds the files.

    Attributes:
        reference: path of the float file.
        quantized: path of the quantized file.
        classes: path of the class names, or "".
    """

    reference: str
    quantized: str
    classes: str


class Sandbox:
    """Compares strangers' files; any number of threads may share it.

    The files are opened by a process of its own, never by this one. They lie in a private temporary folder for as long
    as that process runs. It has limits on memory, processor time and what it writes, and none of this process's
    environment; it takes no weights from other files and no operators but ONNX's and ONNX Runtime's own.

    Args:
        limits: of each comparison.
        at_once: how many run at the same time.
        most_waiting: how many may wait for them.
    """

    def __init__(self, limits: Limits | None = None, *, at_once: int = 2, most_waiting: int = 8) -> None:
        self.limits = limits or Limits()
        self._line = Line(at_once, most_waiting)
        self._threads = max(1, (os.cpu_count() or 1) // at_once)

    def compare(
        self,
        files: UploadedFiles,
        sample: ImageSample,
        request: PairRequest | None = None,
        *,
        progress: Progress = no_progress,
    ) -> FilesResult:
        """Compare a float and a quantized file on one picture, as ``compare_files`` does.

        Args:
            files: the files.
            sample: the picture.
            request: what to compare by; None for the defaults. A saliency network of the user's is refused.
            progress: reports what is being done, several times a second; whatever it raises ends the process.

        Raises:
            CheckpointError: a file is too large or cannot be used, or the files took more than the limits.
            UsageError: too many wait already; or as ``compare_files``.
            QuantvizError: as ``compare_files``.
        """
        chosen, key = request or PairRequest(), secrets.token_hex(32)

        def job(folder: Path, saved: SavedFiles) -> Job:
            return _job(folder, key, saved, files, sample, chosen)

        return self.run(
            "quantviz.comparison.sandboxed", files, job, lambda data: unpacked(data, key, sample), progress=progress
        )

    def run(
        self,
        module: str,
        files: UploadedFiles,
        job: Callable[[Path, SavedFiles], DataclassInstance],
        read: Callable[[bytes], T],
        *,
        progress: Progress = no_progress,
    ) -> T:
        """Run a module on strangers' files in a process of its own, and return its result.

        Args:
            module: that is run; it calls ``confined.serve``.
            files: the files.
            job: takes the process's folder and the files' places there, and returns the module's job.
            read: takes the result's bytes, of which nothing is trusted; ValueError where they are anything else.
            progress: reports what is being done, several times a second; whatever it raises ends the process.

        Raises:
            as ``compare``.
        """
        self._check(files)
        with self._line.turn(progress), private_folder() as folder:
            saved = _saved(folder, files)
            child = Child(
                module,
                asdict(job(folder, saved)),
                folder,
                self.limits.allowance(LARGEST),
                self.limits.seconds,
                self.limits.sentences(f"{Path(saved.reference).name} and {Path(saved.quantized).name}"),
                self._threads,
            )
            child.run(progress)
            try:
                return read(child.result())
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"The process that opened the files left no result that can be read ({error}); try again."
                ) from None

    def _check(self, files: UploadedFiles) -> None:
        most = self.limits.file_bytes
        for name, data in ((files.reference_name, files.reference), (files.quantized_name, files.quantized)):
            if not data or len(data) > most:
                what = "is empty" if not data else f"has {len(data) / 2**20:.1f} MiB"
                raise CheckpointError(f"{name} {what}; give an .onnx file of up to {most / 2**20:g} MiB.")
        if len(files.classes) > CLASSES_BYTES:
            raise CheckpointError(
                f"{files.classes_name} has {len(files.classes) / 2**20:.1f} MiB; give class names of up to "
                f"{CLASSES_BYTES >> 20} MiB."
            )


def _saved(folder: Path, files: UploadedFiles) -> SavedFiles:
    return SavedFiles(
        saved_file(folder, "float.onnx", files.reference_name, files.reference),
        saved_file(folder, "quantized.onnx", files.quantized_name, files.quantized),
        saved_file(folder, "classes.txt", files.classes_name, files.classes) if files.classes else "",
    )


def saved_file(folder: Path, part: str, name: str, data: bytes) -> str:
    """Write a stranger's file into a folder of its own and return its path.

    Args:
        folder: of the process.
        part: name of the folder within; and the file's where a stranger's name has nothing left that a file can have.
        name: of the stranger's.
        data: the bytes.
    """
    place = folder / part
    place.mkdir()
    (place / _plain_name(name, part)).write_bytes(data)
    return str(place / _plain_name(name, part))


def _job(
    folder: Path, key: str, saved: SavedFiles, files: UploadedFiles, sample: ImageSample, request: PairRequest
) -> Job:
    salient = request.saliency
    if isinstance(salient, Path):
        raise UsageError(f"Saliency {salient.name!r} is a path; give a map's bytes or a method's name.")
    np.save(folder / "picture.npy", sample.rgb, allow_pickle=False)
    return Job(
        key=key,
        reference=saved.reference,
        quantized=saved.quantized,
        classes=saved.classes,
        layer=files.layer or "",
        input=files.input,
        picture=str(folder / "picture.npy"),
        picture_id=sample.id,
        method=request.method,
        target=request.target,
        saliency=salient if isinstance(salient, str) else "",
        saliency_file=(
            saved_file(folder, "saliency", request.saliency_name, salient) if isinstance(salient, bytes) else ""
        ),
        saliency_name=request.saliency_name,
        crop=request.crop.words,
    )


def _plain_name(name: str, otherwise: str) -> str:
    """Return a stranger's file name as one that a file can have; messages tell it."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w. ()+=-]", "_", last).lstrip(".").strip()[-100:] or otherwise
