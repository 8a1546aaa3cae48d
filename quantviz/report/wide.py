"""Tables of what a whole data set shows: classes, what changes into what, and whether drift warns of a change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quantviz.report.faithful import faithful_tables
from quantviz.report.properties import property_tables
from quantviz.report.tables import Column, ReportTable, Value, cell_columns, model_title, study_tables
from quantviz.study.specs.summary import DatasetWide, Estimate, StudyCell, StudySummary

MOST_SHOWN: Final = 10
"""Classes, and changes, that a table has of each quantized network; the JSON has all of them."""

_FEWEST = 2  # pictures of a class of which a table says something


def all_tables(summary: StudySummary) -> tuple[ReportTable, ...]:
    """Return all tables: ``study_tables``, ``property_tables``, ``faithful_tables`` and ``wide_tables``."""
    return (*study_tables(summary), *property_tables(summary), *faithful_tables(summary), *wide_tables(summary))


def wide_tables(summary: StudySummary) -> tuple[ReportTable, ...]:
    """Return the tables of what the whole data set shows, without those that have no row."""
    tables = _prediction(summary), _classes(summary), _changes(summary)
    return tuple(table for table in tables if table.rows)


def _prediction(summary: StudySummary) -> ReportTable:
    rows: list[tuple[Value, ...]] = []
    for cell, title, wide in _cells(summary):
        if (found := wide.prediction) is not None:
            area = Estimate(found.flipped + found.kept, found.auroc, None, found.low, found.high, found.method)
            rows.append((cell.protocol, title, cell.setting, found.flipped, found.kept, area))
    columns = (
        *cell_columns(summary.plan),
        Column("flipped", "changed", "count"),
        Column("kept", "kept", "count"),
        Column("auroc", "AUROC [95 % interval]", "interval"),
    )
    subject = "Does drift predict a change of the top-1 class? AUROC: 0.5 it tells nothing, 1 it always does"
    return ReportTable("prediction", subject, columns, tuple(rows))


def _classes(summary: StudySummary) -> ReportTable:
    rows: list[tuple[Value, ...]] = []
    for cell, title, wide in _cells(summary):
        several = [one for one in wide.classes if one.float_accuracy.n >= _FEWEST]
        for one in several[:MOST_SHOWN]:
            numbers = (one.float_accuracy.n, one.float_accuracy, one.accuracy, one.drop, one.flips, one.drift)
            rows.append((cell.protocol, title, cell.setting, one.name, *numbers))
    columns = (
        *cell_columns(summary.plan),
        Column("class", "class"),
        Column("pictures", "pictures", "count"),
        Column("float_top1", "float top-1", "rate"),
        Column("top1", "quantized top-1", "rate"),
        Column("drop", "drop", "number"),
        Column("flips", "top-1 changed", "rate"),
        Column("drift", "drift", "interval"),
    )
    subject = f"The classes that lose most accuracy (at most {MOST_SHOWN}, of {_FEWEST} pictures or more)"
    return ReportTable("classes", subject, columns, tuple(rows))


def _changes(summary: StudySummary) -> ReportTable:
    rows: list[tuple[Value, ...]] = []
    for cell, title, wide in _cells(summary):
        for one in wide.changes[:MOST_SHOWN]:
            first = one.pictures[0]
            rows.append((cell.protocol, title, cell.setting, one.before, one.after, len(one.pictures), first))
    columns = (
        *cell_columns(summary.plan),
        Column("before", "float top-1"),
        Column("after", "quantized top-1"),
        Column("pictures", "pictures", "count"),
        Column("first", "the first of them"),
    )
    return ReportTable("changes", f"Which top-1 class changes into which (at most {MOST_SHOWN})", columns, tuple(rows))


def _cells(summary: StudySummary) -> Iterator[tuple[StudyCell, str, DatasetWide]]:
    titles = {model.name: model_title(model) for model in summary.plan.models}
    return ((cell, titles[cell.model], cell.wide) for cell in summary.cells if cell.wide is not None)
