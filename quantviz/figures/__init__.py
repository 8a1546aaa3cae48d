"""Results to figures: ``data`` prepares, ``interactive`` draws by Plotly, ``print`` by matplotlib, ``inline`` in SVG.

Maps lie over the picture in grey, so that a hue always means a value of the colour bar. All functions may be called
from several threads.
"""

from typing import TYPE_CHECKING

from quantviz.specs.later import later

if TYPE_CHECKING:
    from quantviz.figures.data.attribution import shown_shares
    from quantviz.figures.data.chart_files import cloud_csv, distribution_csv, drops_csv, line_csv, matrix_csv, rank_csv
    from quantviz.figures.data.charts import LineChart, Span
    from quantviz.figures.data.distribution import distribution_chart
    from quantviz.figures.data.drawn import drawn_csv
    from quantviz.figures.data.pictures import MOST_CLASSES, ClassRow, class_matrix, picture_cloud
    from quantviz.figures.data.study import AccuracyMeasure, accuracy_chart, drift_chart, ranking_chart
    from quantviz.figures.data.style import COLOURS
    from quantviz.figures.data.words import by_bits, number, percent, times
    from quantviz.figures.inline import agreement_bars, agreement_lines, triangle_marks
    from quantviz.figures.interactive.attribution import attribution_figure
    from quantviz.figures.interactive.diagnosis import disagreement_figure, tensor_figure, tensors_figure
    from quantviz.figures.interactive.distribution import distribution_figure
    from quantviz.figures.interactive.grid import grid_figure
    from quantviz.figures.interactive.layers import depth_figure, floor_figure, ranked_figure
    from quantviz.figures.interactive.maps import maps_figure, predictions_figure
    from quantviz.figures.interactive.overlay import map_over, panel_pictures
    from quantviz.figures.interactive.pictures import cloud_figure, drops_figure, matrix_figure
    from quantviz.figures.interactive.published import agreement_figure, triangle_figure
    from quantviz.figures.interactive.search import bits_figure, front_figure
    from quantviz.figures.interactive.study import accuracy_figure, drift_figure, ranking_figure
    from quantviz.figures.print.drawn import drawn_print
    from quantviz.figures.print.maps import paper_png
    from quantviz.figures.print.page import Form
    from quantviz.figures.print.pictures import cloud_print, drops_print, matrix_print
    from quantviz.figures.print.study import accuracy_print, distribution_print, drift_print, ranking_print
else:
    # Each is imported when it is first asked for: a page waits for what it draws with, and for nothing else.
    _HOMES = {
        "shown_shares": "data.attribution",
        **dict.fromkeys(("LineChart", "Span"), "data.charts"),
        **dict.fromkeys(
            ("cloud_csv", "distribution_csv", "drops_csv", "line_csv", "matrix_csv", "rank_csv"), "data.chart_files"
        ),
        "distribution_chart": "data.distribution",
        **dict.fromkeys(("MOST_CLASSES", "ClassRow", "class_matrix", "picture_cloud"), "data.pictures"),
        **dict.fromkeys(("AccuracyMeasure", "accuracy_chart", "drift_chart", "ranking_chart"), "data.study"),
        "COLOURS": "data.style",
        **dict.fromkeys(("by_bits", "number", "percent", "times"), "data.words"),
        **dict.fromkeys(("agreement_bars", "agreement_lines", "triangle_marks"), "inline"),
        "attribution_figure": "interactive.attribution",
        **dict.fromkeys(("disagreement_figure", "tensor_figure", "tensors_figure"), "interactive.diagnosis"),
        "distribution_figure": "interactive.distribution",
        "grid_figure": "interactive.grid",
        **dict.fromkeys(("depth_figure", "floor_figure", "ranked_figure"), "interactive.layers"),
        **dict.fromkeys(("maps_figure", "predictions_figure"), "interactive.maps"),
        **dict.fromkeys(("map_over", "panel_pictures"), "interactive.overlay"),
        **dict.fromkeys(("cloud_figure", "drops_figure", "matrix_figure"), "interactive.pictures"),
        **dict.fromkeys(("agreement_figure", "triangle_figure"), "interactive.published"),
        **dict.fromkeys(("bits_figure", "front_figure"), "interactive.search"),
        **dict.fromkeys(("accuracy_figure", "drift_figure", "ranking_figure"), "interactive.study"),
        "drawn_csv": "data.drawn",
        "drawn_print": "print.drawn",
        "paper_png": "print.maps",
        "Form": "print.page",
        **dict.fromkeys(("cloud_print", "drops_print", "matrix_print"), "print.pictures"),
        **dict.fromkeys(("accuracy_print", "distribution_print", "drift_print", "ranking_print"), "print.study"),
    }

    __getattr__ = later(__name__, _HOMES)


__all__ = [
    "COLOURS",
    "MOST_CLASSES",
    "AccuracyMeasure",
    "ClassRow",
    "Form",
    "LineChart",
    "Span",
    "accuracy_chart",
    "accuracy_figure",
    "accuracy_print",
    "agreement_bars",
    "agreement_figure",
    "agreement_lines",
    "attribution_figure",
    "bits_figure",
    "by_bits",
    "class_matrix",
    "cloud_csv",
    "cloud_figure",
    "cloud_print",
    "depth_figure",
    "disagreement_figure",
    "distribution_chart",
    "distribution_csv",
    "distribution_figure",
    "distribution_print",
    "drawn_csv",
    "drawn_print",
    "drift_chart",
    "drift_figure",
    "drift_print",
    "drops_csv",
    "drops_figure",
    "drops_print",
    "floor_figure",
    "front_figure",
    "grid_figure",
    "line_csv",
    "map_over",
    "maps_figure",
    "matrix_csv",
    "matrix_figure",
    "matrix_print",
    "number",
    "panel_pictures",
    "paper_png",
    "percent",
    "picture_cloud",
    "predictions_figure",
    "rank_csv",
    "ranked_figure",
    "ranking_chart",
    "ranking_figure",
    "ranking_print",
    "shown_shares",
    "tensor_figure",
    "tensors_figure",
    "times",
    "triangle_figure",
    "triangle_marks",
]
