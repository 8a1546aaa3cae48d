"""Sweep: every picture of a study under every model, bit-width and protocol, kept piece by piece."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from quantviz.pipeline.compare import Workbench
from quantviz.pipeline.lane import Lane
from quantviz.pipeline.plan import SweepRequest, plan_of
from quantviz.pipeline.protocols import network_quant
from quantviz.specs import (
    CALIBRATED,
    Piece,
    Progress,
    StudyPlan,
    StudyRow,
    UsageError,
    no_progress,
)
from quantviz.store import TensorStore
from quantviz.study import StudyFolder

_AHEAD = 2

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep left.

    Attributes:
        plan: what the study is decided by.
        computed: pieces that this call computed; 0 where the study was finished already.
    """

    plan: StudyPlan
    computed: int


def sweep(request: SweepRequest, out: Path, store: TensorStore, progress: Progress = no_progress) -> Swept:
    """Make a study, or go on with one; whenever it is killed, the same call goes on where it was.

    Results do not depend on interruptions or the number of threads: the same request gives the same bytes in
    ``results.parquet``. Torch runs in one thread meanwhile. Nothing of a picture is kept beyond its piece. A picture
    that cannot be used has rows that tell why.

    Args:
        request: what to sweep over.
        out: the study's folder.
        store: where ranges and learned weights are kept; maps are not.
        progress: told what is being done, how fast and how long it will take; whatever it raises ends the call.

    Raises:
        UsageError: the folder holds another study or another sweep is writing to it; or as ``plan_of``.
        StoreError: the study cannot be written.
        QuantvizError: a network cannot be made, or a picture changed meanwhile.
    """
    folder = StudyFolder(out)
    before = folder.plan()
    plan = plan_of(request, before, progress)
    if before is not None:
        _same(before, plan, out)
        if folder.finished(before):  # nothing is written, so that the folder may be read-only
            return Swept(before, 0)
    with folder.locked():
        before = folder.plan()
        if before is None:
            _check(plan)
            folder.begin(plan)
        else:
            _same(before, plan, out)
            plan = before
        pace = _Pace(plan, [piece for piece in plan.pieces if not folder.has(plan, piece)], progress)
        for lane in plan.lanes:
            if todo := [piece for piece in lane if piece in pace.todo]:
                bench = Workbench(store, float_models=1, quantized_models=len(plan.quants))
                with _one_thread():
                    _run(Lane(bench, plan, request, todo[0], progress), folder, todo, pace)
        progress("Writing the results", None)
        folder.finish(plan)
    return Swept(plan, len(pace.todo))


def _check(plan: StudyPlan) -> None:
    """Refuse, before anything is written, what a protocol does not define."""
    for protocol in plan.protocols:
        if protocol != CALIBRATED:
            for quant in plan.quants_of(protocol):
                network_quant(quant)


def _same(before: StudyPlan, plan: StudyPlan, out: Path) -> None:
    if different := before.difference(plan):
        again = f" ({before.command})" if before.command else ""
        raise UsageError(
            f"Study {str(out)!r} was made with {different}; choose another folder, or repeat its own command{again}."
        )


class _Pace:
    """Tells how far a sweep is, how fast it is, and how long it will take."""

    def __init__(self, plan: StudyPlan, todo: Sequence[Piece], progress: Progress) -> None:
        self.plan, self.todo, self.progress = plan, frozenset(todo), progress
        self.all = sum(piece.stop - piece.start for piece in plan.pieces)
        self.left = sum(piece.stop - piece.start for piece in todo)
        self.done = 0
        self.started = 0.0

    def step(self, piece: Piece) -> None:
        """Count one more picture of a piece; the first one, with loading and calibration before it, sets the clock."""
        self.done, self.left = self.done + 1, self.left - 1
        now = time.monotonic()
        self.started = self.started or now
        what = f"{self.plan.models[piece.model].name}, {piece.protocol}"
        if now > self.started:
            rate = (self.done - 1) / (now - self.started)
            what = f"{what}: {rate:.1f} images/s, {_duration(self.left / rate)} left"
        self.progress(what, 1 - self.left / self.all)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _run(lane: Lane, folder: StudyFolder, todo: Sequence[Piece], pace: _Pace) -> None:
    """Compute and commit the pieces of a lane that are not there."""
    places = (index for piece in todo for index in range(piece.start, piece.stop))
    pictures = _ahead(places, lambda index: lane.load(lane.plan.images[index]))
    last = -1
    with closing(pictures):
        for piece in todo:
            if piece.number != last + 1:
                lane.restore({} if piece.start == 0 else folder.state(_before(lane.plan, piece)))
            rows: list[StudyRow] = []
            for index in range(piece.start, piece.stop):
                rows += lane.rows(index, next(pictures))
                pace.step(piece)
            folder.commit(lane.plan, piece, rows, lane.state())
            last = piece.number


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: how sums are shared among several decides their last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _before(plan: StudyPlan, piece: Piece) -> Piece:
    return plan.pieces[piece.number - 1]


def _ahead(items: Iterable[T], make: Callable[[T], V]) -> Generator[V, None, None]:
    """Yield ``make`` of each item in order; a few are made in a thread of their own while one is in use."""
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
