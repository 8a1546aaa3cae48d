"""What is selected in the Study page's charts: it stands in the address, and its pictures below the chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

import streamlit as st

from quantviz.specs import counted
from quantviz.study.classes import became, pictures_of
from quantviz.study.filters import extremes, picture_drift
from quantviz.ui.charts import custom
from quantviz.ui.plain import plain
from quantviz.ui.study import Cell, Opened
from quantviz.ui.study_pictures import show_cards

MOST: Final = 200
"""Pictures that an address names: of a larger selection, those that drift most."""

_KEY: Final = "behind"
_SHOWN: Final = 8
_COUNTS: Final = {"": 0, "class": 1, "became": 2}


@dataclass(frozen=True, slots=True)
class Behind:
    """What was selected.

    Attributes:
        chart: key of the chart in which it was.
        cell: of the study.
        what: ``""``: the whole cell; ``"pictures"``, ``"became"`` or ``"class"``.
        numbers: the pictures' places; the two classes; the class.
    """

    chart: str
    cell: Cell
    what: str = ""
    numbers: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The selection as the address has it."""
        numbers = _runs(self.numbers) if self.what == "pictures" else ".".join(map(str, self.numbers))
        return "!".join(quote(part, safe="") for part in (self.chart, *self.cell, self.what, numbers))


def cells_picked(chart: str) -> Callable[[list[dict[str, Any]]], None]:
    """Return what a chart calls whose points are cells (model, bit-width, protocol)."""

    def picked(points: list[dict[str, Any]]) -> None:
        data = next((found for found in map(custom, points) if len(found) == 3), None)
        _keep(chart, None if data is None else Behind(chart, (str(data[0]), str(data[1]), str(data[2]))))

    return picked


def pictures_picked(chart: str, opened: Opened, cell: Cell) -> Callable[[list[dict[str, Any]]], None]:
    """Return what a chart calls whose points are pictures of a cell."""

    def picked(points: list[dict[str, Any]]) -> None:
        places = sorted({int(found[0]) for found in map(custom, points) if len(found) == 1})
        if len(places) > MOST:
            places = sorted(_by_drift(opened, cell, places)[:MOST])
        _keep(chart, Behind(chart, cell, "pictures", tuple(places)) if places else None)

    return picked


def classes_picked(chart: str, cell: Cell) -> Callable[[list[dict[str, Any]]], None]:
    """Return what a chart calls whose points are a class, or a class and what it became."""

    def picked(points: list[dict[str, Any]]) -> None:
        numbers = tuple(int(number) for number in custom(points[0])) if points else ()
        what = {1: "class", 2: "became"}.get(len(numbers), "")
        _keep(chart, Behind(chart, cell, what, numbers) if what else None)

    return picked


def show_behind(opened: Opened, chart: str) -> None:
    """Show the pictures behind what is selected in a chart, if anything is."""
    behind = _read(opened)
    if behind is None or behind.chart != chart:
        return
    places = _places(opened, behind)
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            st.markdown(f"**{_words(opened, behind, len(places))}**")
            st.button("Close", key=f"close_{chart}", icon=":material/close:", on_click=lambda: _keep(chart, None))
        if not places:
            st.info("No picture here has a drift.", icon=":material/filter_alt_off:")
            return
        every = st.toggle(f"Show all {len(places)}", key=f"all_{chart}") if len(places) > _SHOWN else False
        row = opened.view.table.cells.index(behind.cell)
        shown = places if every else places[:_SHOWN]
        drifts = [picture_drift(opened.view.table, row, place) for place in shown]
        show_cards(opened, behind.cell, drifts, f"behind_{chart}")


def _places(opened: Opened, behind: Behind) -> list[int]:
    """Return the pictures of a selection, those that drift most first."""
    table, row = opened.view.table, opened.view.table.cells.index(behind.cell)
    if not behind.what:
        return [drift.index for drift in extremes(opened.view, behind.cell, "worst", MOST)]
    places: Sequence[int] = behind.numbers
    if behind.what == "class":
        places = pictures_of(table, row, behind.numbers[0], opened.view.chosen)
    elif behind.what == "became":
        changes = became(table, row, opened.view.chosen)
        places = next((one.pictures for one in changes if (one.before, one.after) == behind.numbers), ())
    return _by_drift(opened, behind.cell, places)


def _by_drift(opened: Opened, cell: Cell, places: Sequence[int]) -> list[int]:
    """Return places with the largest drift first, those without one last."""
    cc = opened.view.table.columns["quantized_v_float_cc"][opened.view.table.cells.index(cell)]
    return sorted(places, key=lambda place: float(cc[place]) if cc[place] == cc[place] else 2.0)


def _words(opened: Opened, behind: Behind, count: int) -> str:
    model, setting, protocol = behind.cell
    where = f"{plain(model)} at {plain(setting)}"
    if len(opened.plan.protocols) > 1:
        where += f", {plain(protocol)} protocol"
    return f"{counted(count, 'picture')} of {where}, the largest drift first"


def _read(opened: Opened) -> Behind | None:
    """Return the selection that the address names, or None where it names none of this study."""
    parts = [unquote(part) for part in st.query_params.get(_KEY, "").split("!")]
    if len(parts) != 6:
        return None
    chart, model, setting, protocol, what, numbers = parts
    if (model, setting, protocol) not in opened.view.table.cells or what not in ("pictures", *_COUNTS):
        return None
    try:
        found = _numbers(numbers) if what == "pictures" else tuple(map(int, filter(None, numbers.split("."))))
    except ValueError:
        return None
    if what == "pictures":
        found = tuple(place for place in found if 0 <= place < len(opened.plan.images))
    elif len(found) != _COUNTS[what]:
        return None
    return Behind(chart, (model, setting, protocol), what, found)


def _keep(chart: str, behind: Behind | None) -> None:
    """Put a selection into the address; without one, take out that of this chart."""
    if behind is not None:
        st.query_params[_KEY] = behind.text
    elif st.query_params.get(_KEY, "").startswith(f"{chart}!"):
        del st.query_params[_KEY]


def _runs(numbers: Sequence[int]) -> str:
    """Return ascending numbers in few letters: ``"3.17-20"``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ".".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers that ``_runs`` wrote, the first ``MOST``."""
    found: list[int] = []
    for run in filter(None, text.split(".")):
        low, _, high = run.partition("-")
        found += range(int(low), min(int(high or low), int(low) + MOST) + 1)
    return tuple(found[:MOST])
