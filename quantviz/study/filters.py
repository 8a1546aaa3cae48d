"""Parts of a finished study, chosen by filters: what the dashboard's figures and tables are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from quantviz import networks
from quantviz.specs import UsageError
from quantviz.study.cells import MAPS, estimate, sum_up
from quantviz.study.specs.plan import IMAGENET_CLASSES, StudyPlan
from quantviz.study.specs.summary import StudyCell, StudySummary
from quantviz.study.specs.table import Flags, RankedModel, Ranking, StudyTable, Values

RESAMPLES: Final = 1000
"""Bootstrap samples of the pictures from which the uncertainty of ranks is estimated."""

_CHUNK = 1 << 21  # bytes-like bound on what is drawn at a time


@dataclass(frozen=True, slots=True)
class Filters:
    """Which cells and which of their pictures are looked at; the default is all of them.

    Attributes:
        models: architectures; all if empty.
        settings: labels of bit-widths; all if empty.
        protocols: names of protocols; all if empty.
        confidence: least and greatest softmax probability of the float network's top-1, within [0, 1].
        flipped: only pictures whose top-1 class changed, or only those whose did not; None: both.
        float_correct: only pictures that the float network gets right, or wrong; None: both, and those without label.
        quantized_correct: only pictures that the quantized network gets right, or wrong; None: both.
        evidence: only pictures whose maps all carry evidence, or only those of which a map does not; None: both.
        text: only pictures with these letters, of any case, in the name of the label or of the float top-1 class, or
            in the file's path.

    Raises:
        UsageError: the confidence is no range within [0, 1].
    """

    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    confidence: tuple[float, float] = (0.0, 1.0)
    flipped: bool | None = None
    float_correct: bool | None = None
    quantized_correct: bool | None = None
    evidence: bool | None = None
    text: str = ""

    def __post_init__(self) -> None:
        low, high = self.confidence
        if not 0 <= low <= high <= 1:
            raise UsageError(f"Confidence {low:g} to {high:g} is no range within 0 and 1; give two such numbers.")

    @property
    def every_picture(self) -> bool:
        """True where all pictures of the chosen cells are looked at."""
        return self == Filters(self.models, self.settings, self.protocols, text=self.text) and not self.text.strip()


@dataclass(frozen=True, slots=True, eq=False)
class StudyView:
    """The part of a study that filters choose.

    Attributes:
        table: the whole study.
        filters: by which it was chosen.
        chosen: bool (cells, pictures) of the table: what is left.
        summary: of the cells with the filters' models, bit-widths and protocols over the pictures left; its plan names
            these only. Its tests and reasons of errors are the whole study's; absent where pictures are left out.
        pictures: number of those left in any cell.
    """

    table: StudyTable
    filters: Filters
    chosen: Flags
    summary: StudySummary
    pictures: int

    @property
    def cells(self) -> tuple[StudyCell, ...]:
        """Those of the summary, in the table's order."""
        return self.summary.cells


@dataclass(frozen=True, slots=True)
class PictureDrift:
    """One picture in one cell.

    Attributes:
        index: its place in the plan.
        path: relative to the study's folder of pictures.
        drift: 1 - CC of the quantized and the float map.
        scores: metric -> agreement of the quantized with the float map.
        float_top1: name of the float network's most probable class.
        float_probability: its softmax probability.
        quantized_top1: name of the quantized network's.
        quantized_probability: its softmax probability.
        label: name of the picture's class, or "".
    """

    index: int
    path: str
    drift: float
    scores: Mapping[str, float]
    float_top1: str
    float_probability: float
    quantized_top1: str
    quantized_probability: float
    label: str


def study_view(table: StudyTable, filters: Filters, whole: StudySummary | None = None) -> StudyView:
    """Choose a part of a study and sum it up.

    Where the filters leave every picture, the cells are those of the study's summary. Where they do not, intervals of
    means are the bootstrap's limit of many resamples, because resampling takes too long.

    Args:
        table: with all of its columns.
        filters: what to look at; names that the study does not have choose nothing.
        whole: the study's summary; None: intervals are the limit of many resamples for every picture too.
    """
    asked = filters.models, filters.settings, filters.protocols
    rows = [
        row
        for row, cell in enumerate(table.cells)
        if all(not some or part in some for part, some in zip(cell, asked, strict=True))
    ]
    chosen = np.zeros((len(table.cells), len(table.plan.images)), bool)
    chosen[rows] = _passing(table, filters, rows)
    chosen.flags.writeable = False
    if whole is not None and filters.every_picture:
        cells = tuple(whole.cells[row] for row in rows)
        summary = replace(whole, plan=_plan_of(table.plan, cells), cells=cells)
    else:
        cells = sum_up(table, rows, chosen, resampled=False)
        summary = StudySummary(_plan_of(table.plan, cells), cells, {})
    return StudyView(table, filters, chosen, summary, int(chosen.any(axis=0).sum()))


