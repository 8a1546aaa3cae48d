"""A finished study as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import COMPARISONS, PROPERTY_COLUMNS, STUDY_METRICS
from quantviz.study.specs.table import StudyTable

SCORE_COLUMNS = tuple(f"{comparison}_{metric}" for comparison in COMPARISONS for metric in STUDY_METRICS)
REASON_COLUMNS = ("float_degenerate", "quantized_degenerate", "saliency_degenerate", "error")
NUMBER_COLUMNS = (
    *SCORE_COLUMNS,
    *("label", "float_class", "quantized_class", "float_top1", "quantized_top1"),
    *("float_probability", "quantized_probability", "float_correct", "quantized_correct", "flipped"),
)
_ERRORS = ("error", "truth_error")


def study_table(study: Path, columns: Sequence[str] | None = None) -> StudyTable:
    """Read a finished study.

    Args:
        study: its folder.
        columns: of ``NUMBER_COLUMNS``, ``REASON_COLUMNS`` and ``PROPERTY_COLUMNS``, of the plan's
            ``simulation_columns`` and ``faithful_columns``, and in a study with ground truth of its ``truth_columns``
            and ``"truth_error"``, which is a flag here; None for all. Properties are NaN where the study lacks them.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    folder = StudyFolder(study)
    plan = folder.finished_plan()
    if columns is None:
        truth = () if plan.truth is None else (*plan.truth_columns, "truth_error")
        optional = (*plan.simulation_columns, *plan.faithful_columns, *PROPERTY_COLUMNS)
        columns = (*NUMBER_COLUMNS, *REASON_COLUMNS, *optional, *truth)
    results = folder.rows(("index", *columns))
    arrays = {name: np.full((len(plan.cells), len(plan.images)), np.nan) for name in columns}
    for row, cell in enumerate(plan.cells):
        places = results.numbers(*cell, "index").astype(np.intp)
        for name, values in arrays.items():
            if name in PROPERTY_COLUMNS and name not in results.columns:
                continue
            is_reason = name in REASON_COLUMNS or name in _ERRORS
            values[row, places] = results.filled(*cell, name) if is_reason else results.numbers(*cell, name)
    for values in arrays.values():
        values.flags.writeable = False
    reasons = {name: results.pictures_by_text(name) for name in _ERRORS if name in columns}
    return StudyTable(plan, plan.cells, arrays, reasons)
