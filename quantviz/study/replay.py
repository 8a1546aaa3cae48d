"""Compute some pictures of a study again, and compare every number with the study's."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quantviz.comparison.machine import KERNELS, PROCESSOR
from quantviz.networks.card import read_card
from quantviz.specs import COMPUTATION_VERSION, Progress, UsageError, no_progress
from quantviz.store import TensorStore
from quantviz.study.bundle import opened
from quantviz.study.evidence import found_calibration, found_weights, gathered
from quantviz.study.folder import StudyFolder
from quantviz.study.pictures import model_choice
from quantviz.study.planning import SweepRequest, deciding, plan_of
from quantviz.study.results import Results
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.sweep.run import sweep
from quantviz.study.tables import schema_of

LIMIT, TOLERANCE = 8, 1e-6


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Which pictures of a study to compute again, and with which files.

    Attributes:
        evidence: a bundle, or a study's folder.
        dataset: the folder of the pictures; None for the one that the study was made from.
        weights: model -> its weights, as in ``CompareRequest``; for a user's file that is absent here, the path of the
            study's command is tried.
        calibration: folder of the calibration pictures; None for that of the study's command, or the bundled ones.
        truth: folder of the ground truth; None for the one that the study was made with, if any.
        cards: of the study's models that have one, where they are not where the study's command names them.
        limit: at most so many pictures, 1 or more; None for all.
        tolerance: largest absolute difference of two numbers that agree, 0 or more.

    Raises:
        UsageError: a value is out of range.
    """

    evidence: Path
    dataset: Path | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    calibration: Path | None = None
    truth: Path | None = None
    limit: int | None = LIMIT
    tolerance: float = TOLERANCE
    cards: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"The limit {self.limit} is below 1; give 1 or more.")
        if not 0 <= self.tolerance < float("inf"):
            raise UsageError(f"Tolerance {self.tolerance!r} is no number from 0 on; give 1e-6, say.")


@dataclass(frozen=True, slots=True)
class ColumnCheck:
    """One column of the rows, compared.

    Attributes:
        name: of the column.
        rows: that were compared.
        unlike: rows that differ by more than the tolerance, or have a value on one side only; for classes, flags and
            texts, rows that differ.
        identical: no row differs in any bit.
        largest: largest absolute difference of two numbers; None for classes, flags and texts.
    """

    name: str
    rows: int
    unlike: int
    identical: bool
    largest: float | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of computing pictures of a study again.

    Attributes:
        plan: the study's.
        pictures: protocol -> paths of the pictures that were computed again.
        columns: every column, compared.
        versions: library -> (version of the study, version here), those that differ; "" where there is none.
        tolerance: as asked for.
    """

    plan: StudyPlan
    pictures: Mapping[str, tuple[str, ...]]
    columns: tuple[ColumnCheck, ...]
    versions: Mapping[str, tuple[str, str]]
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Every number agrees within the tolerance, and everything else is the same."""
        return not any(column.unlike for column in self.columns)

    @property
    def kernels(self) -> str:
        """Say why the numbers of deployed networks may differ here; "" where the integer kernels are the same."""
        there, here = self.versions.get(KERNELS, ("", ""))
        if not there:
            return ""
        return (
            f"The deployed protocol was swept on integer kernels {there!r}; this processor has {here!r}, which "
            "need not add up to the same bits; replay on a processor of that kind."
        )


