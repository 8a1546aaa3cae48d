"""The choice of a study and of what to look at in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import streamlit as st

from quantviz.study.filters import Filters, StudyView, study_view
from quantviz.study.floor import StudyFloor
from quantviz.study.grids import StudyGrids
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import StudySummary
from quantviz.study.specs.table import StudyTable
from quantviz.ui.choices import chosen_one, segments
from quantviz.ui.links import Linked
from quantviz.ui.plain import plain
from quantviz.ui.studies import choose_study, floor_of, grids_of, summary_of, table_of

Cell = tuple[str, str, str]
"""(network, label of the bit-width, protocol): a cell of a study."""

_ANY: Final = "all"
_FLAGS: Final[Mapping[str, tuple[str, str, Mapping[str, bool]]]] = {
    "flipped": ("Top-1 class", "top1", {"changed": True, "kept": False}),
    "float_correct": ("Float network", "float_top1", {"right": True, "wrong": False}),
    "quantized_correct": ("Quantized network", "quantized_top1", {"right": True, "wrong": False}),
    "evidence": ("Maps", "evidence", {"with evidence": True, "without": False}),
}


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The study that is looked at.

    Attributes:
        name: as the address has it.
        path: its folder.
        whole: its summary.
        view: what the filters leave of it.
        ignored: values of the link that no widget has, as sentences.
        floor: how far maps move under a change that nobody sees, or None where the study does not have it.
        problem: why its noise floor or its maps cannot be read, or "".
        grids: the maps that the study keeps, or None where it keeps none.
    """

    name: str
    path: Path
    whole: StudySummary
    view: StudyView
    ignored: tuple[str, ...]
    floor: StudyFloor | None = None
    problem: str = ""
    grids: StudyGrids | None = None

    @property
    def plan(self) -> StudyPlan:
        """What the study was decided by."""
        return self.view.table.plan

    @property
    def networks(self) -> list[str]:
        """Names of those that the filters leave."""
        return [model.name for model in self.view.summary.plan.models]

    @property
    def highest_floor(self) -> float | None:
        """The greatest noise floor of the networks that the filters leave, or None where none is known."""
        floors = [self.floor.mean(name) for name in self.networks] if self.floor is not None else []
        return max((floor for floor in floors if floor), default=None)

    def stem(self, chart: str) -> str:
        """Return the beginning of the names of a chart's files."""
        return f"quantviz-{Path(self.name).name}-{chart}"

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
    floor, problem = floor_of(path, table.plan)
    grids, other = grids_of(path, table.plan)
    return Opened(
        name, path, whole, _view(table, filters, whole), tuple(linked.ignored), floor, problem or other, grids
    )


def show_warnings(opened: Opened) -> bool:
    """Say what a reader must know before any number; return whether anything is left to look at."""
    if opened.untrained:
        st.warning(
            f"UNTRAINED (random) weights, a sanity control and no model: {', '.join(opened.untrained)}.",
            icon=":material/casino:",
        )
    if opened.problem:
        st.warning(plain(opened.problem), icon=":material/straighten:")
    if opened.view.cells and opened.view.pictures:
        return True
    st.info("No picture passes the filters at the left; widen them.", icon=":material/filter_alt_off:")
    return False


def choose_cell(opened: Opened) -> Cell:
    """Draw the choice of a network, a bit-width and a protocol, of those that the filters leave, and return it."""
    plan = opened.view.summary.plan
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = chosen_one("Network", [entry.name for entry in plan.models], "shown_model")
        settings = list(dict.fromkeys(cell[1] for cell in plan.cells if cell[0] == model))
        setting = segments(plan.setting_word.capitalize(), settings, "shown_bits", settings[-1])
        protocols = [cell[2] for cell in plan.cells if cell[:2] == (model, setting)]
        protocol = segments("Protocol", protocols, "shown_protocol")
    return model, setting, protocol


def _filters(linked: Linked, table: StudyTable) -> Filters:
    """Draw what the pictures and cells that are looked at can be narrowed by."""
    plan = table.plan
    st.subheader("Show only", divider="gray")

    def some(label: str, options: Sequence[str], key: str) -> tuple[str, ...]:
        if len(options) == 1:  # nothing to narrow
            return ()
        return tuple(st.multiselect(label, options, key=key, bind="query-params", placeholder=_ANY))

    models = some("Networks", [model.name for model in plan.models], "models")
    settings = some(f"{plan.setting_word.capitalize()}s", plan.settings, "settings")
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
