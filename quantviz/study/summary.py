"""A finished study in numbers: those of the paper's Table 1, with intervals, tests and what goes with the drift."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz import statistics
from quantviz.specs import DEPLOYED, Phase, Progress, digest_of, no_progress, scheme_name
from quantviz.statistics import Interval, PairedResult
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.results import Results
from quantviz.study.specs.plan import COMPARISONS, STUDY_METRICS, StudyPlan
from quantviz.study.specs.summary import (
    WILSON,
    DriftSplit,
    Estimate,
    Rate,
    SaliencyTest,
    SimulationCheck,
    StudyCell,
    StudySummary,
)
from quantviz.study.summary_record import pack_summary, unpack_summary

MARGINS: Final[Mapping[str, float]] = {"sim": 0.05, "cc": 0.05, "kld": 0.1}
"""The largest mean change of agreement with a reference that is taken not to matter; see ``margin`` for others."""

SUMMARY_VERSION = 2
"""Raised whenever a change of the code changes a number or a field of a summary: older cache entries are not read."""

_MOST_REASONS = 20
_MAPS = ("float", "quantized", "saliency")
_COLUMNS = (
    *(f"{comparison}_{metric}" for comparison in COMPARISONS for metric in STUDY_METRICS),
    *(f"{name}_degenerate" for name in _MAPS),
    *("float_probability", "float_correct", "quantized_correct", "flipped", "error", "index"),
)
_NOUNS = {"saliency": "saliency", "truth": "ground truth"}
_BOUNDED, _UNBOUNDED = 0.05, 0.1

Values = npt.NDArray[np.float64]


def summary(study: Path, progress: Progress = no_progress, *, store: TensorStore | None = None) -> StudySummary:
    """Sum a finished study up.

    Means are over the pictures that have a value: those whose maps both carry evidence. Intervals are the BCa bootstrap
    of ``statistics.summary``, for more than 1,000 pictures computed from moments; tests are paired by picture, and
    Holm's correction is over all of them. 240,000 rows (10,000 pictures, 6 models, 4 bit-widths) took 3 s and 0.4 GB.

    Args:
        study: its folder.
        progress: told how far it is.
        store: where the finished summary is kept, under a key of the plan's digest, the results' sha256 and
            ``SUMMARY_VERSION``; None: it is computed.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    if store is None:
        return _summed(study, progress)
    folder = StudyFolder(study)
    plan = folder.plan() if study.exists() else None
    if plan is None or not folder.finished(plan):
        return _summed(study, progress)  # which tells why not
    with open(study / "results.parquet", "rb") as file:
        results = hashlib.file_digest(file, "sha256").hexdigest()
    key = digest_of({"kind": "summary", "version": SUMMARY_VERSION, "plan": plan.digest, "results": results})
    record = store.get(key)
    if record is not None:
        return unpack_summary(plan, record)
    found = _summed(study, progress)
    store.put(key, pack_summary(found))
    return found


def _summed(study: Path, progress: Progress) -> StudySummary:
    folder = StudyFolder(study)
    plan = folder.plan() if study.exists() else None
    further = () if plan is None or plan.truth is None else (*plan.truth_columns, "truth_error")
    compared = () if plan is None else plan.simulation_columns
    plan, results = folder.results((*_COLUMNS, *compared, *further))
    places = [_Rows(plan, results, *cell) for cell in plan.cells]
    tests = _tests(places, progress)
    cells: list[StudyCell] = []
    for done, (rows, tested) in enumerate(zip(places, tests, strict=True)):
        progress(f"Summing up {rows.model} {rows.setting}", (1 + done / len(places)) / 2, Phase.SCORING)
        same = [cell for cell in cells if (cell.model, cell.protocol) == (rows.model, rows.protocol)]
        cells.append(_cell(rows, tested, same[0] if same else None))
    found = StudySummary(plan, tuple(cells), _most(_reasons(places, "error")))
    if plan.truth is None:
        return found
    reasons = _reasons(places, "truth_error")
    given = sum(file is not None for file in plan.truth.files)
    return replace(found, truths=given - len(set().union(*reasons.values())), truth_reasons=_most(reasons))


def _tests(places: Sequence[_Rows], progress: Progress) -> list[dict[str, dict[str, SaliencyTest]]]:
    """Return for each place: reference -> metric -> its test, p-values corrected over all of them."""
    tested: dict[str, PairedResult] = {}
    for done, rows in enumerate(places):
        progress("Testing against the references", done / (2 * len(places)), Phase.SCORING)
        for reference in _NOUNS:
            for metric in rows.metrics(reference):
                tested[f"{done} {reference} {metric}"] = _paired(rows, reference, metric)
    judged = statistics.family(tested)
    return [
        {
            reference: {
                metric: _test(judged[f"{done} {reference} {metric}"], reference, metric, rows.setting)
                for metric in rows.metrics(reference)
            }
            for reference in _NOUNS
        }
        for done, rows in enumerate(places)
    ]


