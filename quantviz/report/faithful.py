"""The table of how faithful maps are to their networks, float and quantized."""

from __future__ import annotations

from quantviz.report.tables import Column, ReportTable, Value, cell_columns, model_title
from quantviz.study.specs.summary import StudySummary
from quantviz.study.summary import faithful_words


def faithful_tables(summary: StudySummary) -> tuple[ReportTable, ...]:
    """Return the table of deletion, insertion and ROAD; () where the study did not measure them."""
    titles = {model.name: model_title(model) for model in summary.plan.models}
    rows: list[tuple[Value, ...]] = [
        (cell.protocol, titles[cell.model], cell.setting, *faithful_words(metric), *sides.values())
        for cell in summary.cells
        for metric, sides in cell.faithful.items()
    ]
    if not rows:
        return ()
    columns = (
        *cell_columns(summary.plan),
        Column("metric", "score"),
        Column("better", "better"),
        Column("float", "float", "interval"),
        Column("quantized", "quantized", "interval"),
        Column("change", "change", "change"),
    )
    subject = "How faithful each network's own map is to it, mean [95 % interval]; change: quantized less float"
    return (ReportTable("faithfulness", subject, columns, tuple(rows)),)
