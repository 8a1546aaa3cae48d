"""A finished study in numbers: those of the paper's Table 1, with intervals, tests and what goes with the drift."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz import statistics
from quantviz.specs import (
    COMPARISONS,
    STUDY_METRICS,
    DriftSplit,
    Estimate,
    Progress,
    Rate,
    SaliencyTest,
    StudyCell,
    StudySummary,
    no_progress,
    scheme_name,
)
from quantviz.statistics import PairedResult
from quantviz.study import Results, StudyFolder

MARGINS: Final[Mapping[str, float]] = {"sim": 0.05, "cc": 0.05, "kld": 0.1}
"""The largest mean change of agreement with the saliency that is taken not to matter."""

_MOST_REASONS = 20
_WILSON_Z = 1.959963984540054  # the normal distribution's 0.975 quantile
_MAPS = ("float", "quantized", "saliency")
_COLUMNS = (
    *(f"{comparison}_{metric}" for comparison in COMPARISONS for metric in STUDY_METRICS),
    *(f"{name}_degenerate" for name in _MAPS),
    *("float_probability", "float_correct", "quantized_correct", "flipped", "error", "index"),
)

Values = npt.NDArray[np.float64]


def summary(study: Path, progress: Progress = no_progress) -> StudySummary:
    """Sum a finished study up.

    Means are over the pictures that have a value: those whose maps both carry evidence. Intervals are the BCa bootstrap
    of ``statistics.summary``; tests are paired by picture, and Holm's correction is over all of them.

    Args:
        study: its folder.
        progress: told how far it is.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    plan, results = StudyFolder(study).results(_COLUMNS)
    places = [
        _Rows(results, model.name, quant.label, protocol)
        for protocol in plan.protocols
        for model in plan.models
        for quant in plan.quants
    ]
    tested: dict[str, PairedResult] = {}
    for done, rows in enumerate(places):
        progress("Testing against the saliency", done / (2 * len(places)))
        tested |= {f"{done} {metric}": _paired(rows, metric) for metric in STUDY_METRICS}
    judged = statistics.family(tested)
    cells: list[StudyCell] = []
    for done, rows in enumerate(places):
        progress(f"Summing up {rows.model} {rows.setting}", (1 + done / len(places)) / 2)
        tests = {metric: _test(judged[f"{done} {metric}"], metric, rows.setting) for metric in STUDY_METRICS}
        same = [cell for cell in cells if (cell.model, cell.protocol) == (rows.model, rows.protocol)]
        cells.append(_cell(rows, tests, same[0] if same else None))
    return StudySummary(plan, tuple(cells), _reasons(places))


def summary_table(found: StudySummary) -> bytes:
    """Return the summary as CSV, a line a number: the paper's Table 1 first, then rates and drift of parts.

    Columns: protocol, model, setting, comparison, metric, n, mean, sd, low, high (95 % interval of the mean). A rate's
    mean is its part of the pictures. An empty cell is a number that does not exist.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "model", "setting", "comparison", "metric", "n", "mean", "sd", "low", "high"])
    for cell in found.cells:
        for comparison, metric, numbers in _lines(cell):
            told = ["" if number is None else repr(number) for number in numbers]
            writer.writerow([cell.protocol, cell.model, cell.setting, comparison, metric, *told])
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
    cells = []
    for cell in found.cells:
        entry = asdict(cell)
        for name in ("flips", "float_accuracy", "accuracy"):
            if entry[name] is not None:
                entry[name]["value"] = getattr(cell, name).value
        cells.append(entry)
    return {"plan": {"digest": found.plan.digest, **plan}, "cells": cells, "errors": dict(found.reasons)}


def rate(flags: Values) -> Rate:
    """Return the part of ones among flags, float64 (n,), NaN where there is none.

    The interval is (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n) with p = count / n and z = 1.96: Wilson,
    Probable inference, the law of succession, and statistical inference, JASA 22(158), 1927.
    """
    known = flags[~np.isnan(flags)]
    n, count = len(known), int(known.sum())
    if not n:
        return Rate(0, 0, None, None)
    part, square = count / n, _WILSON_Z**2
    middle = part + square / (2 * n)
    half = _WILSON_Z * math.sqrt(part * (1 - part) / n + square / (4 * n * n))
    low, high = ((middle + side * half) / (1 + square / n) for side in (-1, 1))
    return Rate(n, count, max(low, 0.0), min(high, 1.0))


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one model, bit-width and protocol."""

    results: Results
    model: str
    setting: str
    protocol: str

    def numbers(self, column: str) -> Values:
        return self.results.numbers(self.model, self.setting, self.protocol, column)

    def texts(self, column: str) -> list[str]:
        return self.results.texts(self.model, self.setting, self.protocol, column)


