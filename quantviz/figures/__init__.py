"""Comparisons and layers to Plotly figures for the page and a PNG for a paper. Imports neither Streamlit nor torch.

Maps lie over the picture in grey, so that a hue always means a value of the colour bar. All functions may be called
from several threads.
"""

from quantviz.figures.interactive.choices import attribution_figure, bits_figure, front_figure, shown_shares
from quantviz.figures.interactive.distributions import distribution_figure
from quantviz.figures.interactive.grid import grid_figure
from quantviz.figures.interactive.layers import depth_figure, floor_figure, ranked_figure
from quantviz.figures.interactive.maps import maps_figure, predictions_figure
from quantviz.figures.interactive.study import accuracy_figure, drift_figure, ranking_figure
from quantviz.figures.layer_style import number, times
from quantviz.figures.panels import COLOURS
from quantviz.figures.print.maps import paper_png

__all__ = [
    "COLOURS",
    "accuracy_figure",
    "attribution_figure",
    "bits_figure",
    "depth_figure",
    "distribution_figure",
    "drift_figure",
    "floor_figure",
    "front_figure",
    "grid_figure",
    "maps_figure",
    "number",
    "paper_png",
    "predictions_figure",
    "ranked_figure",
    "ranking_figure",
    "shown_shares",
    "times",
]
