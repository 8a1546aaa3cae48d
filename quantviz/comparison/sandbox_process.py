"""What one comparison of strangers' files may take, and how a process that took more is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quantviz.confined import Allowance, Sentences
from quantviz.specs import CheckpointError, limits

UPLOAD_BYTES: Final = limits.ONNX_UPLOAD_BYTES
"""Largest ONNX file that is taken, unless whoever starts the server says otherwise."""

_INSTEAD = "run `quantviz compare` on a machine of your own"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one comparison of strangers' files may take.

    Attributes:
        file_bytes: of each ONNX file.
        memory: bytes of private memory, 0.8 GiB of which the libraries take.
        cpu_seconds: of processor time, all threads together.
        seconds: from the start of the process to its end.
    """

    file_bytes: int = UPLOAD_BYTES
    memory: int = limits.ONNX_MEMORY
    cpu_seconds: int = limits.ONNX_CPU_SECONDS
    seconds: float = limits.ONNX_SECONDS

    def allowance(self, result_bytes: int) -> Allowance:
        """Return what the process may take that leaves a result of at most so many bytes."""
        return Allowance(self.memory, self.cpu_seconds, result_bytes)

    def sentences(self, names: str) -> Sentences:
        """Return how a failure of the process that opens these files is told."""
        return Sentences(
            error=CheckpointError,
            starting="Starting a process for these files",
            late=f"{names} took more than {self.seconds} s, or {self.cpu_seconds} s of processor time; give smaller "
            f"networks, another kind of map, or {_INSTEAD}.",
            memory=f"{names} need more than {self.memory / 2**30:g} GiB of memory; give smaller networks, or "
            f"{_INSTEAD}.",
            unexpected=f"{names} could not be compared ({{reason}}); export the networks again.",
            ended=f"{names} ended the process that opened them ({{how}}), as broken or too large files do; export the "
            f"networks again, or {_INSTEAD}.",
        )
