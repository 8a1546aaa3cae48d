"""The Study page's parts: the choice of a study and of what to look at in it, its tables and its figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import streamlit as st

from quantviz import figures
from quantviz.report.tables import (
    Column,
    ReportTable,
    Value,
    comparison_title,
    headline,
    metric_title,
    shown,
    study_tables,
)
from quantviz.specs import DEPLOYED, GIVEN
from quantviz.study.filters import RESAMPLES, Filters, StudyView, ranking, study_view
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import StudySummary
from quantviz.study.specs.table import StudyTable
from quantviz.study.summary import report_summary, summary_table
from quantviz.ui.links import Linked
from quantviz.ui.quantization import scheme_words
from quantviz.ui.studies import choose_study, summary_of, table_of

PLAIN: Final = {"displayModeBar": False}
_ANY: Final = "all"
_FLAGS: Final[Mapping[str, tuple[str, str, Mapping[str, bool]]]] = {
    "flipped": ("Top-1 class", "top1", {"changed": True, "kept": False}),
    "float_correct": ("Float network", "float_top1", {"right": True, "wrong": False}),
    "quantized_correct": ("Quantized network", "quantized_top1", {"right": True, "wrong": False}),
    "evidence": ("Maps", "evidence", {"with evidence": True, "without": False}),
}
_MEASURES: Final = {"accuracy": "accuracy", "change of accuracy": "change", "flips": "flips"}


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The study that is looked at.

    Attributes:
        name: as the address has it.
        path: its folder.
        whole: its summary.
        view: what the filters leave of it.
        ignored: values of the link that no widget has, as sentences.
    """

    name: str
    path: Path
    whole: StudySummary
    view: StudyView
    ignored: tuple[str, ...]

    @property
    def plan(self) -> StudyPlan:
        """What the study was decided by."""
        return self.view.table.plan

    def protocols_at(self, setting: str) -> list[str]:
        """Return the protocols under which a bit-width runs, of those that the filters leave."""
        return list(dict.fromkeys(cell.protocol for cell in self.view.cells if cell.setting == setting))

    @property
    def untrained(self) -> list[str]:
        """Models whose weights are random."""
        return [model.name for model in self.plan.models if not model.weights.trained]


def choose() -> Opened | None:
    """Draw the sidebar and return the study that is chosen, None where there is none at all.

    Raises:
        UsageError: the chosen folder holds no finished study.
        StoreError: the study is damaged.
    """
    linked = Linked()
    with st.sidebar:
        st.subheader("Study", divider="gray")
        chosen = choose_study(linked)
        if chosen is None:
            return None
        name, path = chosen
        table = table_of(path)
        filters = _filters(linked, table)
    whole = summary_of(path)
    return Opened(name, path, whole, _view(table, filters, whole), tuple(linked.ignored))


def show_answer(opened: Opened) -> bool:
    """Say in a sentence or two what the study found, and of how much of it; return whether anything is left."""
    view, plan = opened.view, opened.plan
    if opened.untrained:
        st.warning(
            f"UNTRAINED (random) weights, a sanity control and no model: {', '.join(opened.untrained)}.",
            icon=":material/casino:",
        )
    if not view.cells or not view.pictures:
        st.info("No picture passes the filters at the left; widen them.", icon=":material/filter_alt_off:")
        return False
    paragraphs: list[str] = []
    for sentence in headline(view.summary):
        if paragraphs and not sentence.startswith("Under "):
            paragraphs[-1] += f" {sentence}"
        else:
            paragraphs.append(sentence)
    st.markdown("\n\n".join(f"### {paragraph}" for paragraph in paragraphs))
    labelled = sum(image.label is not None for image in plan.images)
    part = f"{view.pictures:,} of {len(plan.images):,}" if view.pictures < len(plan.images) else f"{view.pictures:,}"
    settings = "quantized networks" if GIVEN in plan.protocols else "bit-widths"  # files have no bits to speak of
    st.caption(
        f"{part} pictures, {labelled:,} with a known class; {len(plan.models)} models, {len(plan.settings)} "
        f"{settings}, {len(plan.protocols)} protocols; {plan.cam.method}."
    )
    return True


