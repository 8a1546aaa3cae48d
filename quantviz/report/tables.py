"""A study's summary as tables that can be drawn anywhere, and as a few plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from quantviz.specs import DEPLOYED
from quantviz.specs import csv_bytes as rows_to_csv
from quantviz.study.specs.plan import STUDY_METRICS, StudyModel, StudyPlan
from quantviz.study.specs.summary import Estimate, Rate, StudyCell, StudySummary
from quantviz.study.summary import title as title_of

Number = Literal["count", "number", "near_1", "near_0", "tenths", "p"]
ColumnKind = Literal["text", Number, "spread", "interval", "interval_near_0", "change", "part", "rate"]
Value = str | int | float | Estimate | Rate | None

GROUPS: Final = {
    ("flipped", "flipped"): "class changed",
    ("flipped", "kept"): "class kept",
    ("confidence", "low"): "unsure third",
    ("confidence", "middle"): "middle third",
    ("confidence", "high"): "sure third",
    ("correct", "correct"): "float right",
    ("correct", "wrong"): "float wrong",
}
"""Parts of the pictures that have a drift of their own."""

_WITH_INTERVAL = ("interval", "interval_near_0", "change", "rate")
_PREFERRED = "W8A8"
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        key: its name in a CSV file.
        title: its heading.
        kind: how its values are shown: ``"text"``; ``"count"``; ``"p"``; ``"number"``, and with other digits
            ``"near_1"``, ``"near_0"`` and ``"tenths"``; an ``Estimate`` as mean and standard deviation (``"spread"``),
            as mean and 95 % interval (``"interval"`` and ``"interval_near_0"``; ``"change"`` with its sign) or as mean
            and pictures (``"part"``); a ``Rate`` as percentage and interval.
        detail: it is in the CSV file only.
    """

    key: str
    title: str
    kind: ColumnKind = "text"
    detail: bool = False


def cell_columns(plan: StudyPlan) -> tuple[Column, ...]:
    """Return what names a cell of a study, the first columns of most tables."""
    return Column("protocol", "protocol"), Column("model", "model"), Column("setting", _setting_title(plan))


