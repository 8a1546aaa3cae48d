"""A study's summary to and from what the store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from quantviz.specs import StoredRecord
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import (
    DriftSplit,
    Estimate,
    Rate,
    SaliencyTest,
    SimulationCheck,
    StudyCell,
    StudySummary,
)


def pack_summary(found: StudySummary) -> StoredRecord:
    """Return the record of a summary, without its plan."""
    told = {entry.name: getattr(found, entry.name) for entry in fields(found) if entry.name != "plan"}
    return StoredRecord({}, {**told, "cells": [asdict(cell) for cell in found.cells]})


def unpack_summary(plan: StudyPlan, record: StoredRecord) -> StudySummary:
    """Return the summary that ``pack_summary`` was given."""
    entries = dict(record.metadata)
    cells = tuple(_cell_of(entry) for entry in entries.pop("cells"))
    return StudySummary(plan, cells, **entries)


def _cell_of(entry: Mapping[str, Any]) -> StudyCell:
    rates = {
        name: None if entry[name] is None else Rate(**entry[name]) for name in ("flips", "float_accuracy", "accuracy")
    }
    tested = ("tests", "truth_tests")
    tests = {name: {metric: _test_of(test) for metric, test in entry[name].items()} for name in tested}
    others = {
        "scores": {
            comparison: {metric: Estimate(**mark) for metric, mark in marks.items()}
            for comparison, marks in entry["scores"].items()
        },
        "drift": Estimate(**entry["drift"]),
        "splits": tuple(DriftSplit(**{**split, "drift": Estimate(**split["drift"])}) for split in entry["splits"]),
        "terciles": None if entry["terciles"] is None else tuple(entry["terciles"]),
        "simulation": _check_of(entry.get("simulation")),
    }
    return StudyCell(**{**entry, **rates, **tests, **others})


def _check_of(entry: Mapping[str, Any] | None) -> SimulationCheck | None:
    if entry is None:
        return None
    marks = {metric: Estimate(**mark) for metric, mark in entry["scores"].items()}
    return SimulationCheck(marks, entry["worst"], Rate(**entry["flips"]))


def _test_of(entry: Mapping[str, Any]) -> SaliencyTest:
    return SaliencyTest(**{**entry, "change": Estimate(**entry["change"])})
