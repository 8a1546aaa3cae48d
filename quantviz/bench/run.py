"""How long maps take, by this package and by others, side by side in one run."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from quantviz import networks
from quantviz.bench.diagnosis import DIAGNOSIS, DIAGNOSIS_PASSES, PICTURES, diagnosis_calls
from quantviz.bench.files import file_calls
from quantviz.bench.paths import (
    BACKEND_FLOAT,
    BACKEND_PAIR,
    BACKEND_SIMULATED,
    BARE,
    BARE_FILES,
    BARE_SESSIONS,
    DEPLOYED_PAIR,
    FILES_PAIR,
    FIRST,
    FLOAT,
    LIBRARY,
    LIBRARY_QUANTIZED,
    NCNN_PAIR,
    PAIR,
    PLAIN,
    QUANT,
    REPEATED,
    SIMULATED,
    SWEPT,
    SWEPT_BACKEND,
    TITLES,
    Bench,
    Calls,
    bench_of,
    calls,
    comparison_calls,
    inputs_of,
    sweep_calls,
    write_pictures,
)
from quantviz.bench.processes import process_targets
from quantviz.bench.specs import SpeedReport, SpeedTarget, Timing
from quantviz.comparison.machine import KERNELS, integer_kernels, processor
from quantviz.comparison.workbench import Workbench
from quantviz.specs import Phase, Progress, UsageError, no_progress
from quantviz.store import TensorStore

ROUNDS = 5
_CLASS = 0  # which one is explained makes no difference
_MOST_IMAGES = 256
_SETTLING = 0.015  # seconds; torch's threads spin for up to seven milliseconds after they were needed
_QUICKER = "float map by the quicker backend and deployed int8 map"
_PEERS = {"torch-cam": "torchcam", "Captum": "captum"}

Times = dict[str, list[float]]
"""Path -> seconds of each round."""


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to measure.

    Attributes:
        models: names of architectures; their weights are untrained, which speed does not depend on.
        batches: images in a call.
        rounds: how often each path is timed, after one that is not.
        threads: of torch; None: as many as it takes by itself.
        processes: also what whole processes show (``process_targets``), which takes some minutes.

    Raises:
        UsageError: a model is unknown, something is named twice, or a number is out of range.
    """

    models: tuple[str, ...] = tuple(networks.MODELS)
    batches: tuple[int, ...] = (1,)
    rounds: int = ROUNDS
    threads: int | None = None
    processes: bool = False

    def __post_init__(self) -> None:
        for name in self.models:
            networks.spec(name)
        for what, values in (("Model", self.models), ("Batch size", self.batches)):
            if not values:
                raise UsageError(f"No {what.lower()} is given; name one or more.")
            for value in values:
                if values.count(value) > 1:
                    raise UsageError(f"{what} {value} is given twice; name it once.")
        for batch in self.batches:
            if not 1 <= batch <= _MOST_IMAGES:
                raise UsageError(f"Batch size {batch} is out of range; give 1 to {_MOST_IMAGES}.")
        for name, number in (("rounds", self.rounds), ("threads", self.threads)):
            if number is not None and number < 1:
                raise UsageError(f"The number of {name} {number} is below 1; give 1 or more.")


def bench(request: BenchRequest, progress: Progress = no_progress) -> SpeedReport:
    """Time every path on every model.

    The paths of a model take turns, one call each a round, each round beginning with another one: what else the
    machine does meanwhile falls on all of them. A ratio is the median over the rounds of the quotient of two times of
    the same round; only ratios of one run can be compared. Nothing of the user's cache is read or written.

    Args:
        request: what to measure.
        progress: reports what is being measured; whatever it raises ends the call.
    """
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder, _threads(request.threads) as threads:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        write_pictures(pictures, request.rounds + 1)
        for done, name in enumerate(request.models):
            # Each model has a workbench of its own, so that its networks go when it is done.
            with TensorStore(Path(folder) / "tensors") as store:
                made = bench_of(Workbench(store), name, progress)

                def tell(what: str, name: str = name, done: int = done) -> None:
                    progress(f"{name}: {what}", done / len(request.models), Phase.TIMING)

                timings += _model(made, request, pictures, tell)
            del made
        of_processes = process_targets(request.rounds, progress) if request.processes else ()
    return SpeedReport(
        timings=tuple(timings),
        paths={path: TITLES[path] for path in TITLES if any(timing.path == path for timing in timings)},
        targets=(*targets(timings), *of_processes),
        machine=_machine(threads),
        rounds=request.rounds,
        notes=_notes(timings),
    )


def _model(made: Bench, request: BenchRequest, pictures: Path, tell: Callable[[str], None]) -> Iterator[Timing]:
    """Yield a model's timings."""
    for batch in request.batches:
        tell(f"timing maps, {batch} at a time" if batch > 1 else "timing maps")
        inputs = inputs_of(made, batch)
        timed = calls(made, inputs)
        if batch == 1:
            timed |= file_calls(made, inputs, pictures.parent)
            timed |= diagnosis_calls(made.workbench, made.subject, QUANT, inputs_of(made, PICTURES))
        yield from _timings(made, batch, _rounds([timed] * (request.rounds + 1)))
    tell("timing comparisons and a sweep")
    forward = {PLAIN: calls(made, inputs_of(made, 1))[PLAIN]}
    swept = sweep_calls(made, pictures, no_progress)
    turns = []
    for index, picture in enumerate(sorted(pictures.iterdir())):
        turns.append(forward | swept(index) | comparison_calls(made, picture))
    # In this order: the second comparison is the repeated one.
    found = _rounds(turns, rotate=False)
    known = {PLAIN} if 1 in request.batches else set()
    yield from (timing for timing in _timings(made, 1, found) if timing.path not in known)


