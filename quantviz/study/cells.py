"""Cells of a study summed up: the summary, the report and the Study page show what ``sum_up`` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from quantviz import statistics
from quantviz.specs import Phase, Progress, no_progress
from quantviz.statistics import Interval
from quantviz.study.specs.plan import BRIGHTNESS, FAITHFUL_METRICS, OBJECT_SHARE, STUDY_METRICS
from quantviz.study.specs.summary import WILSON, DriftSplit, Estimate, PropertyThird, Rate, SimulationCheck, StudyCell
from quantviz.study.specs.table import Flags, StudyTable, Values

MAPS: Final = ("float", "quantized", "saliency")
"""The maps that can be without evidence."""

_CONFIDENCE = "confidence"
_PROPERTIES = {BRIGHTNESS: BRIGHTNESS, OBJECT_SHARE: OBJECT_SHARE, _CONFIDENCE: "float_probability"}  # -> its column
_RATES = ("flipped", "float_correct", "quantized_correct", "simulated_flipped")


def sum_up(
    table: StudyTable,
    rows: Sequence[int] | None = None,
    chosen: Flags | None = None,
    *,
    resampled: bool = True,
    progress: Progress = no_progress,
) -> tuple[StudyCell, ...]:
    """Sum up cells of a study over all pictures or over chosen ones.

    Args:
        table: with all of its columns.
        rows: places of the cells in the table; all of them if None.
        chosen: bool (cells, pictures) of the table: which pictures count; all of them if None.
        resampled: intervals of means are those of ``statistics.summary``, bootstrapped where there are few pictures.
            False: they are its limit of many resamples throughout, which takes 0.1 s for 240,000 rows.
        progress: called with how far it is.

    Returns:
        The cells in the order of ``rows``, without tests.
    """
    rows = range(len(table.cells)) if rows is None else rows
    chosen = np.ones((len(table.cells), len(table.plan.images)), bool) if chosen is None else chosen
    columns = [name for name in _RATES if name in table.columns]
    rates_of = {name: rates(table.columns[name][rows], chosen[rows]) for name in columns}
    cells = []
    for place, row in enumerate(rows):
        progress(f"Summing up {' '.join(table.cells[row][:2])}", place / len(rows), Phase.SCORING)
        pictures = _Pictures(table, row, np.flatnonzero(chosen[row]), resampled)
        cells.append(_cell(pictures, {name: of_rows[place] for name, of_rows in rates_of.items()}))
    return tuple(cells)


def estimate(values: Values, *, resampled: bool = True) -> Estimate:
    """Return the mean of values, float64 (n,), with its 95 % confidence interval; NaN is left out."""
    sample = statistics.summary(values, resampled=resampled)
    return estimate_of(sample.n, sample.mean, sample.sd, sample.interval)


def estimate_of(n: int, mean: float | None, sd: float | None, interval: Interval | None) -> Estimate:
    """Return a mean of ``statistics`` with its interval as an estimate."""
    if interval is None:
        return Estimate(n, mean, sd, None, None)
    return Estimate(n, mean, sd, interval.low, interval.high, interval.method)


def rates(flags: Values, chosen: Flags) -> list[Rate]:
    """Return the part of ones among the chosen flags of each row, both (rows, n); NaN is left out."""
    known = chosen & ~np.isnan(flags)
    totals, counts = known.sum(axis=1), (known & (flags == 1)).sum(axis=1)
    ends = zip(totals.tolist(), counts.tolist(), *statistics.wilson(counts, totals), strict=True)
    return [
        Rate(n, count, float(low), float(high), WILSON) if n else Rate(0, 0, None, None) for n, count, low, high in ends
    ]


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The pictures of one cell that count, by their places in the plan."""

    table: StudyTable
    row: int
    places: npt.NDArray[np.intp]
    resampled: bool

    def values(self, column: str) -> Values:
        values: Values = self.table.columns[column][self.row].take(self.places)
        return values

    def count(self, column: str) -> int:
        return int(np.count_nonzero(self.values(column) == 1))

    def estimate(self, values: Values) -> Estimate:
        return estimate(values, resampled=self.resampled)