def _setting_title(plan: StudyPlan) -> str:
    return "bits" if plan.setting_word == "bit-width" else plan.setting_word


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of a summary.

    Attributes:
        name: of its files.
        subject: what it shows, in a sentence without a full stop.
        columns: the first is the protocol.
        rows: a value for each column; None where there is none.
    """

    name: str
    subject: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    @property
    def title(self) -> str:
        """What the table shows and how its intervals were made, in a sentence without a full stop."""
        methods = dict.fromkeys(
            value.method
            for row in self.rows
            for column, value in zip(self.columns, row, strict=True)
            if column.kind in _WITH_INTERVAL and isinstance(value, Estimate | Rate) and value.method
        )
        return f"{self.subject}; 95 % intervals: {' or '.join(methods)}" if methods else self.subject

    def of_protocol(self, protocol: str) -> tuple[tuple[Value, ...], ...]:
        """Return the rows of a protocol, without it."""
        return tuple(row[1:] for row in self.rows if row[0] == protocol)

    @property
    def shown_columns(self) -> tuple[Column, ...]:
        """The columns that a reader sees under the heading of a protocol."""
        return tuple(column for column in self.columns[1:] if not column.detail)

    def shown_rows(self, protocol: str) -> tuple[tuple[Value, ...], ...]:
        """Return the values of these columns in the rows of a protocol."""
        places = [place for place, column in enumerate(self.columns[1:]) if not column.detail]
        return tuple(tuple(row[place] for place in places) for row in self.of_protocol(protocol))


def study_tables(summary: StudySummary) -> tuple[ReportTable, ...]:
    """Return the tables of a summary: table1, tests, rates, drift; deployed where the deployed protocol was swept.

    ``table1`` has the layout of the paper's Table 1: comparison and metric down, models across. Models with random
    weights are marked.
    """
    tables = _table_1(summary), _tests(summary), _rates(summary), _drift(summary), _deployed(summary)
    return tuple(table for table in tables if table.name != DEPLOYED or table.rows)


def csv_bytes(table: ReportTable) -> bytes:
    """Return a table as CSV with every digit.

    An estimate has the columns n, mean, sd, low and high (95 % interval) and method (how the interval was made), a rate
    n, count, value (its part), low, high and method, each named after its column. An empty field is a number that does
    not exist.
    """
    parts = [_fields(column) for column in table.columns]
    heads = zip(table.columns, parts, strict=True)
    names = [f"{column.key}_{part}" if part else column.key for column, of_column in heads for part in of_column]
    rows: list[list[Any]] = [names]
    for row in table.rows:
        cells = [_numbers(value, of_column) for value, of_column in zip(row, parts, strict=True)]
        rows.append([cell for group in cells for cell in group])
    return rows_to_csv(rows)


def shown(column: Column, value: Value) -> str:
    """Return a value as a reader sees it; a dash where there is none."""
    if isinstance(value, Rate):
        return _interval(value.value, value.low, value.high, ".1%").replace("%", " %")
    if isinstance(value, Estimate):
        if value.mean is None:
            return _NONE
        if column.kind == "spread":
            return f"{_signed(value.mean, '.3f')} ± {_NONE if value.sd is None else format(value.sd, '.3f')}"
        if column.kind == "part":
            return f"{value.mean:.4f} ({value.n})"
        form = {"change": "+.4f", "interval_near_0": "#.2g"}.get(column.kind, ".4f")
        return _interval(value.mean, value.low, value.high, form)
    if value is None:
        return _NONE
    if column.kind == "p":
        return "<0.001" if float(value) < 0.001 else f"{float(value):.3f}"
    forms = {"near_1": ".4f", "near_0": "#.2g", "tenths": ".1f"}
    return _signed(value, forms.get(column.kind, ".3f")) if isinstance(value, float) else str(value)


def headline(summary: StudySummary) -> tuple[str, ...]:
    """Return the main result of a study, in two plain sentences or so for each protocol.

    They give the agreement of quantized and float maps, as the mean CC of the models at W8A8 (or the first bit-width
    where the study lacks it), how many top-1 classes change there, and where the agreement is lowest; of the deployed
    protocol also how its networks agree with the simulated ones.
    """
    sentences = []
    for protocol in summary.plan.protocols:
        labels = [cell.setting for cell in summary.cells if cell.protocol == protocol]
        sentences.append(" ".join(_headline(summary, protocol, _PREFERRED if _PREFERRED in labels else labels[0])))
    return tuple(sentences)


def model_title(model: StudyModel) -> str:
    """Return a model's name, marked where its weights are random."""
    return model.name if model.weights.trained else f"{model.name} (UNTRAINED)"


def comparison_title(comparison: str, setting: str = "quantized") -> str:
    """Return what is compared in words: ``"W8A8 v saliency"``."""
    return comparison.replace("_v_", " v ").replace("_", " ").replace("quantized", setting)


def metric_title(metric: str) -> str:
    """Return a metric's name as readers write it: ``"CC"``, ``"AUC-Judd"``."""
    return title_of(metric)


def _table_1(summary: StudySummary) -> ReportTable:
    plan = summary.plan
    places = {(cell.protocol, cell.model, cell.setting): cell for cell in summary.cells}
    rows: list[tuple[Value, ...]] = []
    for protocol in plan.protocols:
        first = next(cell for cell in summary.cells if cell.protocol == protocol)
        settings = list(dict.fromkeys(cell.setting for cell in summary.cells if cell.protocol == protocol))
        for comparison, metrics in first.scores.items():
            # What no quantized map takes part in is the same at every bit-width, and is shown once.
            for setting in settings if "quantized" in comparison else settings[:1]:
                cells = [places.get((protocol, model.name, setting)) for model in plan.models]
                title = comparison_title(comparison, setting)
                bits = setting if "quantized" in comparison else ""
                for metric in metrics:
                    estimates = [cell.scores.get(comparison, {}).get(metric) if cell else None for cell in cells]
                    rows.append((protocol, title, bits, metric_title(metric), *estimates))
    columns = (
        Column("protocol", "protocol"),
        Column("comparison", "comparison"),
        Column("setting", _setting_title(plan), detail=True),
        Column("metric", "score"),
        *(Column(model.name, model_title(model), "spread") for model in plan.models),
    )
    return ReportTable(
        "table1", "Agreement of the maps, mean ± standard deviation over the pictures", columns, tuple(rows)
    )


