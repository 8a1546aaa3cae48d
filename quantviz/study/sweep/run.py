"""Run a sweep: compute every picture of a study under every model, bit-width and protocol, piece by piece."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from quantviz.cam import one_thread
from quantviz.comparison.protocols import network_quant
from quantviz.comparison.workbench import Workbench
from quantviz.specs import Phase, Progress, QuantSpec, UsageError, Variant, no_progress
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.planning import SweepRequest, plan_of
from quantviz.study.specs.plan import Piece, StudyPlan
from quantviz.study.sweep.executor import LEFT_BEHIND, Executor, Team
from quantviz.study.sweep.executors import assemble, check
from quantviz.study.sweep.merge import share
from quantviz.study.sweep.networks import study_subject
from quantviz.study.sweep.pace import Pace
from quantviz.study.sweep.schedule import Schedule, before
from quantviz.study.sweep.worker import Computed, PieceWorker, job_of

_LISTEN = 0.5  # seconds without news of a worker after which progress is called, as it may end the sweep


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a sweep.

    Attributes:
        plan: of the study.
        computed: pieces that this call computed; 0 where the study had them all.
        pieces: all pieces of the study, or of the shard.
        rate: pictures a second since the first one was done, each counted once for each model and protocol; None where
            at most one was computed.
    """

    plan: StudyPlan
    computed: int
    pieces: int
    rate: float | None


def sweep(
    request: SweepRequest,
    out: Path,
    store: TensorStore,
    progress: Progress = no_progress,
    *,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
) -> Swept:
    """Make a study, or go on with one; after an interruption the same call goes on from the last whole piece.

    The same request gives the same bytes in ``results.parquet``, however often it is interrupted and whatever the
    executor; torch runs in one thread meanwhile. The rows of a picture that cannot be used say why.
    ``StudyFolder.progress`` returns how far a running sweep is.

    Args:
        request: what to sweep over.
        out: the study's folder.
        store: where ranges and learned weights are kept; maps are not.
        progress: reports what is being done; whatever it raises ends the call, and every worker with it.
        executor: computes the pieces; None for this process alone.
        shard: (i, n): compute the i-th of n shares, which ``merge`` puts together; None for everything.

    Raises:
        UsageError: the folder holds another study or another sweep is writing to it; or as ``plan_of`` and ``share``.
        StoreError: the study cannot be written.
        QuantvizError: a network cannot be made or deployed; a picture changed meanwhile; or workers keep being killed.
    """
    executor, folder = executor or Executor(), StudyFolder(out)
    check(executor)
    known = folder.plan()
    plan = replace(plan_of(request, known, progress), shard=shard)
    pieces = share(plan, shard)
    if known is not None and _same(known, plan, out) and folder.finished(known):  # the folder may be read-only
        return Swept(known, 0, len(pieces), None)
    with folder.locked():
        plan = _begun(folder, plan, request, store, progress)
        todo = [piece for piece in pieces if not folder.has(plan, piece)]
        with Pace(folder, plan, pieces, todo, request.command, progress) as pace:
            _compute(executor, plan, request, store, folder, todo, pace)
            if shard is None:
                pace.say("Writing the results", None, Phase.WRITING)
                folder.finish(plan)
    return Swept(plan, len(todo), len(pieces), pace.rate)


def withdraw(out: Path) -> None:
    """Remove the progress file and the temporary folders of this process's sweep, where it has to end at once."""
    StudyFolder(out).silence()
    for folder in [*LEFT_BEHIND]:
        shutil.rmtree(folder, ignore_errors=True)


def _begun(
    folder: StudyFolder, plan: StudyPlan, request: SweepRequest, store: TensorStore, progress: Progress
) -> StudyPlan:
    """Return the folder's plan, which must make the same study; a new folder gets this one."""
    known = folder.plan()
    if known is None:
        _check(plan)
        _check_deployed(plan, request, store, progress)
        _check_backend(plan, request, store, progress)
        folder.begin(plan)
        return plan
    _same(known, plan, folder.path)
    return known


def _check(plan: StudyPlan) -> None:
    """Refuse, before anything is written, a quantization that its protocol does not define."""
    for variant in plan.variants:
        if isinstance(variant, Variant):
            network_quant(variant.quant)