def show_tables(opened: Opened) -> None:
    """Show the paper's Table 1 layout, rates and drift of parts, and offer the numbers."""
    summary = opened.view.summary
    tables = [table for table in study_tables(summary) if table.name not in ("tests", DEPLOYED)]
    protocol = segments("Protocol", summary.plan.protocols, "summed")
    for table in tables:
        show_table(table, protocol)
    _downloads(opened)
    _tests(opened.whole)


def show_table(table: ReportTable, protocol: str) -> None:
    """Show the rows of a protocol, under the table's title."""
    st.caption(table.title)
    st.dataframe(_frame(table.columns[1:], table.of_protocol(protocol)), hide_index=True, height="content")


def show_distributions(opened: Opened) -> None:
    """Show how a score is spread over the pictures, as the paper's Fig. 2."""
    table, scores = opened.view.table, opened.plan.comparisons
    comparison = segments("Maps compared", list(scores), "compared", "quantized_v_float", comparison_title)
    columns = st.columns([3, 2])
    with columns[0]:
        metric = segments("Score", scores[comparison], "score", "cc", metric_title)
    with columns[1]:
        kind = segments("Drawn as", ["box", "violin"], "drawn")
    for protocol in opened.view.summary.plan.protocols:
        st.caption(f"{protocol} protocol")
        chart = figures.distribution_chart(table, comparison, metric, protocol, chosen=opened.view.chosen)
        figure = figures.distribution_figure(chart, "violin" if kind == "violin" else "box")
        st.plotly_chart(figure, key=f"distribution_{protocol}", config=PLAIN)
    st.caption(
        "A box is the middle half of the pictures, its line the median; whiskers reach to the furthest picture within "
        "1.5 times the box's height. A violin is a kernel density. The diamond is the mean: hover over it for the "
        "numbers."
    )


def show_drift(opened: Opened) -> None:
    """Show drift or a score of the maps against the bit-widths."""
    view = opened.view
    known = [name for name in ("cc", "sim", "kld") if name in view.cells[0].scores.get("quantized_v_float", {})]
    metric = segments("Mean of", ["drift", *known], "curve", shown_as=lambda name: _curve_title(name))
    chart = figures.drift_chart(view.cells, metric, untrained=opened.untrained)
    st.plotly_chart(figures.drift_figure(chart), key="curves", config=PLAIN)
    st.caption(
        "The mean over the pictures, with its 95 % interval. Drift of 0.000001 or less is drawn there: such maps are "
        "the same to any eye."
        if metric == "drift"
        else "The mean over the pictures, with its 95 % interval."
    )


def show_accuracy(opened: Opened) -> None:
    """Show top-1 accuracy, its change or flips against drift."""
    cells = opened.view.cells
    labelled = any(cell.accuracy is not None for cell in cells)
    options = list(_MEASURES) if labelled else ["flips"]
    measure = segments("Against drift", options, "measure")
    chart = figures.accuracy_chart(
        cells,
        {"accuracy": "accuracy", "change of accuracy": "change"}.get(measure, "flips"),  # type: ignore[arg-type]
        untrained=opened.untrained,
    )
    st.plotly_chart(figures.accuracy_figure(chart), key="accuracy", config=PLAIN)
    if not labelled:
        st.caption("No picture has a known class, so that only flips can be shown.")
    st.caption(
        "A point is a model at a bit-width: where it stands low while its drift is small, or high while its drift is "
        "large, accuracy alone would hide what the maps show."
    )


