"""The Study page's charts; what is selected in one shows its pictures below it."""

from __future__ import annotations

from functools import partial
from typing import Final

import streamlit as st

from quantviz import figures
from quantviz.report.tables import comparison_title, metric_title
from quantviz.study.classes import became, class_drops
from quantviz.study.filters import RESAMPLES, ranking
from quantviz.ui.charts import Files, show_chart
from quantviz.ui.choices import chosen_one, segments
from quantviz.ui.plain import plain
from quantviz.ui.study import Cell, Opened, choose_cell
from quantviz.ui.study_behind import cells_picked, classes_picked, pictures_picked, show_behind

_MEASURES: Final[dict[str, figures.AccuracyMeasure]] = {
    "accuracy": "accuracy",
    "change of accuracy": "change",
    "flips": "flips",
}
_CLICK: Final = "Select a point to see the pictures behind it."


def show_drift(opened: Opened) -> None:
    """Show drift or a score of the maps against the bit-widths, or the variants, over the noise floor."""
    view = opened.view
    known = [name for name in ("cc", "sim", "kld") if name in view.cells[0].scores.get("quantized_v_float", {})]
    place = st.container()
    metric = segments("Mean of", ["drift", *known], "curve", shown_as=_curve_title)
    chart = figures.drift_chart(view.cells, metric, untrained=opened.untrained, floor=opened.highest_floor)
    across = "against bits" if opened.plan.setting_word == "bit-width" else "variant by variant"
    words = f"Means over the pictures, with 95 % intervals. {_CLICK}"
    if metric == "drift":
        words += " Drift of 0.000001 or less is drawn there: such maps are the same to any eye."
        if opened.floor is not None and opened.highest_floor is not None:
            words += (
                " Grey is the noise floor, the highest of these networks': how far the float map itself moves when "
                "every pixel changes by one grey level, or the crop by one pixel."
            )
    with place:
        show_chart(
            figures.drift_figure(chart),
            "curves",
            heading=f"{'Where the maps drift,' if metric == 'drift' else _curve_title(metric)} {across}",
            caption=words,
            files=Files(
                opened.stem("bits"),
                partial(figures.line_csv, chart),
                partial(figures.drift_print, chart, opened.plan),
            ),
            picked=cells_picked("curves"),
        )
    show_behind(opened, "curves")


def show_distributions(opened: Opened) -> None:
    """Show how a score is spread over the pictures, as the paper's Fig. 2, and the pictures of one cell."""
    table, scores = opened.view.table, opened.plan.comparisons
    comparison = chosen_one("Maps compared", list(scores), "compared", "quantized_v_float", comparison_title)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = segments("Score", scores[comparison], "score", "cc", metric_title)
        kind = segments("Drawn as", ["box", "violin"], "drawn")
        protocol = segments("Protocol", opened.view.summary.plan.protocols, "spread_protocol")
    chart = figures.distribution_chart(table, comparison, metric, protocol, chosen=opened.view.chosen)
    show_chart(
        figures.distribution_figure(chart, "violin" if kind == "violin" else "box"),
        f"distribution_{protocol}",
        heading=f"How {metric_title(metric)} is spread over the pictures",
        caption="A box is the middle half of the pictures, its line the median; whiskers reach to the furthest picture "
        "within 1.5 times the box's height. A violin is a kernel density. The diamond is the mean: hover over it for "
        "the numbers.",
        files=Files(
            opened.stem(f"spread-{metric}"),
            partial(figures.distribution_csv, [chart]),
            partial(figures.distribution_print, [chart], opened.plan),
        ),
    )
    _show_cloud(opened, choose_cell(opened))


def show_accuracy(opened: Opened) -> None:
    """Show top-1 accuracy, its change or flips against drift."""
    cells = opened.view.cells
    labelled = any(cell.accuracy is not None for cell in cells)
    measure = segments("Against drift", list(_MEASURES) if labelled else ["flips"], "measure")
    chart = figures.accuracy_chart(cells, _MEASURES[measure], untrained=opened.untrained)
    setting = opened.plan.setting_word
    note = "" if labelled else " No picture has a known class, so that only flips can be shown."
    show_chart(
        figures.accuracy_figure(chart),
        "accuracy",
        heading=f"{measure.capitalize()} against drift of the maps",
        caption=f"A point is a network at a {setting}: where it stands low while its drift is small, or high while its "
        f"drift is large, accuracy alone would hide what the maps show. {_CLICK}{note}",
        files=Files(
            opened.stem(f"{measure.replace(' ', '-')}"),
            partial(figures.line_csv, chart),
            partial(figures.accuracy_print, chart, opened.plan),
        ),
        picked=cells_picked("accuracy"),
    )
    show_behind(opened, "accuracy")


