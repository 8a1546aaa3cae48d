"""From the rows of a study to what limits are decided by, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantviz.guard.specs import Cell, Measured, WorstPicture
from quantviz.study.specs.table import StudyTable
from quantviz.study.table import study_table


def measured(table: StudyTable, row: int) -> Measured:
    """Return what is measured of one cell of a study.

    A picture of which only the quantized network has no result counts as changed, wrong, and without evidence: a
    broken network must not pass by giving nothing. Pictures without a result of the float network are left out.

    Args:
        table: of the study, with all of its columns.
        row: the cell's place in it.
    """
    columns = {name: values[row] for name, values in table.columns.items()}
    seen = ~np.isnan(columns["float_probability"])
    failed = seen & np.isnan(columns["quantized_probability"])
    drift = 1 - columns["quantized_v_float_cc"]
    lost = (columns["float_degenerate"] != 1) & (failed | (columns["quantized_degenerate"] == 1))
    drift = np.where(seen & lost, 1.0, drift)
    known = seen & ~np.isnan(columns["float_correct"])
    return Measured(
        cell=table.cells[row],
        pictures=tuple(image.sha256 for image, here in zip(table.plan.images, seen, strict=True) if here),
        drift=drift[seen],
        flipped=np.where(failed, 1.0, columns["flipped"])[seen],
        float_correct=columns["float_correct"][seen],
        correct=np.where(failed & known, 0.0, columns["quantized_correct"])[seen],
        label=np.where(known, columns["label"], np.nan)[seen],
        probability=np.where(failed, 1.0, np.abs(columns["quantized_probability"] - columns["float_probability"]))[
            seen
        ],
        logit_noise=np.full(int(seen.sum()), np.nan),
    )


def of_study(study: Path, models: Sequence[str] = (), variants: Sequence[str] = ()) -> tuple[StudyTable, list[int]]:
    """Return a finished study and the places of the cells that are asked for; all of them where nothing is named.

    Raises:
        UsageError: there is no finished study.
        StoreError: it is damaged.
    """
    table = study_table(study)
    chosen = [
        row
        for row, (model, variant, _) in enumerate(table.cells)
        if (not models or model in models) and (not variants or variant in variants)
    ]
    return table, chosen


def worst_pictures(table: StudyTable, row: int, count: int) -> tuple[WorstPicture, ...]:
    """Return the pictures of a cell that drift most, the worst first; those that lost all evidence come first."""
    cell: Cell = table.cells[row]
    seen = ~np.isnan(table.columns["float_probability"][row])
    here = measured(table, row)
    places = np.flatnonzero(seen)
    order = np.lexsort((places, -np.nan_to_num(here.drift, nan=-1)))
    return tuple(
        WorstPicture(
            cell,
            int(places[at]),
            table.plan.images[places[at]].path,
            float(here.drift[at]),
            None if np.isnan(here.flipped[at]) else bool(here.flipped[at]),
        )
        for at in order[:count]
        if not np.isnan(here.drift[at])
    )
