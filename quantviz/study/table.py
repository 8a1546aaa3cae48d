"""A finished study as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import COMPARISONS, STUDY_METRICS
from quantviz.study.specs.table import StudyTable

SCORE_COLUMNS = tuple(f"{comparison}_{metric}" for comparison in COMPARISONS for metric in STUDY_METRICS)
REASON_COLUMNS = ("float_degenerate", "quantized_degenerate", "saliency_degenerate", "error")
NUMBER_COLUMNS = (
    *SCORE_COLUMNS,
    *("label", "float_class", "quantized_class", "float_top1", "quantized_top1"),
    *("float_probability", "quantized_probability", "float_correct", "quantized_correct", "flipped"),
)
_TRUTH_ERROR = "truth_error"


def study_table(study: Path, columns: Sequence[str] | None = None) -> StudyTable:
    """Read a finished study.

    Args:
        study: its folder.
        columns: of ``NUMBER_COLUMNS`` and ``REASON_COLUMNS``, of the plan's ``simulation_columns``, and in a study with
            ground truth of its ``truth_columns`` and ``"truth_error"``, which is a flag here; None for all.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    folder = StudyFolder(study)
    if columns is None:
        planned = folder.plan() if study.exists() else None
        further = () if planned is None or planned.truth is None else (*planned.truth_columns, _TRUTH_ERROR)
        compared = () if planned is None else planned.simulation_columns
        columns = (*NUMBER_COLUMNS, *REASON_COLUMNS, *compared, *further)
    plan, results = folder.results(("index", *columns))
    cells = plan.cells
    found = {name: np.full((len(cells), len(plan.images)), np.nan) for name in columns}
    for row, cell in enumerate(cells):
        places = results.numbers(*cell, "index").astype(np.intp)
        for name, values in found.items():
            if name in (*REASON_COLUMNS, _TRUTH_ERROR):
                values[row, places] = [bool(reason) for reason in results.texts(*cell, name)]
            else:
                values[row, places] = results.numbers(*cell, name)
    for values in found.values():
        values.flags.writeable = False
    return StudyTable(plan, cells, found)
