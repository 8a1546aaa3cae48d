"""What only whole processes show: how soon a command answers, what a worker holds, and how a sweep scales."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from quantviz import images
from quantviz.bench.memory import peak
from quantviz.bench.paths import UNTRAINED
from quantviz.bench.specs import SpeedTarget
from quantviz.specs import Phase, Progress, QuantSpec, no_progress
from quantviz.store import TensorStore
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.executor import Executor
from quantviz.study.sweep.run import sweep

PICTURES: Final = 256
"""Pictures of the sweep; workers take some dozens of them to start."""

LARGEST: Final = ("vgg16", (8, 16, 6, 4))
"""The model with the most weights, and the bit-widths that a worker computes beside its float map."""

_SWEPT = "mobilenet_v2"
Backend = Literal["torch", "onnxruntime"]

_BACKENDS: Final[tuple[Backend, ...]] = ("torch", "onnxruntime")
_HALF = 0.5
_CROP = 160  # pixels
_BUNDLED = ("chelsea", "coffee", "rocket", "china", "flower")
# The least that a comparison in a new process needs: torch, the network with its weights, and two passes of it.
_LEAST = """
import torch
from quantviz.networks.deferred import defer
defer()
from quantviz import networks
from quantviz.networks.build import build
spec = networks.spec(networks.DEFAULT_MODEL)
model, _ = build(spec, networks.resolve(spec, None))
with torch.no_grad():
    for _ in range(2):
        model(torch.zeros(1, 3, 224, 224))
"""


def process_targets(rounds: int, progress: Progress = no_progress) -> tuple[SpeedTarget, ...]:
    """Measure whole processes; return what is aimed at with what was found.

    Args:
        rounds: how often each process is started; sweeps and the memory are measured once.
        progress: reports what is being measured.

    Raises:
        subprocess.CalledProcessError: a process failed; its output says why.
    """
    progress("Starting processes")
    start = start_ratio(rounds)
    progress(f"Measuring the memory of a worker with {LARGEST[0]}")
    memory = peak(*LARGEST) / peak(LARGEST[0], ())
    progress(f"Sweeping {PICTURES} pictures")
    taken = {(backend, workers): sweep_seconds(backend, workers) for backend in _BACKENDS for workers in (1, 2)}
    widths = ", ".join(map(str, LARGEST[1]))
    return (
        SpeedTarget("a comparison in a new process / torch, the network and two passes", 1.3, True, start),
        SpeedTarget(f"peak memory of a worker, {LARGEST[0]} at {widths} bits / its float map", 1.5, True, memory),
        *(
            SpeedTarget(
                f"a picture of a sweep of {PICTURES} by {backend}, 2 workers / 1 worker",
                0.55,
                True,
                taken[backend, 2] / taken[backend, 1],
            )
            for backend in _BACKENDS
        ),
        SpeedTarget(
            f"a sweep of {PICTURES} pictures by onnxruntime / by torch",
            1.0,
            True,
            taken["onnxruntime", 1] / taken["torch", 1],
        ),
    )


def start_ratio(rounds: int) -> float:
    """Return the time of ``quantviz compare`` on a bundled photograph in a new process over the least that it needs.

    The median of the quotients of processes that were started one after the other. Nothing is in the cache.

    Args:
        rounds: how many quotients, after one that warms up the file system.
    """
    ratios = []
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as cache:
            command = ["-m", "quantviz", "compare", "coffee", "--cache", cache]
            ratios.append(_seconds(*command) / _seconds("-c", _LEAST))
    return statistics.median(ratios[1:])


def sweep_seconds(backend: Backend, workers: int, pictures: int = PICTURES) -> float:
    """Return the time of a picture of a sweep at W8A8, in seconds, over its second half, when all workers are at work.

    Args:
        backend: of both networks.
        workers: processes, of one thread each.
        pictures: crops of the bundled photographs.
    """
    with tempfile.TemporaryDirectory() as folder, TensorStore(Path(folder, "cache")) as store:
        dataset = Path(folder, "pictures")
        dataset.mkdir()
        for number in range(pictures):
            rgb = images.bundled(_BUNDLED[number % len(_BUNDLED)]).rgb
            top = number // len(_BUNDLED)
            Image.fromarray(rgb[top : top + _CROP, top : top + _CROP]).save(dataset / f"{number:03d}.png")
        request = SweepRequest(
            dataset, (_SWEPT,), (QuantSpec(),), {_SWEPT: UNTRAINED}, batch=max(1, pictures // 16), backend=backend
        )
        moments: list[tuple[float, float]] = []

        def note(_message: str, part: float | None = None, _phase: Phase = Phase.WORKING) -> None:
            if part is not None and part >= _HALF:
                moments.append((part, time.perf_counter()))

        sweep(request, Path(folder, "study"), store, note, executor=Executor(workers=workers))
    (part, began), (whole, ended) = moments[0], moments[-1]
    return (ended - began) / (pictures * (whole - part))


def _seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env={**os.environ, "NO_COLOR": "1"})
    return time.perf_counter() - began