def _tests(summary: StudySummary) -> ReportTable:
    rows: list[tuple[Value, ...]] = []
    for cell, name in _cells(summary):
        for reference, tests in (("saliency", cell.tests), ("ground truth", cell.truth_tests)):
            for metric, test in tests.items():
                equivalent = "" if test.equivalent is None else ("yes" if test.equivalent else "no")
                numbers = (test.change, test.p, test.p_adjusted, test.rank_biserial, test.margin, equivalent)
                rows.append((cell.protocol, name, cell.setting, reference, metric_title(metric), *numbers))
    alone = summary.plan.truth is None
    columns = (
        *cell_columns(summary.plan),
        Column("reference", "with", detail=alone),
        Column("metric", "score"),
        Column("change", "mean change [95 % interval]", "change"),
        Column("p", "p (Wilcoxon)", "p"),
        Column("p_holm", "p (Holm)", "p"),
        Column("rank_biserial", "rank-biserial", "number"),
        Column("margin", "margin", "number"),
        Column("equivalent", "within the margin"),
    )
    what = "the saliency" if alone else "the saliency and the ground truth"
    return ReportTable("tests", f"Agreement with {what}, quantized − float, picture by picture", columns, tuple(rows))


def _rates(summary: StudySummary) -> ReportTable:
    rows = tuple(
        (
            *(cell.protocol, title, cell.setting, cell.flips, cell.float_accuracy, cell.accuracy),
            *(cell.errors, *cell.degenerate.values()),
        )
        for cell, title in _cells(summary)
    )
    columns = (
        *cell_columns(summary.plan),
        Column("flips", "top-1 class changed", "rate"),
        Column("float_top1", "float top-1", "rate"),
        Column("top1", "quantized top-1", "rate"),
        Column("errors", "errors", "count"),
        *(Column(f"no_{name}_map", f"no {name} map", "count") for name in summary.cells[0].degenerate),
    )
    subject = "Top-1 classes, pictures without a result, and maps without evidence (not scored)"
    return ReportTable("rates", subject, columns, rows)


def _drift(summary: StudySummary) -> ReportTable:
    rows: list[tuple[Value, ...]] = []
    for cell, title in _cells(summary):
        parts = {(split.by, split.group): split.drift for split in cell.splits}
        low, high = cell.terciles or (None, None)
        groups = [parts.get(group) for group in GROUPS]
        rows.append((cell.protocol, title, cell.setting, cell.drift, *groups, low, high))
    columns = (
        *cell_columns(summary.plan),
        Column("all", "all [95 % interval]", "interval"),
        *(Column("_".join(group), title, "part") for group, title in GROUPS.items()),
        Column("unsure_up_to", "unsure: p ≤", "number", detail=True),
        Column("sure_above", "sure: p >", "number", detail=True),
    )
    title = "Drift, 1 − CC of the quantized and the float map: mean (pictures); thirds by the float top-1 probability p"
    return ReportTable("drift", title, columns, tuple(rows))


def _deployed(summary: StudySummary) -> ReportTable:
    rows: list[tuple[Value, ...]] = []
    for cell, title in _cells(summary):
        if (check := cell.simulation) is not None:
            numbers = [value for name in STUDY_METRICS for value in (check.scores[name], check.worst[name])]
            rows.append((cell.protocol, title, cell.setting, *numbers, check.flips))
    columns = [*cell_columns(summary.plan)]
    for name in STUDY_METRICS:
        title = metric_title(name)
        if name == "kld":  # of which the greatest is the worst
            columns += [
                Column(name, title, "interval_near_0"),
                Column(f"greatest_{name}", f"greatest {title}", "near_0"),
            ]
        else:
            columns += [Column(name, title, "interval"), Column(f"least_{name}", f"least {title}", "near_1")]
    columns.append(Column("flips", "top-1 differs", "rate"))
    title = (
        "Deployed int8 against its simulation: agreement of the maps, mean [95 % interval] and worst picture; classes"
    )
    return ReportTable(DEPLOYED, title, tuple(columns), tuple(rows))


