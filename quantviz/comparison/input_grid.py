"""Whether a quantized file was calibrated with the preprocessing that it is given: what its input's grid covers."""

from __future__ import annotations

from typing import Final

import numpy as np

from quantviz.networks.onnx_files import Opened
from quantviz.networks.onnx_files.grids import Grid
from quantviz.networks.preprocessing import normalization_words, usual_normalizations
from quantviz.specs import Preprocessing

# Calibration by least and greatest values covers what pictures can be to a hundredth; by percentiles, to a tenth.
_FITS, _DIFFERS = 0.15, 0.3
_MOVING: Final = ("Transpose", "Identity", "Cast")


def calibrated_otherwise(opened: Opened, preprocessing: Preprocessing) -> str:
    """Return what the grid of a file's input says against a preprocessing, in a sentence; "" where nothing.

    Black to white, normalized, is a range that the calibration of a static quantizer reads off its pictures: -2.12 to
    2.64 with ImageNet's mean and deviation, -1 to 1 with 0.5. It is warned of where an end of the grid is further than
    0.3 of the preprocessing's range away and one of the usual normalizations comes within 0.15. Of a symmetric grid
    only the greatest size counts. Unlike known pictures, it needs no class names, and sees what networks hardly mind.

    Args:
        opened: a quantized file; one without a constant grid at its input says nothing.
        preprocessing: that the file is given.
    """
    grid = _grid_of_input(opened)
    if grid is None or _distance(grid, preprocessing) <= _DIFFERS:
        return ""
    near = [(_distance(grid, other), other) for other in usual_normalizations(preprocessing)]
    distance, best = min(near, key=lambda entry: entry[0])
    if distance > _FITS:
        return ""
    given, fitting = normalization_words(preprocessing), normalization_words(best)
    reach = _words(_reach(preprocessing))
    return (
        f"{opened.file.name} may have been calibrated with another normalization: its input's grid reaches "
        f"{_words(_ends(grid))}, as with {fitting}, but {given} makes {reach} of black to white; "
        "check mean, std and range."
    )


def _grid_of_input(opened: Opened) -> Grid | None:
    """Return the grid with one scale that the file's input is rounded to, whatever moves it before."""
    known = {entry.tensor: entry.grid for entry in opened.quantization.tensors if entry.role == "activation"}
    waiting, seen = [opened.form.name], set[str]()
    while waiting:
        name = waiting.pop()
        grid = known.get(name)
        if grid is not None:
            return grid if grid.scale.size == 1 else None
        seen.add(name)
        moving = [node for node in opened.graph.consumers.get(name, []) if node.op in _MOVING]
        waiting += [output for node in moving for output in node.outputs if output not in seen]
    return None


def _ends(grid: Grid) -> tuple[float, float]:
    scale, zero = float(grid.scale.flat[0]), int(grid.zero_point.flat[0])
    return (grid.quant_min - zero) * scale, (grid.quant_max - zero) * scale


def _reach(preprocessing: Preprocessing) -> tuple[float, float]:
    """Return the least and the greatest value that a pixel can be."""
    mean, std = np.array((preprocessing.mean, preprocessing.std), np.float64)
    top = 1 if preprocessing.range == "0-1" else 255
    values = np.concatenate([-mean / std, (top - mean) / std])
    return float(values.min()), float(values.max())


def _distance(grid: Grid, preprocessing: Preprocessing) -> float:
    """Return how far the ends of a grid are from a preprocessing's, in parts of the latter's range."""
    (low, high), (least, greatest) = _ends(grid), _reach(preprocessing)
    if grid.symmetric:
        reach = max(-least, greatest)
        return abs(max(-low, high) - reach) / reach
    return max(abs(low - least), abs(high - greatest)) / (greatest - least)


def _words(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"
