"""A finished study in numbers: those of the paper's Table 1, with intervals, tests and what goes with the drift."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from quantviz import statistics
from quantviz.specs import Phase, Progress, csv_bytes, digest_of, no_progress, scheme_name
from quantviz.statistics import PairedResult
from quantviz.store import TensorStore
from quantviz.study.cells import estimate_of, sum_up
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import STUDY_METRICS
from quantviz.study.specs.summary import Estimate, Rate, SaliencyTest, StudyCell, StudySummary
from quantviz.study.specs.table import StudyTable
from quantviz.study.summary_record import pack_summary, unpack_summary
from quantviz.study.table import study_table
from quantviz.study.wide import dataset_wide

MARGINS: Final[Mapping[str, float]] = {"sim": 0.05, "cc": 0.05, "kld": 0.1}
"""The largest mean change of agreement with a reference that is taken not to matter; see ``margin`` for others."""

SUMMARY_VERSION = 5
"""Raised whenever a change of the code changes a number or a field of a summary: older cache entries are not read."""

_MOST_REASONS = 20
_REFERENCES = {"saliency": "saliency", "truth": "ground truth"}
_BOUNDED, _UNBOUNDED = 0.05, 0.1


def summary(study: Path, progress: Progress = no_progress, *, store: TensorStore | None = None) -> StudySummary:
    """Sum a finished study up.

    Means are over the pictures that have a value: those whose maps both carry evidence. Intervals are those of
    ``statistics.summary``; tests are paired by picture, and Holm's correction is over all of them. 240,000 rows (10,000
    pictures, 6 models, 4 bit-widths) took 3 s and 0.4 GB.

    Args:
        study: its folder.
        progress: called with how far it is.
        store: where the finished summary is kept, under a key of the plan's digest, the results' sha256 and
            ``SUMMARY_VERSION``; None: it is computed.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    if store is None:
        return _computed(study_table(study), progress)
    plan = StudyFolder(study).finished_plan()
    with open(study / "results.parquet", "rb") as file:
        results = hashlib.file_digest(file, "sha256").hexdigest()
    key = digest_of({"kind": "summary", "version": SUMMARY_VERSION, "plan": plan.digest, "results": results})
    record = store.get(key)
    if record is not None:
        return unpack_summary(plan, record)
    computed = _computed(study_table(study), progress)
    store.put(key, pack_summary(computed))
    return computed


def summary_table(study_summary: StudySummary) -> bytes:
    """Return the summary as CSV, a line a number: the paper's Table 1 first, then rates and drift of parts.

    Columns: protocol, model, setting, comparison, metric, n, mean, sd, low and high (95 % interval of the mean) and
    method (how the interval was made). A rate's mean is its part of the pictures. An empty field is a number that does
    not exist.
    """
    heads = ["protocol", "model", "setting", "comparison", "metric", "n", "mean", "sd", "low", "high", "method"]
    rows: list[list[object]] = [list(heads)]
    for cell in study_summary.cells:
        for comparison, metric, number in _lines(cell):
            mean, sd = (number.value, None) if isinstance(number, Rate) else (number.mean, number.sd)
            fields = (number.n, mean, sd, number.low, number.high, number.method)
            rows.append([cell.protocol, cell.model, cell.setting, comparison, metric, *fields])
    return csv_bytes(rows)


def report_summary(study_summary: StudySummary) -> dict[str, Any]:
    """Return the summary as JSON-able data; the pictures of the plan are counted, not listed."""
    plan = asdict(study_summary.plan)
    plan["images"] = len(study_summary.plan.images)
    plan["labelled"] = sum(image.label is not None for image in study_summary.plan.images)
    plan["settings"] = [
        {"label": quant.label, "scheme_words": scheme_name(quant), **entry}
        for quant, entry in zip(study_summary.plan.quants, plan.pop("quants"), strict=True)
    ]
    if study_summary.plan.truth is not None:
        plan["truth"] |= {"files": sum(file is not None for file in study_summary.plan.truth.files)}
    cells = []
    for cell in study_summary.cells:
        entry = asdict(cell)
        for name in ("flips", "float_accuracy", "accuracy"):
            if entry[name] is not None:
                entry[name]["value"] = getattr(cell, name).value
        for row, third in zip(entry["thirds"], cell.thirds, strict=True):
            row["flips"]["value"] = third.flips.value
        if cell.simulation is not None:
            entry["simulation"]["flips"]["value"] = cell.simulation.flips.value
        if cell.wide is not None:
            for row, one in zip(entry["wide"]["classes"], cell.wide.classes, strict=True):
                row["drop"] = one.drop
                for name in ("flips", "float_accuracy", "accuracy"):
                    row[name]["value"] = getattr(one, name).value
        cells.append(entry)
    return {
        "plan": {"digest": study_summary.plan.digest, **plan},
        "cells": cells,
        "errors": dict(study_summary.reasons),
        "truths": study_summary.truths,
        "truth_errors": dict(study_summary.truth_reasons),
    }