def show_ranking(opened: Opened) -> None:
    """Show the models ranked by drift, and how sure the ranks are."""
    view, plan = opened.view, opened.view.summary.plan
    columns = st.columns(2)
    with columns[0]:
        setting = segments("Bit-width", plan.settings, "ranked", "W8A8")
    with columns[1]:
        protocol = segments("Protocol", opened.protocols_at(setting), "ranked_protocol")
    resampled = view.filters.every_picture
    ranked = ranking(view.table, setting, protocol, chosen=view.chosen, resampled=resampled)
    if not ranked.models:
        st.info("No picture has a drift for every model here; widen the filters.", icon=":material/filter_alt_off:")
        return
    chart = figures.ranking_chart(ranked, untrained=opened.untrained)
    st.plotly_chart(figures.ranking_figure(chart), key="ranking", config=PLAIN)
    st.caption(
        f"The {ranked.pictures:,} pictures on which every model has a drift were drawn anew {RESAMPLES:,} times "
        "(bootstrap), the same ones for every model. A model whose row has one dark square has its rank for sure; one "
        "with several might have another on other pictures of the kind."
    )


def show_made(opened: Opened) -> None:
    """Show what decided the study, and the command that makes it again."""
    plan = opened.plan
    st.code(plan.command or "(no command was recorded)", language="bash", wrap_lines=True)
    st.caption(f"Folder {opened.path}; digest of the study {plan.digest}.")
    rows = [
        {
            "model": model.name,
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
    lines = [
        f"**Pictures**: {len(plan.images):,} of `{plan.dataset}` ({chosen}, {drawn}), {labelled:,} with a known class",
        f"**Bit-widths**: {', '.join(plan.settings)}{f'; {scheme_words(plan.quants[0])}' if plan.quants else ''}",
        f"**Protocols**: {', '.join(plan.protocols)}",
        f"**Calibration**: {plan.calibration.images} inputs from {plan.calibration.source}, sha256 "
        f"`{plan.calibration.sha256}`",
        f"**Maps**: {plan.cam.method}; the saliency is predicted (`{plan.saliency}`)",
        f"**Libraries**: {', '.join(f'{name} {number}' for name, number in plan.versions.items())}",
    ]
    st.markdown("\n".join(f"- {line}" for line in lines))


def segments(
    label: str, options: Sequence[str], key: str, first: str = "", shown_as: Callable[[str], str] = str
) -> str:
    """Draw a choice of a few options that lives in the address, and return what is chosen."""
    default = first if first in options else options[0]
    value = st.segmented_control(
        label, options, default=default, key=key, bind="query-params", required=True, format_func=shown_as
    )
    return str(value or default)


def _curve_title(name: str) -> str:
    return "drift, 1 − CC" if name == "drift" else metric_title(name)


def _filters(linked: Linked, table: StudyTable) -> Filters:
    """Draw what the pictures and cells that are looked at can be narrowed by."""
    plan = table.plan
    st.subheader("Show only", divider="gray")

    def some(label: str, options: Sequence[str], key: str) -> tuple[str, ...]:
        return tuple(st.multiselect(label, options, key=key, bind="query-params", placeholder=_ANY))

    models = some("Models", [model.name for model in plan.models], "models")
    settings = some("Bit-widths", plan.settings, "settings")
    protocols = some("Protocols", plan.protocols, "protocols")
    low, high = st.slider(
        "Float network's confidence",
        0,
        100,
        (0, 100),
        5,
        format="%d %%",
        key="confidence",
        bind="query-params",
        help="Softmax probability of its top-1 class.",
    )
    flags: dict[str, bool | None] = {}
    for field, (label, key, words) in _FLAGS.items():
        flags[field] = words.get(linked.select(label, [_ANY, *words], key))
    text = st.text_input(
        "Class or file with these letters",
        key="letters",
        bind="query-params",
        help="In the name of the picture's class, of the float network's top-1 class, or of the file.",
    )
    return Filters(models, settings, protocols, (low / 100, high / 100), **flags, text=text)


def _view(table: StudyTable, filters: Filters, whole: StudySummary) -> StudyView:
    """Return the view of the filters, kept until either changes: choosing a figure takes no summing up."""
    view: StudyView | None = st.session_state.get("study_view")
    if view is None or view.table is not table or view.filters != filters:
        view = st.session_state["study_view"] = study_view(table, filters, whole)
    return view


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
