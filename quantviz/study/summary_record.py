"""A study's summary to and from what the store keeps."""

from __future__ import annotations

from dataclasses import asdict, fields

from quantviz.comparison.structured import structured
from quantviz.specs import StoredRecord
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import StudyCell, StudySummary


def pack_summary(summary: StudySummary) -> StoredRecord:
    """Return the record of a summary, without its plan."""
    entries = {entry.name: getattr(summary, entry.name) for entry in fields(summary) if entry.name != "plan"}
    return StoredRecord({}, {**entries, "cells": [asdict(cell) for cell in summary.cells]})


def unpack_summary(plan: StudyPlan, record: StoredRecord) -> StudySummary:
    """Return the summary that ``pack_summary`` was given.

    Raises:
        ValueError: the record is not one of a summary.
    """
    entries = dict(record.metadata)
    cells = structured(tuple[StudyCell, ...], entries.pop("cells"))
    return StudySummary(plan, cells, **entries)