def margin(metric: str) -> float:
    """Return the largest mean change of agreement that is taken not to matter.

    That is ``MARGINS``, and for other metrics of ``scores.METRICS`` 0.05 where they are bounded, else 0.1.
    """
    if metric in MARGINS:
        return MARGINS[metric]
    from quantviz import scores  # here, since most studies know their margins without it

    row = scores.METRICS[metric]
    return _UNBOUNDED if row.low is None or row.high is None else _BOUNDED


def title(metric: str) -> str:
    """Return a metric's name as the field writes it."""
    if metric in STUDY_METRICS:
        return metric.upper()
    from quantviz import scores

    return scores.METRICS[metric].title


def faithful_words(metric: str) -> tuple[str, str]:
    """Return the name of a metric of faithfulness, and which of its values are better: ``"higher"`` or ``"lower"``."""
    from quantviz.cam import FAITHFULNESS

    row = FAITHFULNESS[metric]
    return row.title, "higher" if row.higher_is_better else "lower"


def _computed(table: StudyTable, progress: Progress) -> StudySummary:
    tests = _tests(table, _half(progress, 0))
    cells = sum_up(table, progress=_half(progress, 1))
    tested = (
        replace(cell, tests=of_cell["saliency"], truth_tests=of_cell["truth"], wide=dataset_wide(table, row))
        for row, (cell, of_cell) in enumerate(zip(cells, tests, strict=True))
    )
    whole = StudySummary(table.plan, tuple(tested), _most(table.reasons["error"]))
    if table.plan.truth is None:
        return whole
    given = sum(file is not None for file in table.plan.truth.files)
    unusable = int((table.columns["truth_error"] == 1).any(axis=0).sum())
    return replace(whole, truths=given - unusable, truth_reasons=_most(table.reasons["truth_error"]))


def _tests(table: StudyTable, progress: Progress) -> list[dict[str, dict[str, SaliencyTest]]]:
    """Return for each cell: reference -> metric -> its test, p-values corrected over all of them."""
    metrics = [
        (reference, metric)
        for reference in _REFERENCES
        for metric in table.plan.comparisons.get(f"float_v_{reference}", ())
    ]
    results: dict[str, PairedResult] = {}
    for row in range(len(table.cells)):
        progress("Testing against the references", row / len(table.cells), Phase.SCORING)
        for reference, metric in metrics:
            pair = (table.columns[f"{side}_v_{reference}_{metric}"][row] for side in ("quantized", "float"))
            results[f"{row} {reference} {metric}"] = statistics.paired(*pair, margin=margin(metric))
    corrected = statistics.family(results)
    tests: list[dict[str, dict[str, SaliencyTest]]] = []
    for row, (_, setting, _) in enumerate(table.cells):
        tests.append({reference: {} for reference in _REFERENCES})
        for reference, metric in metrics:
            result = corrected[f"{row} {reference} {metric}"]
            tests[row][reference][metric] = _test(result, reference, metric, setting)
    return tests


def _half(progress: Progress, which: int) -> Progress:
    """Return what reports the progress of the first half of the work, 0, or of the second, 1."""

    def report(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING, /) -> None:
        progress(message, (which + (fraction or 0.0)) / 2, phase)

    return report


def _test(result: PairedResult, reference: str, metric: str, setting: str) -> SaliencyTest:
    what = f"{title(metric)} with the {_REFERENCES[reference]}"
    return SaliencyTest(
        change=estimate_of(result.n, result.mean, result.sd, result.interval),
        p=result.signed_rank.p if result.signed_rank else None,
        p_adjusted=result.p_adjusted,
        rank_biserial=result.rank_biserial,
        margin=result.equivalence.margin,
        equivalent=result.equivalence.equivalent,
        words=statistics.in_words(result, what=what, a=setting, b="float"),
    )


def _most(reasons: Mapping[str, int]) -> dict[str, int]:
    """Return the sentences of the most pictures, these first."""
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_MOST_REASONS])


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
    known = {(split.by, split.group) for split in cell.splits}
    for third in cell.thirds:
        if (third.by, third.group) not in known:
            yield "drift", f"{third.by}_{third.group}", third.drift
        yield "top1", f"flips_{third.by}_{third.group}", third.flips
    if cell.simulation is not None:
        for metric, estimate in cell.simulation.scores.items():
            yield "simulated_v_deployed", metric, estimate
        yield "top1", "simulated_flipped", cell.simulation.flips
    for metric, sides in cell.faithful.items():
        for side, estimate in sides.items():
            yield "quantized_minus_float_faithfulness" if side == "change" else f"{side}_faithfulness", metric, estimate