def replay(request: ReplayRequest, store: TensorStore | None = None, progress: Progress = no_progress) -> Replayed:
    """Compute pictures of a study again with its settings, and compare every number.

    Pictures and weights must have the study's sha256. The pictures are evenly spaced ones; under a protocol whose
    observers go on from picture to picture the first ones, as a later one depends on all before it. The study and its
    bundle are only read; all work is in a temporary folder.

    Args:
        request: what to compute again.
        store: where calibrated ranges and learned weights may be taken from; None: they are computed again too.
        progress: reports how far it is; whatever it raises ends the call.

    Raises:
        UsageError: the evidence cannot be used; pictures, weights or calibration pictures are missing or other ones.
        WeightsUnavailable: published weights are neither on disk nor reachable.
    """
    with opened(request.evidence) as folder, tempfile.TemporaryDirectory(prefix="quantviz-replay-") as name:
        place = Path(name)
        plan, results = StudyFolder(folder).results()
        asked = _asked(plan, request, progress)
        checks: list[Sequence[ColumnCheck]] = []
        pictures: dict[str, tuple[str, ...]] = {}
        with TensorStore(place / "tensors") if store is None else nullcontext(store) as ranges:
            for number, protocols in enumerate(_groups(plan)):
                chosen = _chosen(plan, protocols, request.limit)
                again = _with_files(
                    replace(asked, protocols=protocols), plan, chosen, request, place / str(number), progress
                )
                _check_same(plan, chosen, plan_of(again, progress=progress))
                out = place / f"study{number}"
                sweep(again, out, ranges, progress)
                rows = StudyFolder(out).results()
                checks.append(_compared(results, *rows, chosen, request.tolerance))
                pictures |= dict.fromkeys(protocols, tuple(plan.images[at].path for at in chosen))
    return Replayed(plan, pictures, _joined(checks), _other_versions(plan), request.tolerance)


def _asked(plan: StudyPlan, request: ReplayRequest, progress: Progress) -> SweepRequest:
    """Return a request with the study's settings and the places of its files on this machine."""
    for name in request.weights:
        if name not in [model.name for model in plan.models]:
            raise UsageError(f"Weights are given for {name!r}, which is not in the study; leave them out.")
    cards = {read_card(path).name: str(path) for path in request.cards}
    weights, names = {}, {}
    for model in plan.models:
        names[model.name] = cards.get(model.name) or model_choice(plan, model)
        if not model.origin:  # a card says where its weights are; their digests are compared as part of the plan
            weights[model.name] = found_weights(plan, model, request.weights.get(model.name), progress)
    return SweepRequest(
        dataset=Path(plan.dataset),
        models=tuple(names.values()),
        quants=plan.quants,
        weights=weights,
        protocols=plan.protocols,
        cam=plan.cam,
        layers={names[model.name]: model.layer for model in plan.models},
        calibration=found_calibration(plan, request.calibration),
        names=plan.classes,
        backend=plan.backend,
        faithful=plan.faithful,
    )


def _with_files(
    asked: SweepRequest,
    plan: StudyPlan,
    chosen: Sequence[int],
    request: ReplayRequest,
    place: Path,
    progress: Progress,
) -> SweepRequest:
    """Return the request for some pictures; they and their ground truth are linked into ``place``."""
    pictures = tuple(plan.images[at] for at in chosen)
    files = [(image.path, image.sha256) for image in pictures]
    dataset = gathered(files, request.dataset or Path(plan.dataset), place / "pictures", "--dataset", progress)
    asked = replace(asked, images=pictures, dataset=dataset)
    truths = [] if plan.truth is None else [plan.truth.files[at] for at in chosen]
    files = [(file.path, file.sha256) for file in truths if file is not None]
    if plan.truth is None or not files:
        return asked
    folder = gathered(files, request.truth or Path(plan.truth.folder), place / "truth", "--truth", progress)
    return replace(asked, truth=folder, truth_kind=plan.truth.kind)


def _check_same(plan: StudyPlan, chosen: Sequence[int], again: StudyPlan) -> None:
    """Refuse to compare with a study of other settings: of other untrained weights or another saliency, say."""
    names = ("protocols", "images", "limit", "seed", "batch", "versions", "computation")
    alike = {name: getattr(plan, name) for name in names}
    truth = plan.truth
    if truth is not None:
        files = tuple(truth.files[at] for at in chosen)
        truth = replace(truth, files=files) if any(files) else None
    if different := replace(plan, truth=truth).difference(replace(again, **alike)):
        raise UsageError(f"The study cannot be computed again here: it was made with {different}.")


