"""Results to figures: ``data`` prepares, ``interactive`` draws by Plotly for the page, ``print`` by matplotlib.

Maps lie over the picture in grey, so that a hue always means a value of the colour bar. All functions may be called
from several threads.
"""

from quantviz.figures.data.attribution import shown_shares
from quantviz.figures.data.distribution import distribution_chart
from quantviz.figures.data.study import AccuracyMeasure, accuracy_chart, drift_chart, ranking_chart
from quantviz.figures.data.style import COLOURS
from quantviz.figures.data.words import number, percent, times
from quantviz.figures.interactive.attribution import attribution_figure
from quantviz.figures.interactive.distribution import distribution_figure
from quantviz.figures.interactive.grid import grid_figure
from quantviz.figures.interactive.layers import depth_figure, floor_figure, ranked_figure
from quantviz.figures.interactive.maps import maps_figure, predictions_figure
from quantviz.figures.interactive.overlay import panel_pictures
from quantviz.figures.interactive.published import agreement_figure, triangle_figure
from quantviz.figures.interactive.search import bits_figure, front_figure
from quantviz.figures.interactive.study import accuracy_figure, drift_figure, ranking_figure
from quantviz.figures.print.maps import paper_png

__all__ = [
    "COLOURS",
    "AccuracyMeasure",
    "accuracy_chart",
    "accuracy_figure",
    "agreement_figure",
    "attribution_figure",
    "bits_figure",
    "depth_figure",
    "distribution_chart",
    "distribution_figure",
    "drift_chart",
    "drift_figure",
    "floor_figure",
    "front_figure",
    "grid_figure",
    "maps_figure",
    "number",
    "panel_pictures",
    "paper_png",
    "percent",
    "predictions_figure",
    "ranked_figure",
    "ranking_chart",
    "ranking_figure",
    "shown_shares",
    "times",
    "triangle_figure",
]
