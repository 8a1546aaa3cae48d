"""Comparisons and layers to Plotly figures for the page and a PNG for a paper. Imports neither Streamlit nor torch.

Maps lie over the picture in grey, so that a hue always means a value of the colour bar. All functions may be called
from several threads.
"""

from quantviz.figures.choices import attribution_figure, bits_figure, front_figure, shown_shares
from quantviz.figures.interactive import maps_figure, predictions_figure
from quantviz.figures.layers import depth_figure, floor_figure, ranked_figure
from quantviz.figures.marks import number, times
from quantviz.figures.panels import COLOURS
from quantviz.figures.paper import paper_png

__all__ = [
    "COLOURS",
    "attribution_figure",
    "bits_figure",
    "depth_figure",
    "floor_figure",
    "front_figure",
    "maps_figure",
    "number",
    "paper_png",
    "predictions_figure",
    "ranked_figure",
    "shown_shares",
    "times",
]
