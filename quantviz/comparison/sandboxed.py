"""The process that runs strangers' ONNX files: it limits itself before it opens them.

``python -m quantviz.comparison.sandboxed`` reads one line of JSON, a ``Job``, from standard input, writes what happens
to standard output, a line of JSON for each event, and the result to the job's folder. It ends when standard input is
closed, so that it does not outlive the server.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from quantviz.specs import ImageSample, Phase, QuantvizError

RESULT: Final = "result"
"""Name of the file with the result."""

Ending = Literal["done", "refused", "memory", "unexpected"]

# What libraries say where memory cannot be had.
_NO_MEMORY = (
    "Failed to allocate memory",
    "Failed to serialize proto",
    "bad_alloc",
    "bad allocation",
    "can't allocate memory",
    "not enough memory",
)
_MOST_FILES = 256


@dataclass(frozen=True, slots=True)
class Job:
    """What to do in a folder, and within which limits.

    Attributes:
        folder: holds the files below, and nothing else that matters.
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
        memory: bytes.
        cpu_seconds: of all threads together.
        result_bytes: most that is written.
    """

    folder: str
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
    memory: int
    cpu_seconds: int
    result_bytes: int

    def line(self) -> bytes:
        """Return the job as the process reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    """Do the job that standard input names."""
    events = _events()
    job = Job(**json.loads(sys.stdin.buffer.readline()))
    _limit(job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ending, sentence = _done(job, events)
    _write(events, {"ending": ending, "sentence": sentence})
    os._exit(0)  # whatever still runs has no more to say


def _events() -> TextIO:
    """Return where events go; whatever a library prints goes nowhere."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    return events


def _end_with_parent() -> None:
    while os.read(0, 1 << 10):
        pass
    os._exit(1)


def _limit(job: Job) -> None:
    """Limit memory, processor time and what is written, all of them for good.

    Memory by RLIMIT_DATA, which on Linux counts all private memory: torch alone maps 2.5 GiB of address space that it
    never uses, so that RLIMIT_AS would have to be loose.
    """
    limits = {
        resource.RLIMIT_DATA: job.memory,
        resource.RLIMIT_CPU: job.cpu_seconds,
        resource.RLIMIT_FSIZE: job.result_bytes,
        resource.RLIMIT_NOFILE: _MOST_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # At the soft limit of time comes a signal that says so; a second later, at the hard one, the end.
        resource.setrlimit(limit, (most, most + 1 if limit == resource.RLIMIT_CPU and most != hard else most))
    os.nice(5)


def _done(job: Job, events: TextIO) -> tuple[Ending, str]:
    """Do the job; return how it ended, and why."""
    try:
        blob = _compared(job, events)
        Path(job.folder, RESULT).write_bytes(blob)
    except BaseException as error:  # whatever strangers' files cause
        if _lacks_memory(error):
            return "memory", ""
        if isinstance(error, QuantvizError):
            return "refused", str(error)
        return "unexpected", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "done", ""


def _compared(job: Job, events: TextIO) -> bytes:
    import numpy as np

    from quantviz.comparison.files import compare_files
    from quantviz.comparison.files_request import FilesRequest
    from quantviz.comparison.pair import PairRequest
    from quantviz.comparison.transfer import FilesResult, packed
    from quantviz.networks.onnx_files import describe, describe_pair, open_file, pair_of

    def progress(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        _write(events, {"message": message, "fraction": fraction, "phase": phase.value})

    reference, quantized = Path(job.reference), Path(job.quantized)
    classes = Path(job.classes) if job.classes else None
    files = FilesRequest(reference, (quantized,), job.layer or None, job.input, classes, external=False)
    saliency: Any = Path(job.saliency_file).read_bytes() if job.saliency_file else job.saliency or None
    request = PairRequest(job.method, job.target, saliency, job.saliency_name)
    sample = ImageSample(job.picture_id, np.load(job.picture, allow_pickle=False))
    (comparison,) = compare_files(files, sample, request, progress=progress).values()
    size = comparison.weights.preprocessing.size
    opened = [open_file(path, external=False, size=size) for path in (reference, quantized)]
    names = ("float", "quantized")
    known = {name: describe(file) | {"quantized": [], "float": []} for name, file in zip(names, opened, strict=True)}
    return packed(FilesResult(comparison, known, describe_pair(pair_of(*opened))), job.key)


def _lacks_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it hides, is a want of memory."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _write(events: TextIO, event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


if __name__ == "__main__":
    main()