def summary_table(found: StudySummary) -> bytes:
    """Return the summary as CSV, a line a number: the paper's Table 1 first, then rates and drift of parts.

    Columns: protocol, model, setting, comparison, metric, n, mean, sd, low and high (95 % interval of the mean) and
    method (how the interval was made). A rate's mean is its part of the pictures. An empty field is a number that does
    not exist.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["protocol", "model", "setting", "comparison", "metric", "n", "mean", "sd", "low", "high", "method"]
    )
    for cell in found.cells:
        for comparison, metric, number in _lines(cell):
            mean, sd = (number.value, None) if isinstance(number, Rate) else (number.mean, number.sd)
            fields = (number.n, mean, sd, number.low, number.high, number.method)
            writer.writerow([cell.protocol, cell.model, cell.setting, comparison, metric, *fields])
    return text.getvalue().encode()


def report_summary(found: StudySummary) -> dict[str, Any]:
    """Return the summary as JSON-able data; the pictures of the plan are counted, not listed."""
    plan = asdict(found.plan)
    plan["images"] = len(found.plan.images)
    plan["labelled"] = sum(image.label is not None for image in found.plan.images)
    plan["settings"] = [
        {"label": quant.label, "scheme_words": scheme_name(quant), **entry}
        for quant, entry in zip(found.plan.quants, plan.pop("quants"), strict=True)
    ]
    if found.plan.truth is not None:
        plan["truth"] |= {"files": sum(file is not None for file in found.plan.truth.files)}
    cells = []
    for cell in found.cells:
        entry = asdict(cell)
        for name in ("flips", "float_accuracy", "accuracy"):
            if entry[name] is not None:
                entry[name]["value"] = getattr(cell, name).value
        if cell.simulation is not None:
            entry["simulation"]["flips"]["value"] = cell.simulation.flips.value
        cells.append(entry)
    return {
        "plan": {"digest": found.plan.digest, **plan},
        "cells": cells,
        "errors": dict(found.reasons),
        "truths": found.truths,
        "truth_errors": dict(found.truth_reasons),
    }


def rate(flags: Values) -> Rate:
    """Return the part of ones among flags, float64 (n,), NaN where there is none."""
    known = flags[~np.isnan(flags)]
    n, count = len(known), int(known.sum())
    if not n:
        return Rate(0, 0, None, None)
    low, high = statistics.wilson([count], [n])
    return Rate(n, count, float(low[0]), float(high[0]), WILSON)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one model, bit-width and protocol."""

    plan: StudyPlan
    results: Results
    model: str
    setting: str
    protocol: str

    def numbers(self, column: str) -> Values:
        return self.results.numbers(self.model, self.setting, self.protocol, column)

    def metrics(self, reference: str) -> tuple[str, ...]:
        return self.plan.comparisons.get(f"float_v_{reference}", ())

    def texts(self, column: str) -> list[str]:
        return self.results.texts(self.model, self.setting, self.protocol, column)


def estimate(values: Values) -> Estimate:
    """Return the mean of values, float64 (n,), NaN where there is none, with its 95 % confidence interval."""
    sample = statistics.summary(values)
    return _estimate(sample.n, sample.mean, sample.sd, sample.interval)


def _estimate(n: int, mean: float | None, sd: float | None, interval: Interval | None) -> Estimate:
    if interval is None:
        return Estimate(n, mean, sd, None, None)
    return Estimate(n, mean, sd, interval.low, interval.high, interval.method)


def margin(metric: str) -> float:
    """Return the largest mean change of agreement that is taken not to matter.

    That is ``MARGINS``, and for other metrics of ``scores.METRICS`` 0.05 where they are bounded, else 0.1.
    """
    if metric in MARGINS:
        return MARGINS[metric]
    from quantviz import scores  # here, since most studies know their margins without it

    row = scores.METRICS[metric]
    return _UNBOUNDED if row.low is None or row.high is None else _BOUNDED


def simulation_check(
    protocol: str, numbers: Callable[[str], Values], mean: Callable[[Values], Estimate]
) -> SimulationCheck | None:
    """Return how a cell's simulated network agrees with the deployed one; None under another protocol.

    Args:
        protocol: of the cell.
        numbers: column of ``SIMULATION_COLUMNS`` -> its values, float64 (n,), NaN where there is none.
        mean: of a score over the pictures.
    """
    if protocol != DEPLOYED:
        return None
    marks = {metric: numbers(f"simulated_v_deployed_{metric}") for metric in STUDY_METRICS}
    worst: dict[str, float | None] = dict.fromkeys(STUDY_METRICS)
    for metric, values in marks.items():
        if (known := values[~np.isnan(values)]).size:
            worst[metric] = float(known.max() if metric == "kld" else known.min())
    found = {metric: mean(values) for metric, values in marks.items()}
    return SimulationCheck(found, worst, rate(numbers("simulated_flipped")))


def title(metric: str) -> str:
    """Return a metric's name as the field writes it."""
    if metric in STUDY_METRICS:
        return metric.upper()
    from quantviz import scores

    return scores.METRICS[metric].title