def _cell(pictures: _Pictures, rates_of: Mapping[str, Rate]) -> StudyCell:
    drift = 1 - pictures.values("quantized_v_float_cc")
    thirds = _thirds(pictures, drift)
    before, after = rates_of["float_correct"], rates_of["quantized_correct"]
    return StudyCell(
        *pictures.table.cells[pictures.row],
        images=len(drift),
        errors=pictures.count("error"),
        degenerate={name: pictures.count(f"{name}_degenerate") for name in MAPS},
        scores={
            comparison: {metric: pictures.estimate(pictures.values(f"{comparison}_{metric}")) for metric in metrics}
            for comparison, metrics in pictures.table.plan.comparisons.items()
        },
        tests={},
        flips=rates_of["flipped"],
        float_accuracy=before if before.n else None,
        accuracy=after if after.n else None,
        drift=pictures.estimate(drift),
        splits=_splits(pictures, drift, thirds),
        terciles=_terciles(pictures.values(_PROPERTIES[_CONFIDENCE])),
        simulation=_simulation(pictures, rates_of),
        faithful=_faithful(pictures),
        thirds=thirds,
    )


def _faithful(pictures: _Pictures) -> dict[str, dict[str, Estimate]]:
    """Return how faithful the maps are to their networks; {} in a study that did not measure it."""
    found = {}
    for metric in FAITHFUL_METRICS if pictures.table.plan.faithful else ():
        before, after = (pictures.values(f"{side}_{metric}") for side in ("float", "quantized"))
        columns = {"float": before, "quantized": after, "change": after - before}
        found[metric] = {name: pictures.estimate(values) for name, values in columns.items()}
    return found


def _thirds(pictures: _Pictures, drift: Values) -> tuple[PropertyThird, ...]:
    """Return the thirds by each property that is known of the pictures, those that have any."""
    flipped, found = pictures.values("flipped"), []
    for by, column in _PROPERTIES.items():
        values = pictures.values(column) if column in pictures.table.columns else np.full(drift.shape, np.nan)
        if (bounds := _terciles(values)) is None:
            continue
        low, high = bounds
        groups = {"low": (None, low), "middle": (low, high), "high": (high, None)}
        parts = np.array([values <= low, (values > low) & (values <= high), values > high])
        flips = rates(np.broadcast_to(flipped, parts.shape), parts)
        for (group, ends), part, changed in zip(groups.items(), parts, flips, strict=True):
            if part.any():
                drifts = pictures.estimate(drift[part])
                found.append(PropertyThird(by, group, *ends, int(part.sum()), drifts, changed))
    return tuple(found)


def _terciles(values: Values) -> tuple[float, float] | None:
    """Return the two values that part the known ones into thirds; None where there is none."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, (1 / 3, 2 / 3)).tolist()
    return low, high


def _splits(pictures: _Pictures, drift: Values, thirds: Sequence[PropertyThird]) -> tuple[DriftSplit, ...]:
    """Return the drift of each part that has pictures."""
    flipped, right = pictures.values("flipped"), pictures.values("float_correct")

    def parts(by: str, groups: Mapping[str, npt.NDArray[np.bool_]]) -> list[DriftSplit]:
        return [DriftSplit(by, name, pictures.estimate(drift[part])) for name, part in groups.items() if part.any()]

    return (
        *parts("flipped", {"flipped": flipped == 1, "kept": flipped == 0}),
        *(DriftSplit(third.by, third.group, third.drift) for third in thirds if third.by == _CONFIDENCE),
        *parts("correct", {"correct": right == 1, "wrong": right == 0}),
    )


def _simulation(pictures: _Pictures, rates_of: Mapping[str, Rate]) -> SimulationCheck | None:
    """Return how a deployed cell's simulation agrees with it; None of another cell."""
    _, variant = pictures.table.plan.cell(pictures.table.cells[pictures.row])
    if not variant.deployed:
        return None
    values = {metric: pictures.values(f"simulated_v_deployed_{metric}") for metric in STUDY_METRICS}
    worst: dict[str, float | None] = dict.fromkeys(STUDY_METRICS)
    for metric, column in values.items():
        if (known := column[~np.isnan(column)]).size:
            worst[metric] = float(known.max() if metric == "kld" else known.min())
    scores = {metric: pictures.estimate(column) for metric, column in values.items()}
    return SimulationCheck(scores, worst, rates_of["simulated_flipped"])