def _cells(summary: StudySummary) -> Iterator[tuple[StudyCell, str]]:
    titles = {model.name: model_title(model) for model in summary.plan.models}
    return ((cell, titles[cell.model]) for cell in summary.cells)


def _headline(summary: StudySummary, protocol: str, setting: str) -> Iterator[str]:
    cells = [cell for cell in summary.cells if cell.protocol == protocol and _cc(cell).mean is not None]
    here = sorted((cell for cell in cells if cell.setting == setting), key=lambda cell: _cc(cell).mean or 0.0)
    if not here:
        yield f"Under the {protocol} protocol at {setting} no picture has a pair of maps that carry evidence."
        return
    ends = [f"{_cc(cell).mean:.3f}" for cell in (here[0], here[-1])]
    means = [f"{end} ({_whose(summary.plan, cell)})" for end, cell in zip(ends, (here[0], here[-1]), strict=True)]
    if len(here) > 1 and ends[0] == ends[1] and all(_cc(cell).n == cell.images for cell in here):
        means = [f"{ends[0]} for every model"]
    flips = sorted(cell.flips.value for cell in here if cell.flips.value is not None)
    changed = [f"{part:.1%}".replace("%", "\N{NO-BREAK SPACE}%") for part in (*flips[:1], *flips[-1:])]
    more = f", and {_range(changed)} of the top-1 classes change" if changed else ""
    yield (
        f"Under the {protocol} protocol at {setting}, quantized and float maps agree with a mean CC of "
        f"{_range(means)}{more}."
    )
    yield from _simulation_words(here)
    least = min(cells, key=lambda cell: _cc(cell).mean or 0.0)
    if least.setting != setting:
        yield f"The agreement is lowest at {least.setting}: {_cc(least).mean:.3f} ({_whose(summary.plan, least)})."


def _simulation_words(cells: Sequence[StudyCell]) -> Iterator[str]:
    """Say how deployed networks agree with the simulated ones; nothing under another protocol."""
    checks = [cell.simulation for cell in cells if cell.simulation is not None]
    means = sorted(mean for check in checks if (mean := check.scores["cc"].mean) is not None)
    least = [worst for check in checks if (worst := check.worst["cc"]) is not None]
    if means and least:
        counts = sum(check.flips.count for check in checks), sum(check.flips.n for check in checks)
        changed = f"{counts[0] / max(counts[1], 1):.1%}".replace("%", "\N{NO-BREAK SPACE}%")
        yield (
            f"Deployed and simulated maps agree with a mean CC of {_range([_near_1(means[0]), _near_1(means[-1])])} "
            f"({_near_1(min(least))} on the worst picture), and {changed} of their top-1 classes differ."
        )


def _near_1(cc: float) -> str:
    """Return a correlation with four decimals, never rounded to a claim of perfect agreement."""
    return "more than 0.9999" if 0.99995 <= cc < 1 else f"{cc:.4f}"


def _cc(cell: StudyCell) -> Estimate:
    return cell.scores["quantized_v_float"]["cc"]


def _whose(plan: StudyPlan, cell: StudyCell) -> str:
    """Return a cell's model, and how many pictures its mean is over where some have no pair of maps."""
    name = next(model_title(model) for model in plan.models if model.name == cell.model)
    count = _cc(cell).n
    return name if count == cell.images else f"{name}, {count:,} of {cell.images:,} pictures"


def _range(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"


def _fields(column: Column) -> tuple[str, ...]:
    if column.kind in ("spread", "interval", "interval_near_0", "change", "part"):
        return ("n", "mean", "sd", "low", "high", "method")
    return ("n", "count", "value", "low", "high", "method") if column.kind == "rate" else ("",)


def _numbers(value: Value, names: Sequence[str]) -> list[str | int | float | None]:
    if isinstance(value, Estimate | Rate):
        return [getattr(value, name) for name in names]
    return [value] * len(names)


def _interval(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None:
        return _NONE
    text = _signed(value, form)
    return text if low is None or high is None else f"{text} [{_signed(low, form)}, {_signed(high, form)}]"


def _signed(value: float | str, form: str) -> str:
    """Return a number with a minus sign in place of a hyphen, and no sign before a zero."""
    text = format(value, form)
    return text.lstrip("+-") if not text.strip("+-0.%") else text.replace("-", "−")
