"""The Study page's answer: what was found, and which precision is within a reader's limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from quantviz import figures
from quantviz.layerwise.precision import Precision, smallest_within
from quantviz.report.tables import headline
from quantviz.specs import GIVEN, counted
from quantviz.study.specs.summary import StudyCell
from quantviz.ui.choices import choose_limits, segments
from quantviz.ui.plain import code
from quantviz.ui.study import Opened


def show_answer(opened: Opened) -> None:
    """Say which precision of each network is within limits that the reader sets, and what the study found."""
    st.subheader("Which precision is safe", anchor=False)
    if opened.floor is None:
        st.info(
            f"The noise floor of this study is not known, and without it no drift is large or small: "
            f"{code(f'quantviz floor {opened.path}')} measures it.",
            icon=":material/straighten:",
        )
    else:
        _within_limits(opened)
    st.markdown("\n\n".join(_paragraphs(opened)))
    view, plan = opened.view, opened.plan
    labelled = sum(image.label is not None for image in plan.images)
    settings = "quantized network" if GIVEN in plan.protocols else "bit-width"  # files have no bits to speak of
    part = f"{view.pictures:,} of {counted(len(plan.images), 'picture')}"
    st.caption(
        f"{part if view.pictures < len(plan.images) else counted(view.pictures, 'picture')}, {labelled:,} with a known "
        f"class; {counted(len(plan.models), 'model')}, {counted(len(plan.settings), settings)}, "
        f"{counted(len(plan.protocols), 'protocol')}; {plan.cam.method}."
    )


def precisions_of(cells: Sequence[StudyCell], floors: Mapping[str, float | None]) -> list[Precision]:
    """Return what each bit-width does to one network under one protocol, the most bits first.

    Args:
        cells: of one network and protocol.
        floors: network -> mean drift of a change that nobody sees.
    """
    order = {label: place for place, label in enumerate(figures.by_bits({cell.setting for cell in cells}))}
    found = []
    for cell in sorted(cells, key=lambda cell: -order[cell.setting]):
        drift, floor = cell.drift.mean, floors.get(cell.model)
        found.append(
            Precision(
                label=cell.setting,
                n=cell.flips.n,
                flips=cell.flips.count,
                flips_high=1.0 if cell.flips.high is None else cell.flips.high,
                drift=drift,
                multiple=None if drift is None or not floor else max(drift, 0.0) / floor,
                unscored=cell.images - cell.drift.n,
            )
        )
    return found


def _within_limits(opened: Opened) -> None:
    flips, multiple = choose_limits()
    protocol = segments("Protocol", opened.view.summary.plan.protocols, "answered")
    floors = {name: opened.floor.mean(name) if opened.floor else None for name in opened.networks}
    strips = {
        network: precisions_of(cells, floors)
        for network in opened.networks
        if (cells := [cell for cell in opened.view.cells if (cell.model, cell.protocol) == (network, protocol)])
    }
    for network, precisions in strips.items():
        safe, words = smallest_within(precisions, flips / 100, multiple)
        (st.success if safe else st.warning)(
            f"**{network}**: {words}", icon=":material/verified:" if safe else ":material/warning:"
        )
    st.table(_strip(strips, flips / 100, multiple))


def _strip(strips: Mapping[str, Sequence[Precision]], most_flips: float, most_multiple: float) -> pd.DataFrame:
    """Return the precisions in words, a row a network and a column a precision."""
    labels = list(dict.fromkeys(one.label for precisions in strips.values() for one in precisions))
    rows = {
        network: {one.label: _words(one, most_flips, most_multiple) for one in precisions}
        for network, precisions in strips.items()
    }
    return pd.DataFrame(rows).T.reindex(columns=labels).fillna("–")


def _words(one: Precision, most_flips: float, most_multiple: float) -> str:
    verdict = "**within**" if one.within(most_flips, most_multiple) else "outside"
    drift = "drift not judged" if one.multiple is None else f"drift {one.multiple:,.1f}\N{NO-BREAK SPACE}× the floor"
    if one.multiple is not None and one.multiple <= 1:
        drift = "drift below the floor"
    return f"{verdict}: {one.flips} of {one.n} flip (up to {one.flips_high:.0%}), {drift}"


def _paragraphs(opened: Opened) -> list[str]:
    paragraphs: list[str] = []
    for sentence in headline(opened.view.summary):
        if paragraphs and not sentence.startswith("Under "):
            paragraphs[-1] += f" {sentence}"
        else:
            paragraphs.append(sentence)
    return paragraphs
