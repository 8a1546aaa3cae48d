"""A finished study as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantviz.specs import COMPARISONS, STUDY_METRICS, StudyTable
from quantviz.study import StudyFolder

SCORE_COLUMNS = tuple(f"{comparison}_{metric}" for comparison in COMPARISONS for metric in STUDY_METRICS)
REASON_COLUMNS = ("float_degenerate", "quantized_degenerate", "saliency_degenerate", "error")
NUMBER_COLUMNS = (
    *SCORE_COLUMNS,
    *("label", "float_class", "quantized_class", "float_top1", "quantized_top1"),
    *("float_probability", "quantized_probability", "float_correct", "quantized_correct", "flipped"),
)


def study_table(study: Path, columns: Sequence[str] = (*NUMBER_COLUMNS, *REASON_COLUMNS)) -> StudyTable:
    """Read a finished study.

    Args:
        study: its folder.
        columns: of ``NUMBER_COLUMNS`` and ``REASON_COLUMNS``.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    plan, results = StudyFolder(study).results(("index", *columns))
    cells = tuple(
        (model.name, quant.label, protocol)
        for protocol in plan.protocols
        for model in plan.models
        for quant in plan.quants
    )
    found = {name: np.full((len(cells), len(plan.images)), np.nan) for name in columns}
    for row, cell in enumerate(cells):
        places = results.numbers(*cell, "index").astype(np.intp)
        for name, values in found.items():
            if name in REASON_COLUMNS:
                values[row, places] = [bool(reason) for reason in results.texts(*cell, name)]
            else:
                values[row, places] = results.numbers(*cell, name)
    for values in found.values():
        values.flags.writeable = False
    return StudyTable(plan, cells, found)