def show_ranking(opened: Opened) -> None:
    """Show the networks ranked by drift, and how sure the ranks are."""
    view, plan = opened.view, opened.view.summary.plan
    with st.container(horizontal=True, vertical_alignment="bottom"):
        setting = segments(plan.setting_word.capitalize(), plan.settings, "ranked", "W8A8")
        protocol = segments("Protocol", opened.protocols_at(setting), "ranked_protocol")
    resampled = view.filters.every_picture
    ranked = ranking(view.table, setting, protocol, chosen=view.chosen, resampled=resampled)
    if not ranked.models:
        st.info("No picture has a drift for every network here; widen the filters.", icon=":material/filter_alt_off:")
        return
    chart = figures.ranking_chart(ranked, untrained=opened.untrained)
    show_chart(
        figures.ranking_figure(chart),
        "ranking",
        heading=f"Which network's maps hold best at {setting}",
        caption=f"The {ranked.pictures:,} pictures on which every network has a drift were drawn anew {RESAMPLES:,} "
        "times (bootstrap), the same ones for every network. A network whose row has one dark square has its rank for "
        "sure; one with several might have another on other pictures of the kind.",
        files=Files(
            opened.stem("ranking"),
            partial(figures.rank_csv, chart),
            partial(figures.ranking_print, chart, opened.plan),
        ),
    )


def show_classes(opened: Opened) -> None:
    """Show which class became which in a cell, and the classes that lose accuracy."""
    cell = choose_cell(opened)
    row = opened.view.table.cells.index(cell)
    _show_matrix(opened, cell, row)
    _show_drops(opened, cell, row)


def _show_cloud(opened: Opened, cell: Cell) -> None:
    """Show each picture of a cell by confidence and drift."""
    view, row = opened.view, opened.view.table.cells.index(cell)
    columns = view.table.columns
    cloud = figures.picture_cloud(
        columns["float_probability"][row],
        1 - columns["quantized_v_float_cc"][row],
        columns["flipped"][row],
        view.chosen[row],
        opened.floor.mean(cell[0]) if opened.floor is not None else None,
    )
    if not len(cloud.indices):
        st.info("No picture here has a drift; widen the filters.", icon=":material/filter_alt_off:")
        return
    show_chart(
        figures.cloud_figure(cloud),
        "cloud",
        heading=f"Picture by picture: {plain(cell[0])} at {plain(cell[1])}",
        caption="A mark is a picture. Draw a lasso around some, or select one, to see them.",
        files=Files(
            opened.stem("pictures"),
            partial(figures.cloud_csv, cloud),
            partial(figures.cloud_print, cloud, opened.plan),
        ),
        picked=pictures_picked("cloud", opened, cell),
        by=("points", "box", "lasso"),
    )
    show_behind(opened, "cloud")


def _show_matrix(opened: Opened, cell: Cell, row: int) -> None:
    changes = became(opened.view.table, row, opened.view.chosen)
    if not changes:
        st.info("No top-1 class changes here; choose fewer bits.", icon=":material/check:")
        return
    matrix = figures.class_matrix(
        [((one.before, one.names[0]), (one.after, one.names[1]), len(one.pictures)) for one in changes]
    )
    left = f" {matrix.left_out:,} changes of further classes are not drawn." if matrix.left_out else ""
    show_chart(
        figures.matrix_figure(matrix),
        "matrix",
        heading="Which class became which",
        caption="A square is a change of the top-1 class, larger for more pictures. Select one to see its pictures."
        + left,
        files=Files(
            opened.stem("classes"),
            partial(figures.matrix_csv, matrix),
            partial(figures.matrix_print, matrix, opened.plan),
        ),
        picked=classes_picked("matrix", cell),
    )
    show_behind(opened, "matrix")


def _show_drops(opened: Opened, cell: Cell, row: int) -> None:
    drops = class_drops(opened.view.table, row, opened.view.chosen)
    if not drops:
        return
    shown = tuple(
        figures.ClassRow(
            one.index,
            one.name,
            figures.Span(one.drop, one.low, one.high),
            (
                one.name,
                f"{one.float_correct} of {one.n} right in float, {one.quantized_correct} quantized",
                f"drop {one.drop:.0%}, 95 % interval {one.low:.0%} to {one.high:.0%}",
            ),
        )
        for one in drops[: figures.MOST_CLASSES]
    )
    more = f" {len(drops) - len(shown):,} further classes lose less." if len(drops) > len(shown) else ""
    show_chart(
        figures.drops_figure(shown),
        "drops",
        heading="Which classes lose accuracy",
        caption="Part of a class's pictures that the float network gets right, less the quantized network's, with the "
        f"95 % interval for paired proportions (Newcombe 1998).{more} Select a bar to see the pictures.",
        files=Files(
            opened.stem("class-drops"),
            partial(figures.drops_csv, shown),
            partial(figures.drops_print, shown, opened.plan),
        ),
        picked=classes_picked("drops", cell),
    )
    show_behind(opened, "drops")


def _curve_title(name: str) -> str:
    return "drift, 1 − CC" if name == "drift" else metric_title(name)
