"""A finished study in numbers: the layout of the paper's Table 1, with intervals, tests and what goes with the drift."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping
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
    UsageError,
    no_progress,
    scheme_name,
)
from quantviz.statistics import PairedResult
from quantviz.study import Results, StudyFolder

MARGINS: Final[Mapping[str, float]] = {"sim": 0.05, "cc": 0.05, "kld": 0.1}
"""The largest mean change of agreement with the saliency that is taken not to matter."""

MOST_REASONS = 20
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
        {"label": quant.label, "scheme": scheme_name(quant), **entry}
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


def _cell(rows: _Rows, tests: Mapping[str, SaliencyTest], same: StudyCell | None) -> StudyCell:
    """Sum up one cell; what concerns the float network alone is taken from a cell that has the ``same`` one."""
    scores = {
        comparison: same.scores[comparison]
        if same is not None and comparison == "float_v_saliency" and not any(rows.failed() ^ same_failed(rows, same))
        else {metric: estimate(rows.numbers(f"{comparison}_{metric}")) for metric in STUDY_METRICS}
        for comparison in COMPARISONS
    }
