"""The library versions, processor instructions and processor name of this machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

KERNELS: Final = "integer kernels"
"""The key in ``deployed_versions`` under which the kind of integer kernels stands."""
SIMULATION_VERSION: Final = 1  # raised whenever a change of the code changes what ONNX Runtime simulates
EXPORT_VERSION: Final = 5  # raised whenever a change of the code changes what is exported


@lru_cache
def backend_versions(backend: str = "onnxruntime") -> Mapping[str, str]:
    """Return the versions of the libraries that decide what a backend computes, ``"onnxruntime"`` or ``"ncnn"``."""
    more = ("ncnn",) if backend == "ncnn" else ()
    return {name: version(name) for name in ("onnxruntime", "onnx", "onnxscript", *more)}


@lru_cache(maxsize=1)
def integer_kernels() -> str:
    """Return the kind of integer kernels that ONNX Runtime uses on this machine; it is part of keys in the store.

    All kinds are exact (``backends.Session``), but two kinds need not give the same bits.
    """
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    instructions = [name for name in ("avx512_vnni", "avx_vnni", "asimddp", "i8mm") if name in words]
    return " ".join([platform.machine(), *instructions])


def deployed_versions() -> dict[str, str]:
    """Return the versions that decide a deployed network's numbers: of libraries, of the export, and ``KERNELS``."""
    return {**backend_versions(), "ONNX export": str(EXPORT_VERSION), KERNELS: integer_kernels()}


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
