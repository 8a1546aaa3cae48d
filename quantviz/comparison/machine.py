"""The library versions, processor instructions and processor name of this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

KERNELS: Final = "integer kernels"
"""The key in ``deployed_versions`` under which the kind of integer kernels stands."""
SIMULATION_VERSION: Final = 1  # raised whenever a change of the code changes what ONNX Runtime simulates
PROCESSOR: Final = "processor"
"""The key in ``deciding_versions`` under which the kind of processor stands."""
EXPORT_VERSION: Final = 5  # raised whenever a change of the code changes what is exported


_NAMES: Final = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
_INSTRUCTIONS: Final = (
    *("avx", "fma", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16"),
    *("amx_int8", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
_FORCING: Final = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
)
_SECOND_CACHE: Final = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


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


@lru_cache(maxsize=1)
def processor_kind() -> str:
    """Return the kind of this processor, which is part of every key in the store.

    Libraries choose their kernels by its maker, model, instructions and second-level cache, or as a variable of the
    environment says. In one thread each, two machines of one kind give the same bits; those of two kinds need not.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    names = [told[name] for name in _NAMES if name in told] or [platform.processor()]
    known = set((told.get("flags") or told.get("Features") or "").split())
    instructions = [name for name in _INSTRUCTIONS if name in known]
    try:
        cache = [f"L2 {_SECOND_CACHE.read_text().strip()}"]
    except OSError:
        cache = []
    forced = [f"{name}={os.environ[name]}" for name in _FORCING if os.environ.get(name)]
    return " ".join([platform.machine(), *names, *cache, *instructions, *forced])


def deployed_versions() -> dict[str, str]:
    """Return the versions that decide a deployed network's numbers: of libraries, of the export, and ``KERNELS``."""
    return {**backend_versions(), "ONNX export": str(EXPORT_VERSION), KERNELS: integer_kernels()}


def simulation_versions() -> dict[str, str]:
    """Return the versions that decide a simulated network's numbers on ONNX Runtime: of libraries and our own code."""
    own = {"ONNX export": str(EXPORT_VERSION), "ONNX simulation": str(SIMULATION_VERSION)}
    return {**backend_versions(), **own}


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
