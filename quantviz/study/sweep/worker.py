"""Workers, which compute pieces of a study: in the sweep's process, in one that it starts, or on another machine.

A worker gets pieces and returns their rows; it writes to the store, and never to the study.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

from quantviz.cam import one_thread
from quantviz.comparison.machine import KERNELS, PROCESSOR
from quantviz.comparison.workbench import Workbench
from quantviz.networks.card import is_card
from quantviz.networks.deferred import defer
from quantviz.specs import Phase, Progress, QuantvizError, no_progress
from quantviz.store import TensorStore
from quantviz.study.planning import SweepRequest, deciding
from quantviz.study.specs.plan import Piece, StudyPlan
from quantviz.study.specs.row import StudyRow
from quantviz.study.sweep.rows import ObserverState, RowMaker

_AHEAD = 2
_TELL_EVERY = 0.2  # seconds between two messages of progress to the sweep

T = TypeVar("T")
V = TypeVar("V")

Computed = tuple[list[StudyRow], ObserverState]
EventKind = Literal["ready", "opened", "step", "said", "done", "failed", "died"]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker elsewhere needs before its first piece.

    Attributes:
        plan: of the study.
        request: what the plan was made from, with absolute paths.
        cache: folder of the store.
        cache_limit: its size limit, bytes.
        folder: where the sweep was started; relative names in the request start there.
        foreign: the worker may run on another machine.
    """

    plan: StudyPlan
    request: SweepRequest
    cache: Path
    cache_limit: int
    folder: str
    foreign: bool = False


def job_of(plan: StudyPlan, request: SweepRequest, store: TensorStore, *, foreign: bool = False) -> Job:
    """Return the job of a worker elsewhere."""
    info = store.info()
    absolute: dict[str, Any] = {
        entry.name: value.absolute()
        for entry in fields(request)
        if isinstance(value := getattr(request, entry.name), Path)
    }
    names = {name: str(Path(name).absolute()) if is_card(name) else name for name in request.models}
    weights = {
        names[name]: str(Path(path).absolute()) if Path(path).is_file() else path
        for name, path in request.weights.items()
    }
    layers = {names[name]: layer for name, layer in request.layers.items()}
    request = replace(request, models=tuple(names.values()), weights=weights, layers=layers, **absolute)
    return Job(plan, request, info.directory, info.size_limit, os.getcwd(), foreign)


class PieceWorker:
    """Computes pieces of one study; holds the networks of the last piece's model and protocol.

    Args:
        plan: of the study.
        request: what the plan was made from.
        store: where ranges and learned weights are kept.
    """

    def __init__(self, plan: StudyPlan, request: SweepRequest, store: TensorStore) -> None:
        self.plan, self.request, self.store = plan, request, store
        self._maker: RowMaker | None = None
        self._at: tuple[int, str] | None = None

    def open(self, piece: Piece, progress: Progress = no_progress) -> None:
        """Load and calibrate the networks of a piece, unless they are those of the last one.

        Raises:
            QuantvizError: a network cannot be made.
        """
        if self._at == (piece.model, piece.protocol):
            return
        self._maker, self._at = None, None  # before the next ones are made: two sets may not fit into memory
        bench = Workbench(self.store, float_models=1, quantized_models=max(1, len(self.plan.quants)))
        with one_thread():
            self._maker = RowMaker(bench, self.plan, self.request, piece, progress)
        self._at = piece.model, piece.protocol

    def compute(
        self, piece: Piece, state: ObserverState, step: Callable[[], None], progress: Progress = no_progress
    ) -> Computed:
        """Return the rows of a piece, and the state that the next one of its model and protocol starts from.

        Args:
            piece: which one.
            state: of the observers after the piece before it.
            step: called after each picture; whatever it raises ends the call.
            progress: reports the steps of loading and calibration.

        Raises:
            QuantvizError: a network cannot be made, or a picture changed or vanished meanwhile.
        """
        self.open(piece, progress)
        maker = self._maker
        assert maker is not None
        places = range(piece.start, piece.stop)
        loaded = _ahead(places, lambda index: maker.load(self.plan.images[index]))
        with one_thread(), closing(loaded) as pictures:
            return maker.rows_of(zip(places, pictures, strict=True), state, step)


class RemoteWorker:
    """A ``PieceWorker`` outside the sweep's process, which returns its errors as values.

    Args:
        job: from the sweep.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        if os.path.isdir(job.folder):
            os.chdir(job.folder)
        self._worker = PieceWorker(job.plan, job.request, TensorStore(job.cache, size_limit=job.cache_limit))

    def open(self, piece: Piece, progress: Progress = no_progress) -> tuple[EventKind, Any]:
        """Make the networks of a piece: ("opened", None), or ("failed", a QuantvizError)."""

        def work() -> tuple[EventKind, Any]:
            self._check()
            self._worker.open(piece, progress)
            return "opened", None

        return self._attempt(work)

    def compute(self, piece: Piece, state: ObserverState, step: Callable[[], None]) -> tuple[EventKind, Any]:
        """Compute a piece: ("done", as ``PieceWorker.compute``), or ("failed", a QuantvizError)."""
        return self._attempt(lambda: ("done", self._worker.compute(piece, state, step)))

    def _check(self) -> None:
        """Refuse libraries and integer kernels other than the plan's, as another machine may have."""
        planned = self.job.plan.versions
        for name, number in deciding(self.job.plan.variants, self.job.plan.backend).items():
            if planned.get(name, number) != number:
                same = "use machines of one kind" if name in (KERNELS, PROCESSOR) else "install the same"
                raise QuantvizError(f"{name} is {number} there, and {planned[name]} in the study; {same}.")

    def _attempt(self, work: Callable[[], tuple[EventKind, Any]]) -> tuple[EventKind, Any]:
        try:
            return work()
        except QuantvizError as error:
            return "failed", type(error)(f"On host {socket.gethostname()}: {error}") if self.job.foreign else error
        except Exception as error:
            if os.environ.get("QUANTVIZ_DEBUG"):
                traceback.print_exc()
            where = f"on host {socket.gethostname()}"
            return "failed", QuantvizError(f"Unexpected {type(error).__name__} {where}: {error}.")


def serve(handle: int) -> None:
    """Work for the process at the other end of a socket until that closes it or ends.

    Args:
        handle: the socket, over which come a ``Job`` and then pairs of a piece and a state.
    """
    defer()
    link = Connection(handle)
    wanted: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        # This thread sees at once that the sweep has ended; the piece being computed is of no use then.
        while True:
            try:
                wanted.put(link.recv())
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    worker = RemoteWorker(wanted.get())
    last = 0.0

    def say(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_EVERY:
            last = time.monotonic()
            link.send(("said", (message, fraction, phase)))

    while True:
        piece, state = wanted.get()
        answer = worker.open(piece, say)
        link.send(answer)
        if answer[0] == "opened":
            link.send(worker.compute(piece, state, lambda: link.send(("step", 1))))


def _ahead(items: Iterable[T], make: Callable[[T], V]) -> Generator[V, None, None]:
    """Yield ``make`` of each item in order, a few of them made ahead in another thread."""
    waiting: deque[Future[V]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
