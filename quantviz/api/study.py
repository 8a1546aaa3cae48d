"""A study on disk, as Python has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantviz.api.page import Page, PageTable
from quantviz.specs import Progress, UsageError, no_progress
from quantviz.study.folder import StudyFolder
from quantviz.study.shipped import shipped_studies
from quantviz.study.specs.plan import StudyModel, StudyPlan
from quantviz.study.specs.summary import StudySummary

if TYPE_CHECKING:
    import pandas as pd

_HEAD = ("protocol", "model", "bits", "pictures", "CC v float", "top-1 changed")


class Study:
    """A study that `quantviz sweep` made; from ``quantviz.open_study``.

    Args:
        path: its folder.

    Raises:
        UsageError: there is no study.
        StoreError: its plan cannot be read.

    Example:
        >>> import quantviz as qv
        >>> study = qv.open_study("imagenet-200")
        >>> len(study.plan.images)
        200
        >>> study.to_pandas().groupby(["model", "setting"])["quantized_v_float_cc"].mean().idxmin()[1]
        'W4A4'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        plan = StudyFolder(path).plan() if path.exists() else None
        if plan is None:
            known = ", ".join(shipped_studies())
            raise UsageError(
                f"There is no study at {str(path)!r}; make one by quantviz sweep, or open one of those that come with "
                f"quantviz ({known})."
            )
        self._plan = plan
        self._summary: StudySummary | None = None

    @property
    def plan(self) -> StudyPlan:
        """What was planned: ``models``, ``quants``, ``protocols``, ``images`` and everything else that decides it."""
        return self._plan

    @property
    def finished(self) -> bool:
        """True when every row is there."""
        return StudyFolder(self.path).finished(self._plan)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame: one a picture, model, bit-width and protocol.

        The columns are those of ``results.parquet`` (model, setting, protocol, the classes and probabilities, and each
        comparison's scores, ``quantized_v_float_cc`` say), with the picture's path, ``image``, as the first one.

        Raises:
            UsageError: the study is not finished.
            StoreError: it is damaged.
        """
        plan, results = StudyFolder(self.path).results()
        frame = results.frame()
        frame.insert(0, "image", [plan.images[index].path for index in frame["index"]])
        return frame

    def summary(self, progress: Progress | None = None) -> StudySummary:
        """Return the study in numbers: means with intervals, tests, rates and drift. The cache keeps it.

        Args:
            progress: called with what is being done.

        Raises:
            UsageError: the study is not finished.
            StoreError: it is damaged.
        """
        if self._summary is None:
            from quantviz.api.bench import workbench
            from quantviz.study.summary import summary

            self._summary = summary(self.path, progress or no_progress, store=workbench(None).store)
        return self._summary

    def report(
        self,
        *,
        html: str | Path | None = None,
        figures: str | Path | None = None,
        tables: str | Path | None = None,
        bundle: str | Path | None = None,
        progress: Progress | None = None,
    ) -> list[Path]:
        """Write the report, as `quantviz report` does; the same study gives the same bytes.

        Args:
            html: file for one page with everything; it needs no network.
            figures: folder for the figures for paper, as SVG and PNG.
            tables: folder for the tables as CSV and LaTeX, and summary.json.
            bundle: .zip file for everything that `quantviz replay` checks.
            progress: called with what is being done.

        Returns:
            The files.

        Raises:
            UsageError: nothing is to be written, a path cannot be written, or the study is not finished.
            StoreError: the study is damaged.
            QuantvizError: the disk refuses.
        """
        from quantviz.api.report import write_report

        page, drawn, numbers, evidence = (
            None if path is None else Path(path) for path in (html, figures, tables, bundle)
        )
        written = write_report(self.path, page, drawn, numbers, evidence, progress or no_progress)
        return [path for path, _ in written]

    def __repr__(self) -> str:
        return self._page(self._summary).text()

    def _repr_html_(self) -> str:
        return self._page(self.summary() if self.finished else None).html()

    def _page(self, summary: StudySummary | None) -> Page:
        plan = self._plan
        untrained = ", ".join(model.name for model in plan.models if not model.weights.trained)
        warning = f"UNTRAINED (random) weights, a sanity control: {untrained}" if untrained else ""
        made = (
            f"{len(plan.images):,} pictures of {Path(plan.dataset).name or 'a data set'}",
            *(", ".join(names) for names in (map(_name, plan.models), plan.settings, plan.protocols)),
            plan.cam.method,
        )
        name = f"Study {self.path.name}"
        if summary is None:
            state = "" if self.finished else " is not finished"
            return Page(f"{name}{state}.", " · ".join(made), warning=warning)
        from quantviz.report.tables import headline

        words = " ".join([f"{name}.", *headline(summary)])
        return Page(words, " · ".join(made), tables=(_table(summary),), warning=warning)


def _name(model: StudyModel) -> str:
    return model.name


def _table(summary: StudySummary) -> PageTable:
    rows = []
    for cell in summary.cells:
        cc, flips = cell.scores["quantized_v_float"]["cc"].mean, cell.flips.value
        numbers = ("-" if cc is None else f"{cc:.4f}", "-" if flips is None else f"{flips:.1%}")
        rows.append((cell.protocol, cell.model, cell.setting, f"{cell.images:,}", *numbers))
    return PageTable(_HEAD, rows, left=(0, 1, 2))
