"""A study's report: which files it has, and writing them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from quantviz.api.files import check_folder, check_writable, make_folder, write_file
from quantviz.specs import Phase, Progress, UsageError, no_progress
from quantviz.study.specs.summary import StudySummary
from quantviz.study.summary import report_summary, summary


def write_report(
    study: Path,
    html: Path | None = None,
    figures: Path | None = None,
    tables: Path | None = None,
    bundle: Path | None = None,
    progress: Progress = no_progress,
) -> Iterator[tuple[Path, int]]:
    """Write a finished study's report, and yield each file's path and size in bytes as it is written.

    The same study gives the same bytes.

    Args:
        study: its folder.
        html: file for one page with everything.
        figures: folder for the figures for paper, as SVG and PNG.
        tables: folder for the tables as CSV and LaTeX, and summary.json.
        bundle: .zip file for everything that `quantviz replay` checks.
        progress: told what is being done.

    Raises:
        UsageError: nothing is to be written, a path cannot be written, or there is no finished study.
        StoreError: the study is damaged.
        QuantvizError: the disk refuses.
    """
    if not any((html, figures, tables, bundle)):
        raise UsageError("Nothing is to be written; give one or more of html, figures, tables, bundle.")
    for path in (html, bundle):
        check_writable(path)
    for folder in (figures, tables):
        check_folder(folder)
    summed = summary(study, progress)
    for path, data in _files(study, summed, html, figures, tables, bundle):
        progress(f"Writing {path}", None, Phase.WRITING)
        write_file(path, data)
        yield path, len(data)


def _files(
    study: Path,
    summed: StudySummary,
    html: Path | None,
    figures: Path | None,
    tables: Path | None,
    bundle: Path | None,
) -> Iterator[tuple[Path, bytes]]:
    """Yield each file to write, made when it is its turn."""
    for folder in (figures, tables):
        if folder is not None:
            make_folder(folder)
    if bundle is not None:
        from quantviz.study.bundle import bundle_bytes

        yield bundle, bundle_bytes(study, summed)
    if tables is not None:
        yield from ((tables / name, data) for name, data in _table_files(summed))
    if html is None and figures is None:
        return
    from quantviz.api.report_figures import figure_files, report_figures
    from quantviz.study.table import study_table

    table = study_table(study)
    if figures is not None:
        yield from ((figures / name, data) for name, data in figure_files(summed, table))
    if html is not None:
        from plotly.offline import get_plotlyjs

        from quantviz.report.html import study_html

        yield html, study_html(summed, report_figures(summed, table), get_plotlyjs())


def _table_files(summed: StudySummary) -> Iterator[tuple[str, bytes]]:
    from quantviz.report.latex import latex_bytes
    from quantviz.report.tables import csv_bytes
    from quantviz.report.wide import all_tables

    for table in all_tables(summed):
        yield f"{table.name}.csv", csv_bytes(table)
        yield f"{table.name}.tex", latex_bytes(table, summed.plan.protocols)
    yield "summary.json", (json.dumps(report_summary(summed), indent=2, allow_nan=False) + "\n").encode()