def _rounds(turns: Sequence[Calls], *, rotate: bool = True) -> Times:
    """Return how long each path took in each round but the first, which warms up."""
    found: Times = {path: [] for path in turns[0]}
    for number, timed in enumerate(turns):
        paths = list(timed)
        start = number % len(paths) if rotate else 0
        for path in paths[start:] + paths[:start]:
            _settle()
            began = time.perf_counter()
            timed[path]()
            seconds = time.perf_counter() - began
            if number:
                found[path].append(seconds)
    return found


def _settle() -> None:
    """Wait until no thread of the last path spins on a core that the next one wants.

    Busily: behind a sleep, the system's scheduler has the threads of the next path share a core for a while.
    """
    until = time.perf_counter() + _SETTLING
    while time.perf_counter() < until:
        pass


def _timings(made: Bench, batch: int, times: Times) -> Iterator[Timing]:
    for path, seconds in times.items():
        ratios = [taken / plain for taken, plain in zip(seconds, times[PLAIN], strict=True)]
        name = made.subject.spec.name
        yield Timing(name, batch, path, statistics.median(seconds) / batch, statistics.median(ratios))


def targets(timings: Sequence[Timing]) -> tuple[SpeedTarget, ...]:
    """Return what is aimed at, with the median over the models of what was measured at batch 1.

    Args:
        timings: of one run.
    """
    ratios: dict[str, dict[str, float]] = {}
    for timing in timings:
        if timing.batch == 1:
            ratios.setdefault(timing.model, {})[timing.path] = timing.ratio
    for row in ratios.values():
        if by_backend := [row[path] for path in (DEPLOYED_PAIR, NCNN_PAIR) if path in row]:
            row[_QUICKER] = min(by_backend)

    def median(above: Sequence[str], below: str) -> float | None:
        rows = [row for row in ratios.values() if all(path in row for path in (*above, below))]
        return statistics.median([sum(row[path] for path in above) / row[below] for row in rows]) if rows else None

    usual = (LIBRARY, LIBRARY_QUANTIZED)
    return (
        SpeedTarget("one float map / one plain forward", 1.1, True, median([FLOAT], PLAIN)),
        SpeedTarget("the same by ONNX Runtime", 0.6, True, median([BACKEND_FLOAT], PLAIN)),
        SpeedTarget("one simulated W8A8 map / one plain forward", 1.6, True, median([SIMULATED], PLAIN)),
        SpeedTarget(
            "one simulated W8A8 map by ONNX Runtime / one plain forward", 0.6, True, median([BACKEND_SIMULATED], PLAIN)
        ),
        SpeedTarget(
            "float and simulated map by ONNX Runtime / one plain forward", 1.0, True, median([BACKEND_PAIR], PLAIN)
        ),
        SpeedTarget("float and deployed map / their two bare runs", 1.15, True, median([DEPLOYED_PAIR], BARE_SESSIONS)),
        SpeedTarget(
            "a picture of a sweep by ONNX Runtime / one plain forward", 1.3, True, median([SWEPT_BACKEND], PLAIN)
        ),
        SpeedTarget("a whole comparison / its two maps", 1.15, True, median([FIRST], PAIR)),
        SpeedTarget(f"{_QUICKER} / one plain forward", 0.8, True, median([_QUICKER], PLAIN)),
        SpeedTarget("both maps by pytorch-grad-cam / our float and simulated map", 4.5, False, median(usual, PAIR)),
        SpeedTarget(f"both maps by pytorch-grad-cam / our {_QUICKER}", 12, False, median(usual, _QUICKER)),
        SpeedTarget("maps of two ONNX files / their two bare runs", 1.15, True, median([FILES_PAIR], BARE_FILES)),
        SpeedTarget("bare forwards of a sweep / the sweep", 0.8, False, median([BARE], SWEPT)),
        SpeedTarget("a repeated comparison / its first computation", 0.05, True, median([REPEATED], FIRST)),
        SpeedTarget("a diagnosis / its bare passes", 1.5, True, median([DIAGNOSIS], DIAGNOSIS_PASSES)),
    )


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Give torch so many threads for the length of a block; yield how many it has."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _machine(threads: int) -> Mapping[str, str]:
    return {
        "processor": processor(),
        KERNELS: integer_kernels(),
        "cores": str(os.cpu_count()),
        "torch threads": str(threads),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": ", ".join(
            f"{name} {version(name)}" for name in ("torch", "grad-cam", "onnxruntime", "ncnn") if _installed(name)
        ),
    }


def _installed(distribution: str) -> bool:
    return find_spec({"grad-cam": "pytorch_grad_cam"}.get(distribution, distribution)) is not None


def _notes(timings: Sequence[Timing]) -> tuple[str, ...]:
    notes = ["The weights are untrained, which speed does not depend on."]
    for name, module in _PEERS.items():
        if find_spec(module) is None:
            notes.append(f"{name} is not installed and was left out.")
    for backend, path in (("ONNX Runtime", DEPLOYED_PAIR), ("ncnn", NCNN_PAIR)):
        by_backend = {timing.model for timing in timings if timing.path == path}
        if without := [name for name in dict.fromkeys(timing.model for timing in timings) if name not in by_backend]:
            notes.append(f"{backend} was left out for {', '.join(without)}.")
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        notes.append("Other programs were running: compare the ratios, not the times.")
    return tuple(notes)
