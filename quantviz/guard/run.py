"""Run a check: find or make its study, and decide its limits on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quantviz.guard.baseline import paired, read_baseline
from quantviz.guard.decide import Case, asked_of, decide, family_of, outcome_of
from quantviz.guard.file import CheckFile
from quantviz.guard.floor import picture_floors
from quantviz.guard.measure import measured, of_study, worst_pictures
from quantviz.guard.size import network_size
from quantviz.guard.specs import CheckReport, Limit, Measured
from quantviz.networks.classes import ClassNames
from quantviz.specs import Progress, UsageError, no_progress
from quantviz.store import TensorStore
from quantviz.study.logits import picture_logits
from quantviz.study.planning import plan_of
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.table import StudyTable
from quantviz.study.sweep.executor import Executor
from quantviz.study.sweep.run import sweep

_DIGITS = 12  # of the digest that a study of the check's own is named by


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A check that was run.

    Attributes:
        report: what it came to.
        plan: of its study.
        cells: what is measured of each network that was judged: what a baseline file keeps.
    """

    report: CheckReport
    plan: StudyPlan
    cells: tuple[Measured, ...]


def run_check(
    file: CheckFile,
    store: TensorStore,
    progress: Progress = no_progress,
    *,
    baseline: Path | None = None,
    sized: bool = False,
    executor: Executor | None = None,
) -> Checked:
    """Run a check.

    Where the check file names photos, its study is swept as `quantviz sweep` does it, into a folder of its own beneath
    ``file.keep``: after an interruption the same call goes on, and a check of the same networks on the same pictures
    reads what is there.

    Args:
        file: the check file.
        store: where ranges and learned weights are kept.
        progress: reports what is being done; whatever it raises ends the call.
        baseline: file of the numbers that a change is judged against, in place of the check file's.
        sized: also count the sizes where no limit asks for them, for a baseline.
        executor: computes the study; None for this process alone.

    Raises:
        UsageError: nothing can be judged by a limit; the baseline is no such file; or as ``sweep``.
    """
    started = time.monotonic()
    source = baseline or file.baseline
    limits, before = file.limits, _before(file, source)
    study = file.study or _swept(file, store, progress, executor)
    table, rows = _asked(file, study)
    cells = tuple(_measured(table, row, file, limits, store, progress, sized) for row in rows)
    _check_labels(file, limits, cells)
    names = ClassNames(table.plan.classes).names
    cases = [Case(now, paired(now, before) if before else None, names) for now in cells]
    report = _report(file, table, cases, limits)
    report = replace(
        report,
        study=str(study),
        baseline=source.name if before and source is not None else "",
        worst=tuple(picture for row in rows for picture in worst_pictures(table, row, file.worst)),
        seconds=time.monotonic() - started,
    )
    return Checked(report, table.plan, cells)


def _asked(file: CheckFile, study: Path) -> tuple[StudyTable, list[int]]:
    """Return the study, and the places of the networks that the check file names in it."""
    table, rows = of_study(study, file.models, file.variants)
    if not rows:
        known = ", ".join(dict.fromkeys(" ".join(cell) for cell in table.cells))
        raise UsageError(f"Check file {file.path.name!r} names none of the networks of its study; it has {known}.")
    return table, rows


def _report(file: CheckFile, table: StudyTable, cases: Sequence[Case], limits: Sequence[Limit]) -> CheckReport:
    """Return what deciding the limits comes to."""
    verdicts, pictures = decide(cases, limits, confidence=file.confidence), len(table.plan.images)
    return CheckReport(
        outcome=outcome_of(verdicts),
        verdicts=verdicts,
        confidence=file.confidence,
        family=family_of(asked_of(cases, limits)),
        pictures=pictures,
        left_out=pictures - min(len(case.now.pictures) for case in cases),
        study="",
        check=file.path.name,
        paired=min((len(case.pair[0].pictures) for case in cases if case.pair), default=None),
        notes=table.plan.notes,
    )


