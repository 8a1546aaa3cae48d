"""One thread for whatever decides a number, since the last bits of a sum depend on how many threads share it out.

Measured: torch's linear layers (MKL), its sums over whole tensors, and convolutions of some shapes give other bits in
two or four threads than in one; so do ONNX Runtime and OpenBLAS for some shapes. At three bits a last bit moves a
value to the next level, and a map's CC by some thousandths.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

_OWN = threading.local()
_GUARD = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread for the length of a block: torch, the MKL in it, and the OpenBLAS of numpy and scipy.

    Any number of threads may be inside at the same time, each computing in one; blocks may be nested. torch's other
    threads keep their number, also those that begin meanwhile; OpenBLAS's is the whole process's until all have left.
    """
    import torch

    if getattr(_OWN, "inside", False):
        yield
        return
    threads = torch.get_num_threads()  # a thread's first call sets how many it has
    mkl = _mkl()
    _OWN.inside = True
    _BLAS.enter()
    _set_openmp(1)
    before = mkl(1)
    try:
        yield
    finally:
        mkl(before)
        _set_openmp(threads)
        _BLAS.leave()
        _OWN.inside = False


def cores() -> int:
    """Return how many computations of one thread each may run at the same time: torch's threads, 1 inside a block.

    ``OMP_NUM_THREADS`` and ``torch.set_num_threads`` decide it.
    """
    import torch

    return 1 if getattr(_OWN, "inside", False) else torch.get_num_threads()


class _Blas:
    """The process's OpenBLAS libraries, which have one thread while anybody is inside."""

    def __init__(self) -> None:
        self._inside = 0
        self._before: list[int] = []

    def enter(self) -> None:
        with _GUARD:
            if not self._inside:
                self._before = [get() for get, _ in _openblas()]
                for _, set_to in _openblas():
                    set_to(1)
            self._inside += 1

    def leave(self) -> None:
        with _GUARD:
            self._inside -= 1
            if not self._inside:
                for (_, set_to), threads in zip(_openblas(), self._before, strict=True):
                    set_to(threads)


_BLAS = _Blas()


@lru_cache(maxsize=1)
def _openblas() -> tuple[tuple[Callable[[], int], Callable[[int], Any]], ...]:
    """Return of each OpenBLAS the functions that give and set its number of threads.

    By themselves: threadpoolctl lets only one thread of the process set it, and does nothing for others.
    """
    found = []
    for library in _libraries("blas"):
        functions = ctypes.CDLL(library.filepath)
        for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"):
            get, set_to = (getattr(functions, name.format(verb), None) for verb in ("get", "set"))
            if get is not None and set_to is not None:
                found.append((get, set_to))
                break
    return tuple(found)


def _set_openmp(threads: int) -> None:
    """Set the calling thread's number in torch's OpenMP, and no other thread's, unlike torch's own function."""
    for function in _openmp():
        function(threads)


@lru_cache(maxsize=1)
def _openmp() -> tuple[Callable[[int], Any], ...]:
    # By themselves: through threadpoolctl a call takes forty times as long.
    return tuple(ctypes.CDLL(library.filepath).omp_set_num_threads for library in _libraries("openmp"))


@lru_cache(maxsize=2)
def _libraries(kind: str) -> tuple[Any, ...]:
    """Return numpy's and scipy's OpenBLAS (``"blas"``), or torch's own OpenMP (``"openmp"``)."""
    import scipy.linalg  # noqa: F401  so that its OpenBLAS is found, too
    import torch
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api=kind).lib_controllers
    if kind == "blas":
        return tuple(library for library in found if library.internal_api == "openblas")
    folder = Path(torch.__file__).parent
    own = [library for library in found if folder in Path(library.filepath).parents]
    return tuple(own or found)


@lru_cache(maxsize=1)
def _mkl() -> Callable[[int], int]:
    """Return MKL's function that sets the calling thread's number and returns the one before; 0 is the process's.

    torch holds its own copy of MKL, which no other library sees. Where it has none, the function does nothing.
    """
    import torch

    for path in sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu*")):
        try:
            function = ctypes.CDLL(str(path)).MKL_Set_Num_Threads_Local
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
        return lambda threads: int(function(threads))
    return lambda _threads: 0