def _cell(rows: _Rows, tests: Mapping[str, Mapping[str, SaliencyTest]], same: StudyCell | None) -> StudyCell:
    """Sum up one cell; ``same`` is one of the same float network, whose agreement with the references is taken."""
    marks: dict[str, Mapping[str, Estimate]] = {}
    for comparison, metrics in rows.plan.comparisons.items():
        if same is not None and comparison.startswith("float_v_"):
            marks[comparison] = same.scores[comparison]
        else:
            marks[comparison] = {metric: estimate(rows.numbers(f"{comparison}_{metric}")) for metric in metrics}
    drift = 1 - rows.numbers("quantized_v_float_cc")
    terciles, splits = _splits(rows, drift)
    degenerate = {name: sum(map(bool, rows.texts(f"{name}_degenerate"))) for name in _MAPS}
    accuracies = [rate(rows.numbers(f"{name}_correct")) for name in ("float", "quantized")]
    return StudyCell(
        model=rows.model,
        setting=rows.setting,
        protocol=rows.protocol,
        images=len(drift),
        errors=sum(map(bool, rows.texts("error"))),
        degenerate=degenerate,
        scores=marks,
        tests=tests["saliency"],
        flips=rate(rows.numbers("flipped")),
        float_accuracy=accuracies[0] if accuracies[0].n else None,
        accuracy=accuracies[1] if accuracies[1].n else None,
        drift=estimate(drift),
        splits=splits,
        terciles=terciles,
        truth_tests=tests["truth"],
        simulation=simulation_check(rows.protocol, rows.numbers, estimate),
    )


def _splits(rows: _Rows, drift: Values) -> tuple[tuple[float, float] | None, tuple[DriftSplit, ...]]:
    """Return the bounds of the thirds by confidence, and the drift of each part that has pictures."""
    flipped, sure, right = (rows.numbers(name) for name in ("flipped", "float_probability", "float_correct"))
    parts = {("flipped", "flipped"): flipped == 1, ("flipped", "kept"): flipped == 0}
    terciles = None
    if (known := sure[~np.isnan(sure)]).size:
        low, high = (float(bound) for bound in np.quantile(known, (1 / 3, 2 / 3)))
        terciles = low, high
        parts |= {
            ("confidence", "low"): sure <= low,
            ("confidence", "middle"): (sure > low) & (sure <= high),
            ("confidence", "high"): sure > high,
        }
    parts |= {("correct", "correct"): right == 1, ("correct", "wrong"): right == 0}
    found = (DriftSplit(*name, estimate(drift[chosen])) for name, chosen in parts.items() if chosen.any())
    return terciles, tuple(found)


def _paired(rows: _Rows, reference: str, metric: str) -> PairedResult:
    first, second = (rows.numbers(f"{name}_v_{reference}_{metric}") for name in ("quantized", "float"))
    return statistics.paired(first, second, margin=margin(metric))


def _test(result: PairedResult, reference: str, metric: str, setting: str) -> SaliencyTest:
    what = f"{title(metric)} with the {_NOUNS[reference]}"
    return SaliencyTest(
        change=_estimate(result.n, result.mean, result.sd, result.interval),
        p=result.signed_rank.p if result.signed_rank else None,
        p_adjusted=result.p_adjusted,
        rank_biserial=result.rank_biserial,
        margin=result.equivalence.margin,
        equivalent=result.equivalence.equivalent,
        words=statistics.in_words(result, what=what, a=setting, b="float"),
    )


def _reasons(places: Sequence[_Rows], column: str) -> dict[str, set[float]]:
    """Return the sentences of a column with the places of the pictures that have each."""
    pictures: dict[str, set[float]] = {}
    for rows in places:
        for place, reason in zip(rows.numbers("index"), rows.texts(column), strict=True):
            if reason:
                pictures.setdefault(reason, set()).add(float(place))
    return pictures


def _most(reasons: Mapping[str, set[float]]) -> dict[str, int]:
    """Return the sentences of the most pictures, these first, with the number of pictures."""
    counted = {reason: len(found) for reason, found in reasons.items()}
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_MOST_REASONS])


def _lines(cell: StudyCell) -> Iterator[tuple[str, str, Estimate | Rate]]:
    for comparison, estimates in cell.scores.items():
        for metric, estimate in estimates.items():
            yield comparison, metric, estimate
    for reference, tests in (("saliency", cell.tests), ("truth", cell.truth_tests)):
        for metric, test in tests.items():
            yield f"quantized_minus_float_v_{reference}", metric, test.change
    rates = {"flips": cell.flips, "float_accuracy": cell.float_accuracy, "accuracy": cell.accuracy}
    yield from (("top1", name, rate) for name, rate in rates.items() if rate is not None)
    yield "drift", "all", cell.drift
    yield from (("drift", f"{split.by}_{split.group}", split.drift) for split in cell.splits)
    if cell.simulation is not None:
        for metric, estimate in cell.simulation.scores.items():
            yield "simulated_v_deployed", metric, estimate
        yield "top1", "simulated_flipped", cell.simulation.flips
