"""The Study page's tables, what can be taken away of them, and how the study was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pandas as pd
import streamlit as st

from quantviz.report.faithful import faithful_tables
from quantviz.report.properties import property_tables
from quantviz.report.tables import (
    Column,
    ReportTable,
    Value,
    comparison_title,
    metric_title,
    shown,
    study_tables,
)
from quantviz.specs import DEPLOYED
from quantviz.study.specs.summary import Estimate, Rate, StudyCell, StudySummary
from quantviz.study.summary import report_summary, summary_table
from quantviz.ui.choices import chosen_one, segments
from quantviz.ui.quantization import scheme_words
from quantviz.ui.study import Opened

_DRIFT: Final = "drift, 1 − CC"
_RATES: Final = {"top-1 accuracy": "accuracy", "top-1 class changed": "flips"}


def show_tables(opened: Opened) -> None:
    """Show any number of the study as a pivot, networks down and bit-widths across, and the report's tables."""
    summary = opened.view.summary
    number = chosen_one("Number", list(_numbers(summary)), "pivot", _DRIFT)
    st.dataframe(_pivot(summary, number), height="content")
    st.caption("Means over the pictures and parts of them, with 95 % intervals in brackets.")
    with st.expander("The tables of the report"):
        protocol = segments("Protocol", summary.plan.protocols, "summed")
        for table in (*study_tables(summary), *property_tables(summary), *faithful_tables(summary)):
            if table.name not in ("tests", DEPLOYED):
                show_table(table, protocol)
    _downloads(opened)
    _tests(opened.whole)


def show_table(table: ReportTable, protocol: str) -> None:
    """Show the rows of a protocol, under the table's title."""
    st.caption(table.title)
    st.dataframe(_frame(table.columns[1:], table.of_protocol(protocol)), hide_index=True, height="content")


def show_made(opened: Opened) -> None:
    """Show what decided the study, and the command that makes it again."""
    plan = opened.plan
    st.code(plan.command or "(no command was recorded)", language="bash", wrap_lines=True)
    st.caption(f"Folder {opened.path}; digest of the study {plan.digest}.")
    rows = [
        {
            "network": model.name,
            "weights are": "trained" if model.weights.trained else "UNTRAINED",
            "weights": model.weights.name,
            "from": model.weights.source,
            "target layer": model.layer,
            "sha256 of the weights": model.weights.sha256,
        }
        for model in plan.models
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    chosen = "all" if plan.limit is None else f"at most {plan.limit:,}"
    drawn = "evenly spaced" if plan.seed is None else f"drawn at random by seed {plan.seed}"
    labelled = sum(image.label is not None for image in plan.images)
    scheme = f"; {scheme_words(plan.quants[0])}" if plan.quants else ""
    lines = [
        f"**Pictures**: {len(plan.images):,} of `{plan.dataset}` ({chosen}, {drawn}), {labelled:,} with a known class",
        f"**{plan.setting_word.capitalize()}s**: {', '.join(plan.settings)}{scheme}",
        f"**Protocols**: {', '.join(plan.protocols)}",
        f"**Calibration**: {plan.calibration.images} inputs from {plan.calibration.source}, sha256 "
        f"`{plan.calibration.sha256}`",
        f"**Maps**: {plan.cam.method}; the saliency is predicted (`{plan.saliency}`)",
        f"**Libraries**: {', '.join(f'{name} {number}' for name, number in plan.versions.items())}",
    ]
    st.markdown("\n".join(f"- {line}" for line in lines))


def _numbers(summary: StudySummary) -> dict[str, tuple[str, str]]:
    """Return the names of what a pivot can show -> (comparison, metric), or ("", field of a cell)."""
    rates = {
        words: ("", field)
        for words, field in _RATES.items()
        if any(getattr(cell, field) is not None for cell in summary.cells)
    }
    scores = {
        f"{metric_title(metric)}, {comparison_title(comparison)}": (comparison, metric)
        for comparison, metrics in summary.cells[0].scores.items()
        for metric in metrics
    }
    return {_DRIFT: ("", "drift"), **rates, **scores}


def _pivot(summary: StudySummary, number: str) -> pd.DataFrame:
    """Return one number of every cell: networks and protocols down, bit-widths across."""
    comparison, name = _numbers(summary)[number]

    def value(cell: StudyCell) -> Estimate | Rate | None:
        found: Estimate | Rate | None = cell.scores.get(comparison, {}).get(name) if comparison else getattr(cell, name)
        return found

    several = len(summary.plan.protocols) > 1
    rows: dict[str, dict[str, str]] = {}
    for cell in summary.cells:
        row = f"{cell.model}, {cell.protocol}" if several else cell.model
        found = value(cell)
        kind = Column(name, number, "rate" if isinstance(found, Rate) else "interval")
        rows.setdefault(row, {})[cell.setting] = shown(kind, found)
    frame = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(summary.plan.settings)).fillna("–")
    return frame.rename_axis("network")


def _frame(columns: Sequence[Column], rows: Sequence[Sequence[Value]]) -> pd.DataFrame:
    """Return rows of a table as a reader sees them, without what another column says already."""
    texts = {
        column.title: [shown(column, row[place]) for row in rows]
        for place, column in enumerate(columns)
        if not (column.key == "setting" and columns[place - 1].key == "comparison")
    }
    return pd.DataFrame(texts)


def _downloads(opened: Opened) -> None:
    summary = opened.view.summary
    stem = f"quantviz-study-{Path(opened.name).name}"

    def as_json() -> str:
        numbers = report_summary(summary)
        numbers["plan"]["digest"] = opened.plan.digest
        return json.dumps({"filters": asdict(opened.view.filters)} | numbers, indent=2, allow_nan=False)

    left, right = st.columns(2)
    for place, words, data, suffix, kind in (
        (left, "Numbers (CSV)", lambda: summary_table(summary), "csv", "text/csv"),
        (right, "Numbers (JSON)", as_json, "json", "application/json"),
    ):
        place.download_button(
            words,
            data,
            f"{stem}.{suffix}",
            kind,
            key=f"download_{suffix}",
            on_click="ignore",
            icon=":material/download:",
            width="stretch",
        )


def _tests(whole: StudySummary) -> None:
    """Show the tests, which are of the whole study: their correction is over all of them."""
    with st.expander("Tests of the whole study"):
        table = next(entry for entry in study_tables(whole) if entry.name == "tests")
        st.caption(
            f"{table.title}. Wilcoxon's signed-rank test, Holm's correction over the whole study, and whether the mean "
            "change lies within the margin."
        )
        st.dataframe(_frame(table.columns, table.rows), hide_index=True, height="content")
        for reason, count in (*whole.reasons.items(), *whole.truth_reasons.items()):
            st.markdown(f"- {count:,} pictures: {reason}")
