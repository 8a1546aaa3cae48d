"""What a whole data set shows of a quantized network: classes, what changes into what, whether drift warns of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantviz import statistics
from quantviz.networks.classes import ClassNames
from quantviz.study.cells import estimate, rates
from quantviz.study.specs.summary import ClassChange, ClassRow, DatasetWide, FlipPrediction
from quantviz.study.specs.table import Flags, StudyTable, Values


def dataset_wide(table: StudyTable, row: int, chosen: Flags | None = None) -> DatasetWide:
    """Return what all pictures of a cell show, or chosen ones.

    Rates have Wilson's intervals; the interval of an AUROC is DeLong's (``statistics.auroc``).

    Args:
        table: with all of its columns.
        row: the cell's place in the table.
        chosen: bool (pictures,): which pictures count; all of them if None.
    """
    places = np.arange(len(table.plan.images)) if chosen is None else np.flatnonzero(chosen)
    columns = {name: values[row].take(places) for name, values in table.columns.items()}
    names = ClassNames(table.plan.classes).names
    drift = 1 - columns["quantized_v_float_cc"]
    return DatasetWide(
        classes=_classes(columns, drift, names),
        changes=_changes(columns, [table.plan.images[place].path for place in places.tolist()], names),
        prediction=_prediction(drift, columns["flipped"]),
    )


def _classes(columns: dict[str, Values], drift: Values, names: Sequence[str]) -> tuple[ClassRow, ...]:
    labels = columns["label"]
    known = np.unique(labels[~np.isnan(labels) & ~np.isnan(columns["float_correct"])]).astype(int)
    of_class = labels == known[:, None]  # (classes, pictures)
    right, right_now, changed = (
        rates(np.broadcast_to(columns[name], of_class.shape), of_class)
        for name in ("float_correct", "quantized_correct", "flipped")
    )
    rows = []
    for index, place, before, after, flips in zip(known.tolist(), of_class, right, right_now, changed, strict=True):
        drifts = estimate(drift[place], resampled=False)
        rows.append(ClassRow(int(index), _name(int(index), names), before, after, flips, drifts))
    return tuple(sorted(rows, key=lambda one: (-(one.drop or 0.0), -(one.drift.mean or 0.0), one.index)))


def _changes(columns: dict[str, Values], paths: Sequence[str], names: Sequence[str]) -> tuple[ClassChange, ...]:
    changed: dict[tuple[int, int], list[str]] = {}
    for at in np.flatnonzero(columns["flipped"] == 1).tolist():
        before, after = columns["float_top1"][at], columns["quantized_top1"][at]
        if not (np.isnan(before) or np.isnan(after)):
            changed.setdefault((int(before), int(after)), []).append(paths[at])
    ordered = sorted(changed.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return tuple(
        ClassChange(_name(before, names), _name(after, names), tuple(pictures)) for (before, after), pictures in ordered
    )


def _prediction(drift: Values, flipped: Values) -> FlipPrediction | None:
    area = statistics.auroc(drift, flipped)
    if area is None:
        return None
    return FlipPrediction(area.value, area.low, area.high, area.positives, area.negatives, area.method)


def _name(index: int, names: Sequence[str]) -> str:
    return names[index] if index < len(names) else f"class {index}"
