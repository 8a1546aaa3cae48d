"""What modules of a network carry for the steps that take maps of it or quantize it, as attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LAYOUT: Final = "grid_layout"
"""Name of the attribute by which a module carries its output's ``GridLayout``; modules without it give (N, C, h, w)."""

UNUSED: Final = "unused_in_eval"
"""Name of the attribute, True, of convolution and linear layers whose weights eval mode leaves alone."""


@dataclass(frozen=True, slots=True)
class GridLayout:
    """The layout of an activation that is a grid.

    Attributes:
        kind: ``"tokens"``, (N, prefix + h * w, C) row by row; or ``"channels last"``, (N, h, w, C).
        height: h, rows of the grid.
        width: w, columns of the grid.
        prefix: tokens before the grid's that stand for no place: class, distillation and register tokens.
    """

    kind: Literal["tokens", "channels last"]
    height: int
    width: int
    prefix: int = 0
