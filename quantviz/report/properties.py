"""The table of what quantization does by a picture's properties: brightness, the object's size, confidence."""

from __future__ import annotations

from typing import Final

from quantviz.report.tables import Column, ReportTable, Value, cell_columns, model_title
from quantviz.study.specs.summary import StudySummary

_NAMES: Final = {"brightness": "brightness", "object_share": "object's share", "confidence": "confidence"}
_MEANS: Final = {
    "brightness": "brightness, mean luma (Rec. 601) of what the network sees, 0 to 1",
    "object_share": "object's share of it, inside the ground truth's boxes or mask",
    "confidence": "confidence, the float top-1 probability",
}


def property_tables(summary: StudySummary) -> tuple[ReportTable, ...]:
    """Return the table of drift and changed classes by thirds of each property; () where none is known.

    A study that was swept before there were brightness and the object's share has the thirds by confidence alone.
    """
    titles = {model.name: model_title(model) for model in summary.plan.models}
    rows: list[tuple[Value, ...]] = []
    for cell in summary.cells:
        for one in cell.thirds:
            known = (cell.protocol, titles[cell.model], cell.setting, _NAMES[one.by], one.group)
            rows.append((*known, one.above, one.up_to, one.pictures, one.drift, one.flips))
    if not rows:
        return ()
    columns = (
        *cell_columns(summary.plan),
        Column("property", "by"),
        Column("third", "third"),
        Column("above", "above", "number"),
        Column("up_to", "up to", "number"),
        Column("pictures", "pictures", "count"),
        Column("drift", "drift, 1 − CC", "interval"),
        Column("flips", "top-1 changed", "rate"),
    )
    here = {one.by for cell in summary.cells for one in cell.thirds}
    means = "; ".join(words for by, words in _MEANS.items() if by in here)
    subject = f"Drift and changed top-1 classes by thirds of the pictures ({means})"
    return (ReportTable("properties", subject, columns, tuple(rows)),)