def estimate(values: Values) -> Estimate:
    """Return the mean of values, float64 (n,), NaN where there is none, with its 95 % confidence interval."""
    found = statistics.summary(values)
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return Estimate(found.n, found.mean, found.sd, low, high)


def _cell(rows: _Rows, tests: Mapping[str, SaliencyTest], same: StudyCell | None) -> StudyCell:
    """Sum up one cell; ``same`` is one of the same float network, whose agreement with the saliency is taken."""
    scores: dict[str, Mapping[str, Estimate]] = {
        comparison: {metric: estimate(rows.numbers(f"{comparison}_{metric}")) for metric in STUDY_METRICS}
        for comparison in COMPARISONS
        if same is None or comparison != "float_v_saliency"
    }
    if same is not None:
        scores["float_v_saliency"] = same.scores["float_v_saliency"]
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
        scores={comparison: scores[comparison] for comparison in COMPARISONS},
        tests=tests,
        flips=rate(rows.numbers("flipped")),
        float_accuracy=accuracies[0] if accuracies[0].n else None,
        accuracy=accuracies[1] if accuracies[1].n else None,
        drift=estimate(drift),
        splits=splits,
        terciles=terciles,
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


def _paired(rows: _Rows, metric: str) -> PairedResult:
    first, second = (rows.numbers(f"{name}_v_saliency_{metric}") for name in ("quantized", "float"))
    return statistics.paired(first, second, margin=MARGINS[metric])


def _test(result: PairedResult, metric: str, setting: str) -> SaliencyTest:
    low, high = (result.interval.low, result.interval.high) if result.interval else (None, None)
    return SaliencyTest(
        change=Estimate(result.n, result.mean, result.sd, low, high),
        p=result.signed_rank.p if result.signed_rank else None,
        p_adjusted=result.p_adjusted,
        rank_biserial=result.rank_biserial,
        margin=result.equivalence.margin,
        equivalent=result.equivalence.equivalent,
        words=statistics.in_words(result, what=f"{metric.upper()} with the saliency", a=setting, b="float"),
    )


def _reasons(places: Sequence[_Rows]) -> dict[str, int]:
    """Return the sentences of errors, those of the most pictures first, with the number of pictures."""
    pictures: dict[str, set[float]] = {}
    for rows in places:
        for place, reason in zip(rows.numbers("index"), rows.texts("error"), strict=True):
            if reason:
                pictures.setdefault(reason, set()).add(float(place))
    counted = {reason: len(found) for reason, found in pictures.items()}
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_MOST_REASONS])


def _lines(cell: StudyCell) -> Iterator[tuple[str, str, tuple[float | None, ...]]]:
    for comparison, metrics in cell.scores.items():
        for metric, found in metrics.items():
            yield comparison, metric, _numbers(found)
    for metric, test in cell.tests.items():
        yield "quantized_minus_float_v_saliency", metric, _numbers(test.change)
    rates = {"flips": cell.flips, "float_accuracy": cell.float_accuracy, "accuracy": cell.accuracy}
    for name, part in rates.items():
        if part is not None:
            yield "top1", name, (part.n, part.value, None, part.low, part.high)
    yield "drift", "all", _numbers(cell.drift)
    for split in cell.splits:
        yield "drift", f"{split.by}_{split.group}", _numbers(split.drift)


def _numbers(found: Estimate) -> tuple[float | None, ...]:
    return found.n, found.mean, found.sd, found.low, found.high
