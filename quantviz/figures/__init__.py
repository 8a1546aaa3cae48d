"""A comparison to Plotly figures for the page and a PNG for a paper. Imports neither Streamlit nor torch.

Maps lie over the picture in grey, so that a hue always means a value of the colour bar. All functions may be called
from several threads.
"""

from quantviz.figures.interactive import maps_figure, predictions_figure
from quantviz.figures.panels import COLOURS
from quantviz.figures.paper import paper_png

__all__ = ["COLOURS", "maps_figure", "paper_png", "predictions_figure"]
