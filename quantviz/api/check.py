"""Checking limits from Python, and writing what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantviz.api.bench import workbench
from quantviz.api.files import check_writable, make_folder, write_file
from quantviz.api.page import Page, PageTable
from quantviz.comparison.workbench import Workbench
from quantviz.guard.baseline import baseline_bytes
from quantviz.guard.draft import draft_text
from quantviz.guard.file import CheckFile, read_check
from quantviz.guard.record import TABLE_HEAD, headline, junit_xml, report_data, rule, table_rows
from quantviz.guard.record import markdown as markdown_bytes
from quantviz.guard.run import Checked, measure_study, run_check
from quantviz.guard.specs import CheckReport, Outcome, Verdict
from quantviz.specs import Progress, QuantvizError, UsageError, no_progress
from quantviz.store import TensorStore
from quantviz.study.pictures import picture_grid, pictures_folder
from quantviz.study.sweep.executor import Executor


@dataclass(frozen=True, repr=False, eq=False)
class CheckResult:
    """What checking limits came to; from ``quantviz.check``. A notebook shows it as a table.

    Attributes:
        report: everything at once, a frozen value: of each limit its outcome, the value measured, its confidence
            bounds, and how many pictures would decide it.
    """

    report: CheckReport

    @property
    def outcome(self) -> Outcome:
        """``"holds"``, ``"broken"`` or ``"undecided"``."""
        return self.report.outcome

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """A verdict for each limit and quantized network."""
        return self.report.verdicts

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON-able data, as ``quantviz check --json`` writes it."""
        return report_data(self.report)

    def __repr__(self) -> str:
        return self._page().text()

    def _repr_html_(self) -> str:
        return self._page().html()

    def _page(self) -> Page:
        table = PageTable(("outcome", *TABLE_HEAD[1:-1], "note"), table_rows(self.report), left=(0, 1, 2, 7))
        return Page(headline(self.report), rule(self.report), tables=(table,))


def check(
    path: str | Path,
    /,
    *,
    baseline: str | Path | None = None,
    write_baseline: str | Path | None = None,
    junit: str | Path | None = None,
    markdown: str | Path | None = None,
    workers: int = 1,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Check the limits of a check file, each by its confidence bound, as the command `quantviz check` does.

    Args:
        path: of the check file (.toml).
        baseline: file of the numbers that a change is judged against, in place of the check file's.
        write_baseline: file to write this release's own numbers to.
        junit: file to write JUnit XML to.
        markdown: file to write a summary to; the worst pictures' maps lie beside it as PNG.
        workers: processes that make the study, where the check makes its own.
        cache: cache folder; ``QUANTVIZ_CACHE`` or the default one if not given.
        progress: called with what is being done; whatever it raises ends the call.

    Returns:
        The result; its ``outcome`` is ``"holds"``, ``"broken"`` or ``"undecided"``.

    Raises:
        UsageError: the check file is wrong, or nothing can be judged by one of its limits.
        QuantvizError: a network cannot be made; the disk refuses.

    Example:
        >>> import quantviz as qv
        >>> qv.check("check.toml").outcome.value  # doctest: +SKIP
        'holds'
    """
    outputs = [None if file is None else Path(file) for file in (write_baseline, junit, markdown)]
    for file in outputs:
        check_writable(file)
    checked, _ = run_and_write(
        read_check(Path(path)),
        workbench(cache).store,
        progress or no_progress,
        baseline=None if baseline is None else Path(baseline),
        write_baseline=outputs[0],
        junit=outputs[1],
        markdown=outputs[2],
        workers=workers,
    )
    return CheckResult(checked.report)


def run_and_write(
    file: CheckFile,
    store: TensorStore,
    progress: Progress = no_progress,
    *,
    baseline: Path | None = None,
    write_baseline: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
    workers: int = 1,
) -> tuple[Checked, dict[str, Any]]:
    """Run a check and write its files; return it, and its JSON-able data.

    Args:
        file: the check file.
        store: where ranges and learned weights are kept.
        progress: reports what is being done.
        baseline: as in ``check``, and so the others.
        write_baseline: file.
        junit: file.
        markdown: file.
        workers: processes.

    Raises:
        as ``check``.
    """
    sized = write_baseline is not None
    crew = Executor("local", workers)
    checked = run_check(file, store, progress, baseline=baseline, sized=sized, executor=crew)
    if write_baseline is not None:
        write_file(write_baseline, baseline_bytes(checked.cells))
    if junit is not None:
        write_file(junit, junit_xml(checked.report))
    if markdown is not None:
        pictures, note = _draw_worst(checked, store, markdown, progress)
        data = markdown_bytes(checked.report, pictures)
        write_file(markdown, data + (f"\n{note}\n".encode() if note else b""))
    return checked, report_data(checked.report)


def write_draft(
    study: Path,
    path: Path,
    models: Sequence[str],
    variants: Sequence[str],
    store: TensorStore,
    progress: Progress = no_progress,
) -> None:
    """Write a check file from a study.

    Args:
        study: folder of a finished study.
        path: of the new file.
        models: names of the networks to check; all of the study's if empty.
        variants: labels of the variants to check; all of the study's if empty.
        store: where sizes are kept.
        progress: reports what is being done.

    Raises:
        UsageError: the file exists, there is no such study or network, or it has too few pictures.
    """
    if path.exists():
        raise UsageError(f"{str(path)!r} exists; name another file, or remove it first.")
    check_writable(path)
    table, cells = measure_study(study, models, variants, store, progress)
    write_file(path, draft_text(study, table.plan, cells, path))


def _draw_worst(checked: Checked, store: TensorStore, markdown: Path, progress: Progress) -> tuple[dict[str, str], str]:
    """Draw the maps of the worst pictures beside a summary; return their files, and why there are none."""
    from quantviz.figures.print.maps import paper_png  # here, because matplotlib takes a second to import

    plan, report, files = checked.plan, checked.report, dict[str, str]()
    if not report.worst:
        return files, ""
    bench, folder = Workbench(store), markdown.with_name(f"{markdown.stem}-maps")
    try:
        pictures = pictures_folder(plan)
        for place, worst in enumerate(report.worst, start=1):
            grid = picture_grid(bench, plan, worst.index, pictures, [worst.cell], progress)
            make_folder(folder)
            name = f"{place:02d}-{worst.index}-{worst.cell[1].replace(' ', '_').replace('/', '_')}.png"
            write_file(folder / name, paper_png(grid[0][0], dpi=150))
            files[f"{worst.index} {' '.join(worst.cell)}"] = f"{folder.name}/{name}"
    except UsageError as error:  # the pictures or weights of the study are not on this machine
        return files, f"Their maps are not drawn: {error}"
    except QuantvizError as error:
        return files, f"A map could not be drawn: {error}"
    return files, ""