def _groups(plan: StudyPlan) -> list[tuple[str, ...]]:
    """Return the protocols whose pictures are independent, then those where a picture depends on those before it."""
    groups = (tuple(name for name in plan.protocols if plan.sequential(name) is each) for each in (False, True))
    return [group for group in groups if group]


def _chosen(plan: StudyPlan, protocols: Sequence[str], limit: int | None) -> list[int]:
    """Return the places of the pictures to compute, without those that could not be read."""
    usable = [place for place, image in enumerate(plan.images) if image.sha256]
    if not usable:
        raise UsageError("No picture of the study could be read, so that there is nothing to compute again.")
    if limit is None or limit >= len(usable):
        return usable
    if plan.sequential(protocols[0]):
        return usable[:limit]
    return [usable[place * len(usable) // limit] for place in range(limit)]


def _compared(
    results: Results, plan: StudyPlan, again: Results, chosen: Sequence[int], tolerance: float
) -> list[ColumnCheck]:
    """Compare every column of the rows that were computed again, under ``plan``, with those of the same pictures."""
    known = [name for name in plan.property_columns if name in results.columns]  # studies of before lack them
    cells, columns = plan.cells, schema_of(plan.truth_columns, plan.simulation_columns, plan.faithful_columns, known)
    checks = []
    for name, kind in ((column.name, str(column.type)) for column in columns):
        if name == "index":  # counts the pictures of this study and of that one
            continue
        if kind == "string":
            before = [text for cell in cells for text in np.array(results.texts(*cell, name), object)[chosen]]
            after = [text for cell in cells for text in again.texts(*cell, name)]
            unlike = sum(one != other for one, other in zip(before, after, strict=True))
            checks.append(ColumnCheck(name, len(before), unlike, not unlike, None))
        else:
            first = np.concatenate([results.numbers(*cell, name)[chosen] for cell in cells])
            second = np.concatenate([again.numbers(*cell, name) for cell in cells])
            checks.append(_numbers(name, first, second, tolerance if kind == "double" else None))
    return checks


def _numbers(
    name: str, first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], tolerance: float | None
) -> ColumnCheck:
    """Compare numbers, or classes and flags where there is no tolerance; NaN is no value."""
    known = ~np.isnan(first) & ~np.isnan(second)
    apart = np.abs(np.where(known, first - second, 0.0))
    alone = np.isnan(first) != np.isnan(second)
    unlike = int((alone | (apart > (tolerance or 0.0))).sum())
    largest = None if tolerance is None else float(apart.max(initial=0.0))
    return ColumnCheck(name, len(first), unlike, not (alone | (apart > 0)).any(), largest)


def _joined(groups: Sequence[Sequence[ColumnCheck]]) -> tuple[ColumnCheck, ...]:
    """Return the checks of all groups of protocols as one check for each column."""
    joined: dict[str, ColumnCheck] = {}
    for check in (check for checks in groups for check in checks):
        first = joined.get(check.name, replace(check, rows=0, unlike=0, identical=True))
        largest = None if check.largest is None else max(check.largest, first.largest or 0.0)
        rows, unlike = first.rows + check.rows, first.unlike + check.unlike
        joined[check.name] = ColumnCheck(check.name, rows, unlike, first.identical and check.identical, largest)
    return tuple(joined.values())


def _other_versions(plan: StudyPlan) -> dict[str, tuple[str, str]]:
    own = {"pyarrow": version("pyarrow"), "computation": str(COMPUTATION_VERSION)}
    here = deciding(plan.variants, plan.backend) | own
    there = {**plan.versions, "computation": str(plan.computation)}
    names = sorted({*here, *there} - ({PROCESSOR} - {*there}))  # studies of before do not name their processor
    pairs = {name: (there.get(name, ""), here.get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