def ranking(
    table: StudyTable,
    setting: str,
    protocol: str,
    *,
    chosen: Flags | None = None,
    resampled: bool = True,
    seed: int = 0,
) -> Ranking:
    """Rank models by the mean drift of their maps, with how sure each rank is.

    Pictures are drawn with replacement ``RESAMPLES`` times, the same ones for every model, and the models ranked by
    their mean drift anew; of equal means each model has the better rank.

    Args:
        table: the study.
        setting: the label of a bit-width.
        protocol: of the study.
        chosen: bool (cells, pictures), which count; None for all. A model none of whose pictures count is left out.
        resampled: whether intervals of mean drift are resampled, as in ``sum_up``.
        seed: of the draws.

    Raises:
        UsageError: the study has no such bit-width or protocol.
    """
    rows = [row for row, cell in enumerate(table.cells) if cell[1:] == (setting, protocol)]
    if not rows:
        raise UsageError(f"The study has no cell at {setting!r} under protocol {protocol!r}; choose another.")
    drift = 1 - table.columns["quantized_v_float_cc"][rows]
    known: Flags = np.isfinite(drift) & (True if chosen is None else chosen[rows])
    some = np.flatnonzero(known.any(axis=1))
    rows, drift, known = [rows[place] for place in some], drift[some], known[some]
    shared = drift[:, known.all(axis=0)]
    if not shared.size:
        return Ranking(setting, protocol, 0, 0, ())
    ranks = _ranks(shared, np.random.default_rng(seed))
    shares = (ranks[:, :, None] == np.arange(len(rows))).mean(axis=0)
    drifts = [estimate(values, resampled=resampled) for values in shared]
    order = sorted(range(len(rows)), key=lambda place: (drifts[place].mean, place))
    models = tuple(RankedModel(table.cells[rows[at]][0], drifts[at], tuple(shares[at].tolist())) for at in order)
    return Ranking(setting, protocol, shared.shape[1], RESAMPLES, models)


