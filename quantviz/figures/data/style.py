"""Colours, symbols and dashes of every figure: one look for one meaning, by Plotly's names.

Colours are those of Okabe and Ito (2008), which any colour vision tells apart, on white and on black.
"""

from __future__ import annotations

from typing import Final

BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"

GREY: Final = "#8A8A8A"
"""Lines that are read against, on white and on black."""

NEUTRAL: Final = "#F7F7F7"
"""Middle of the difference's palette, which runs from the float network's colour to the quantized network's."""

COLOURS: Final[dict[str, str]] = {"float": BLUE, "quantized": VERMILLION, "deployed": GREEN}
"""Network of a comparison -> its colour."""

KINDS: Final = {
    "conv": ("convolution", BLUE, "circle"),
    "depthwise": ("depthwise convolution", ORANGE, "diamond"),
    "linear": ("linear", GREEN, "square"),
}
"""Kind of layer -> words, colour and symbol, so that colour is never the only difference."""

NETWORKS: Final = (
    (BLUE, "circle"),
    (ORANGE, "square"),
    (GREEN, "diamond"),
    (PURPLE, "triangle-up"),
    (SKY, "triangle-down"),
    (VERMILLION, "star"),
    (GREY, "hexagon"),
)
"""Colour and symbol of each network of a study in turn."""

DASHES: Final = ("solid", "dot", "dash", "dashdot", "longdash")
"""Line of each protocol of a study in turn."""

BIT_WIDTHS: Final = (BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE)
"""Colour of each bit-width in turn, from cold to hot: the most bits first."""
