"""How pages show a chart: its title, what it holds, a caption, a menu of files, and what a click in it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import streamlit as st

from quantviz import figures

PLAIN: Final = {"displayModeBar": False}
_KINDS: Final[dict[figures.Form, str]] = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}


@dataclass(frozen=True, slots=True)
class Files:
    """What a chart can be taken away as.

    Attributes:
        stem: of the files' names.
        numbers: makes a CSV file of what is drawn.
        drawn: makes a figure for a paper of a form, 7 inches wide; None where there is none.
    """

    stem: str
    numbers: Callable[[], bytes]
    drawn: Callable[[figures.Form], bytes] | None = None


def show_chart(
    figure: Any,
    key: str,
    *,
    heading: str,
    caption: str = "",
    files: Files | None = None,
    stem: str = "",
    picked: Callable[[list[dict[str, Any]]], None] | None = None,
    by: Iterable[Literal["points", "box", "lasso"]] = ("points",),
) -> None:
    """Show a Plotly figure under its heading.

    Args:
        figure: the figure.
        key: of the chart on the page.
        heading: what it shows, in a few words.
        caption: what its marks mean, and the units.
        files: what its menu offers.
        stem: of the names of files that are drawn from the figure itself, in place of ``files``; it then has bars,
            points and lines alone.
        picked: called with the points that were selected before the page runs again; [] when nothing is any more.
        by: how points can be selected.
    """
    if stem:
        drawn = partial(figures.drawn_print, figure, heading, caption=caption)
        files = Files(stem, partial(figures.drawn_csv, figure), drawn)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.subheader(heading, anchor=False)
        if files is not None:
            _menu(files, key)

    def selected() -> None:
        if picked is not None:
            picked(list(st.session_state[key]["selection"]["points"]))

    if picked is None:
        st.plotly_chart(figure, key=key, config=PLAIN, alt=heading)
    else:
        modes = tuple(by)
        config = PLAIN if modes == ("points",) else {"displaylogo": False}
        st.plotly_chart(figure, key=key, config=config, alt=heading, on_select=selected, selection_mode=modes)
    if caption:
        st.caption(caption)


def name_picked(state: str) -> Callable[[list[dict[str, Any]]], None]:
    """Return what a chart calls whose points carry a name: it goes to a widget by its key."""

    def picked(points: list[dict[str, Any]]) -> None:
        if points and (data := custom(points[0])):
            st.session_state[state] = data[0]

    return picked


def custom(point: dict[str, Any]) -> list[Any]:
    """Return the custom data of a selected point as a list, [] where it has none."""
    data = point.get("customdata")
    if data is None:
        return []
    return list(data) if isinstance(data, list | tuple) else [data]


def _menu(files: Files, key: str) -> None:
    with st.popover("Save", icon=":material/download:", key=f"save_{key}"):
        for form, kind in _KINDS.items() if files.drawn is not None else ():
            st.download_button(
                form.upper(),
                _drawing(files, form),
                f"{files.stem}.{form}",
                kind,
                key=f"save_{key}_{form}",
                on_click="ignore",
                width="stretch",
            )
        st.download_button(
            "CSV",
            files.numbers,
            f"{files.stem}.csv",
            "text/csv",
            key=f"save_{key}_csv",
            on_click="ignore",
            width="stretch",
        )


def _drawing(files: Files, form: figures.Form) -> Callable[[], bytes]:
    assert files.drawn is not None
    drawn = files.drawn
    return lambda: drawn(form)