def extremes(
    view: StudyView, cell: tuple[str, str, str], which: Literal["worst", "median"], count: int
) -> tuple[PictureDrift, ...]:
    """Return the pictures of a cell whose maps drift most, the worst first, or those in the middle, the least first.

    Args:
        view: only what it leaves counts.
        cell: (model, setting, protocol).
        which: ``"worst"``, or ``"median"``: those whose ranks by drift are nearest to the middle.
        count: how many, 1 and up; fewer where fewer have a drift.

    Raises:
        UsageError: the study has no such cell.
    """
    if cell not in view.table.cells:
        raise UsageError(f"The study has no cell {' '.join(cell)!r}; choose another.")
    row = view.table.cells.index(cell)
    drift = 1 - view.table.columns["quantized_v_float_cc"][row]
    places = np.flatnonzero(view.chosen[row] & np.isfinite(drift))
    places = places[np.argsort(drift[places], kind="stable")]
    start = max((len(places) - count) // 2, 0)
    extreme = places[::-1][:count] if which == "worst" else places[start : start + count]
    return tuple(picture_drift(view.table, row, int(index)) for index in extreme)


def picture_drift(table: StudyTable, row: int, index: int) -> PictureDrift:
    """Return the numbers of one picture in one cell.

    Args:
        table: the study.
        row: the cell's place in it.
        index: the picture's place in the plan.
    """

    def number(column: str) -> float:
        return float(table.columns[column][row, index])

    weights = next(model.weights for model in table.plan.models if model.name == table.cells[row][0])
    scores = {metric: number(f"quantized_v_float_{metric}") for metric in table.plan.comparisons["quantized_v_float"]}
    return PictureDrift(
        index=index,
        path=table.plan.images[index].path,
        drift=1 - scores["cc"],
        scores=scores,
        float_top1=class_name(number("float_top1"), weights.classes, weights.names),
        float_probability=number("float_probability"),
        quantized_top1=class_name(number("quantized_top1"), weights.classes, weights.names),
        quantized_probability=number("quantized_probability"),
        label=class_name(number("label"), weights.classes, weights.names),
    )


def class_name(index: float, classes: int = IMAGENET_CLASSES, names: Sequence[str] = ()) -> str:
    """Return a class's name, ``"class 7"`` where only its index is known, "" for NaN.

    Args:
        index: of the class.
        classes: of the network; 1,000 are taken for ImageNet's where they have no names of their own.
        names: their own names, or ().
    """
    if math.isnan(index):
        return ""
    names = names or (networks.class_names() if classes == IMAGENET_CLASSES else ())
    return names[int(index)] if int(index) < len(names) else f"class {int(index)}"


def _plan_of(plan: StudyPlan, cells: Sequence[StudyCell]) -> StudyPlan:
    """Return the plan with the models, bit-widths and protocols of some cells only."""
    models, settings, protocols = ({getattr(cell, name) for cell in cells} for name in ("model", "setting", "protocol"))
    return replace(
        plan,
        models=tuple(
            replace(model, files=tuple(file for file in model.files if file.label in settings))
            for model in plan.models
            if model.name in models
        ),
        quants=tuple(quant for quant in plan.quants if quant.label in settings),
        protocols=tuple(protocol for protocol in plan.protocols if protocol in protocols),
    )


def _passing(table: StudyTable, filters: Filters, rows: Sequence[int]) -> Flags:
    """Return which pictures of some cells the filters let through."""
    columns = _taken(table, rows)
    kept = np.ones((len(rows), len(table.plan.images)), bool)
    low, high = filters.confidence
    if (low, high) != (0.0, 1.0):
        kept &= (columns["float_probability"] >= low) & (columns["float_probability"] <= high)
    for name in ("flipped", "float_correct", "quantized_correct"):
        wanted: bool | None = getattr(filters, name)
        if wanted is not None:
            kept &= columns[name] == wanted
    if filters.evidence is not None:
        without = np.any([columns[f"{name}_degenerate"] == 1 for name in MAPS], axis=0)
        kept &= (without != filters.evidence) & (columns["error"] == 0)
    if text := filters.text.strip().casefold():
        kept &= _named(table, columns, rows, text)
    return kept


def _named(table: StudyTable, columns: Mapping[str, Values], rows: Sequence[int], text: str) -> Flags:
    """Return which pictures have a text in their path, or in the name of their label or float top-1 class."""
    by_path = np.array([text in image.path.casefold() for image in table.plan.images], bool)[None, :]
    classes = {model.name: (model.weights.classes, model.weights.names) for model in table.plan.models}
    known = {
        (count, names): np.array([text in class_name(index, count, names).casefold() for index in range(count)], bool)
        for count, names in set(classes.values())
    }
    kept = np.repeat(by_path, len(rows), axis=0)
    for place, row in enumerate(rows):
        named = known[classes[table.cells[row][0]]]
        for column in ("label", "float_top1"):
            values = columns[column][place]
            there = (values >= 0) & (values < len(named))
            kept[place, there] |= named[values[there].astype(np.intp)]
    return kept


def _taken(table: StudyTable, rows: Sequence[int]) -> dict[str, Values]:
    """Return some rows of every column, without a copy where they are all."""
    if len(rows) == len(table.cells):
        return dict(table.columns)
    return {name: values[rows] for name, values in table.columns.items()}


def _ranks(drift: Values, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return each model's rank, from 0, in every bootstrap sample: (models, pictures) to (samples, models)."""
    count = drift.shape[1]
    step = max(_CHUNK // count, 1)
    means: list[Values] = []
    for start in range(0, RESAMPLES, step):
        samples = min(step, RESAMPLES - start)
        drawn = generator.integers(0, count, (samples, count), np.int32)
        drawn += np.arange(samples, dtype=np.int32)[:, None] * count
        often = np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count)
        means.append(often @ drift.T / count)
    drawn_means = np.concatenate(means)
    ranks: npt.NDArray[Any] = (drawn_means[:, None, :] < drawn_means[:, :, None]).sum(axis=2)
    return ranks.astype(np.intp)
