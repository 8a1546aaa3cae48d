"""What one map takes on this machine, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from quantviz.report.tables import Column, ReportTable, cell_columns, model_title
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import MapTimes
from quantviz.study.times import PATHS, this_machine


def times_table(plan: StudyPlan, measured: Sequence[MapTimes]) -> ReportTable:
    """Return the times as a table; ratios are of the first way's time over another's."""
    titles = {model.name: model_title(model) for model in plan.models}
    columns = (
        *cell_columns(plan),
        Column("threads", "threads", "count"),
        *(Column(name, words, "tenths") for name, words in PATHS.items()),
        Column("faster", "simulated / deployed", "tenths"),
    )
    protocols = {variant.label: variant.protocol for variant in plan.deployed}
    rows = []
    for one in measured:
        taken = [one.milliseconds.get(name) for name in PATHS]
        ratio = one.milliseconds["simulated"] / one.milliseconds["deployed"]
        rows.append((protocols[one.setting], titles[one.model], one.setting, one.threads, *taken, ratio))
    machines = ", ".join(dict.fromkeys(one.machine for one in measured)) or this_machine()
    return ReportTable("times", f"Milliseconds that one map takes on this machine ({machines})", columns, tuple(rows))