def _check_deployed(plan: StudyPlan, request: SweepRequest, store: TensorStore, progress: Progress) -> None:
    """Refuse networks that have no deployed form; the store keeps the exports of the others."""
    for variant in plan.deployed:
        # The form does not depend on learned weights, and learning can take long.
        plain = Variant(replace(variant.quant, rounding="nearest", bias_correction=False), deployed=True)
        for model, asked in zip(plan.models, request.models, strict=True):
            if not model.in_torch:
                continue
            bench, weights = Workbench(store, float_models=1, quantized_models=1), request.weights.get(asked)
            with one_thread():
                subject = study_subject(bench, plan, model, plain, weights, request.calibration, progress, asked)
                bench.network(subject, plain, plan.cam, progress)


def _check_backend(plan: StudyPlan, request: SweepRequest, store: TensorStore, progress: Progress) -> None:
    """Refuse networks that the study's backend does not run; the store keeps the exports of the others.

    An export watches every module of its process, so that no worker makes one beside its pictures.
    """
    if plan.backend == "torch":
        return
    for model, asked in zip(plan.models, request.models, strict=True):
        if not model.in_torch:
            continue
        bench, weights = Workbench(store, float_models=1, quantized_models=1), request.weights.get(asked)
        with one_thread():
            for quant in dict.fromkeys((QuantSpec(), QuantSpec(equalize=any(each.equalize for each in plan.quants)))):
                variant = Variant(quant)
                subject = study_subject(bench, plan, model, variant, weights, request.calibration, progress, asked)
                reason = bench.backends.prepare(subject, quant, progress)
                reason = reason or bench.backends.cannot_simulate(subject, quant, progress)
                if reason:
                    raise UsageError(f"Backend {plan.backend!r} does not run {model.name}: {reason} Use torch.")


def _same(known: StudyPlan, plan: StudyPlan, out: Path) -> bool:
    """Return True where both plans make the same study; refuse others."""
    again = f" ({known.command})" if known.command else ""
    if different := known.difference(plan):
        raise UsageError(
            f"Study {str(out)!r} was made with {different}; choose another folder, or repeat its own command{again}."
        )
    if known.shard != plan.shard:
        ours, theirs = (f"shard {place.shard[0]}/{place.shard[1]}" if place.shard else "all" for place in (known, plan))
        raise UsageError(
            f"Folder {str(out)!r} holds {ours} of this study, not {theirs}; every shard and the whole study need a "
            "folder of their own."
        )
    return True


def _compute(
    executor: Executor,
    plan: StudyPlan,
    request: SweepRequest,
    store: TensorStore,
    folder: StudyFolder,
    todo: Sequence[Piece],
    pace: Pace,
) -> None:
    """Compute and commit the missing pieces."""
    if not todo:
        return
    schedule = Schedule(plan, todo)
    if executor.kind == "local" and min(executor.workers, schedule.most_workers) == 1:
        worker = PieceWorker(plan, request, store)
        for piece in todo:
            computed = worker.compute(piece, _state(folder, plan, piece), partial(pace.step, piece), pace.say)
            _commit(folder, plan, piece, computed, pace)
        return
    pace.say("Starting the workers", None)
    job = job_of(plan, request, store, foreign=executor.kind == "ray")
    team = assemble(executor, job, schedule.most_workers)
    try:
        _direct(team, schedule, folder, plan, pace)
    finally:
        team.close()


def _direct(team: Team, schedule: Schedule, folder: StudyFolder, plan: StudyPlan, pace: Pace) -> None:
    """Give the workers of a team pieces and commit their results until no piece is left."""
    idle: set[int] = set()
    working: dict[int, Piece] = {}
    while schedule.left:
        for member in sorted(idle):
            if piece := schedule.take(member):
                working[member] = piece
                idle.remove(member)
                team.give(member, piece, _state(folder, plan, piece))
        pace.beat()
        for event in team.events(_LISTEN):
            member, value = event.member, event.value
            if event.kind == "ready":
                idle.add(member)
            elif event.kind == "said":
                pace.say(*value)
            elif event.kind == "opened":
                schedule.opened(member)
            elif event.kind == "step":
                pace.step(working[member], value)
            elif event.kind == "done":
                _commit(folder, plan, schedule.done(member), value, pace)
                del working[member]
                idle.add(member)
            elif event.kind == "failed":
                raise value
            else:
                schedule.died(member, value)
                idle.discard(member)
                if piece := working.pop(member, None):
                    pace.lost(piece)
                team.start(member)


def _state(folder: StudyFolder, plan: StudyPlan, piece: Piece) -> dict[str, dict[str, list[float]]]:
    last = before(plan, piece)
    return {} if last is None else folder.state(last)


def _commit(folder: StudyFolder, plan: StudyPlan, piece: Piece, computed: Computed, pace: Pace) -> None:
    rows, state = computed
    folder.commit(plan, piece, rows, state)
    pace.committed(piece)