def _before(file: CheckFile, baseline: Path | None) -> tuple[Measured, ...]:
    """Return what the baseline holds; () where no change is limited."""
    change = next((limit for limit in file.limits if limit.against == "baseline"), None)
    if change is None:
        return ()
    if baseline is None:
        raise UsageError(
            f"Check file {file.where(change)}: [change] limits the change since a baseline, and none is given; name it "
            "by baseline or --baseline, or write one first by quantviz check --write-baseline."
        )
    return read_baseline(baseline)


def _swept(file: CheckFile, store: TensorStore, progress: Progress, executor: Executor | None) -> Path:
    """Return the study of the check's own, made or gone on with."""
    assert file.request is not None
    plan = plan_of(file.request, None, progress)
    study = file.keep / plan.digest[:_DIGITS]
    sweep(file.request, study, store, progress, executor=executor)
    return study


def _measured(
    table: StudyTable,
    row: int,
    file: CheckFile,
    limits: Sequence[Limit],
    store: TensorStore,
    progress: Progress,
    sized: bool,
) -> Measured:
    values, plan, cell = measured(table, row), table.plan, table.cells[row]
    asked = {limit.name: limit for limit in limits}
    try:
        if "drift_over_floor" in asked:
            values = replace(values, floor=picture_floors(store, plan, cell, _seen(table, row), progress))
    except UsageError as error:
        raise UsageError(f"Check file {file.where(asked['drift_over_floor'])}: {error}") from None
    try:
        if sized or {"logit_noise", "logit_noise_over_baseline"} & asked.keys():
            values = replace(values, logit_noise=picture_logits(store, plan, cell, _seen(table, row), progress))
    except UsageError as error:  # for a baseline alone it is not needed
        limit = asked.get("logit_noise") or asked.get("logit_noise_over_baseline")
        if limit is not None:
            raise UsageError(f"Check file {file.where(limit)}: {error}") from None
    try:
        if sized or "size" in asked:
            values = replace(values, size=network_size(store, plan, cell, progress))
    except UsageError as error:  # for a baseline alone the size is not needed
        if "size" in asked:
            raise UsageError(f"Check file {file.where(asked['size'])}: {error}") from None
    return values


def _seen(table: StudyTable, row: int) -> list[int]:
    """Return the places of the pictures that the float network has a result of."""
    places: list[int] = np.flatnonzero(~np.isnan(table.columns["float_probability"][row])).tolist()
    return places


def _check_labels(file: CheckFile, limits: Sequence[Limit], cells: Sequence[Measured]) -> None:
    """Refuse limits on accuracy where no picture has a label, and limits where nothing was measured at all."""
    for cell in cells:
        name = " ".join(cell.cell)
        if not cell.pictures:
            raise UsageError(f"No picture of {name} has a result; quantviz summary says why.")
        for limit in limits:
            if limit.kind.labels and np.isnan(cell.correct).all():
                raise UsageError(
                    f"Check file {file.where(limit)}: {limit.name} needs labels, and no picture of {name} has one; put "
                    "the pictures into folders named as their classes, or give labels = FILE.csv."
                )


def measure_study(
    study: Path, models: Sequence[str], variants: Sequence[str], store: TensorStore, progress: Progress = no_progress
) -> tuple[StudyTable, tuple[Measured, ...]]:
    """Return a finished study and what is measured of networks of it, with size and logits where its files are here.

    Args:
        study: its folder.
        models: names of the networks; all of them if empty.
        variants: labels of the variants; all of them if empty.
        store: where sizes are kept.
        progress: reports what is being done.

    Raises:
        UsageError: there is no finished study, or no such network in it.
        StoreError: it is damaged.
    """
    table, rows = of_study(study, models, variants)
    if not rows:
        known = ", ".join(dict.fromkeys(" ".join(cell) for cell in table.cells))
        raise UsageError(f"Study {str(study)!r} has no such network; it has {known}.")
    cells = []
    for row in rows:
        values = measured(table, row)
        with contextlib.suppress(UsageError):  # its weights or card may be elsewhere; then its size is not limited
            values = replace(values, size=network_size(store, table.plan, table.cells[row], progress))
        with contextlib.suppress(UsageError):  # so may be its pictures
            noise = picture_logits(store, table.plan, table.cells[row], _seen(table, row), progress)
            values = replace(values, logit_noise=noise)
        cells.append(values)
    return table, tuple(cells)
