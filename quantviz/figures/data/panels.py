"""What every figure shows and in which words, before any drawing library is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quantviz.figures.data.words import percent
from quantviz.specs import RGB, CamResult, Comparison, FloatMap, Heatmap, NetworkMap

_LIMITS = (0.05, 0.1, 0.2, 0.5, 1.0)  # the least is large enough that rounding noise stays neutral
_LUMA = np.array([0.299, 0.587, 0.114])

PanelKind = Literal["original", "saliency", "map", "float", "quantized", "deployed", "difference"]
Maps = Comparison | NetworkMap
"""What panels are made of: two networks' maps, or one network's (of kind ``"map"``)."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One of the pictures that stand side by side.

    Attributes:
        kind: what it shows.
        name: first line of its title; names the value under the pointer too.
        values: float32 (H, W) to lay over the picture, in [0, 1] or, for the difference, in [-limit, limit];
            None where there is nothing to lay over it.
        limit: half the width of the difference's scale, else 1.
        problem: why there is no map, or "" when there is one.
        result: of the network whose map it is; None where it is no network's.
    """

    kind: PanelKind
    name: str
    values: FloatMap | None = None
    limit: float = 1.0
    problem: str = ""
    result: CamResult | None = None


def panels(comparison: Maps, name: str = "") -> list[Panel]:
    """Return the panels in reading order: original, saliency, float, quantized, deployed, difference.

    Saliency and deployed are there where the comparison has them. Of one network's map: original, saliency, map.

    Args:
        comparison: what to show.
        name: of the quantized model, "" for its bit-widths.
    """
    names = model_names(comparison) | ({"quantized": name} if name else {})
    row = [Panel("original", "original")]
    if comparison.saliency is not None:
        row.append(_map_panel("saliency", "saliency", comparison.saliency.heatmap))
    row += [_map_panel(kind, names[kind], result.heatmap, result) for kind, result in model_results(comparison).items()]
    if isinstance(comparison, NetworkMap):
        return row
    return [*row, _difference_panel(comparison.reference.heatmap, comparison.quantized.heatmap)]


def model_names(comparison: Maps) -> dict[PanelKind, str]:
    """Return how the models are called, marked if untrained: ``"float"``, ``"W8A8"`` and ``"int8 deployed"``."""
    mark = "" if comparison.weights.trained else " UNTRAINED"
    if isinstance(comparison, NetworkMap):
        return {"map": f"{comparison.model}{mark}"}
    quantized = f"{comparison.quant.label} simulated" if comparison.deployed is not None else comparison.quant.label
    return {"float": f"float{mark}", "quantized": f"{quantized}{mark}", "deployed": f"int8 deployed{mark}"}


def model_results(comparison: Maps) -> dict[PanelKind, CamResult]:
    """Return the models' results by the keys of ``model_names``; deployed where there is one."""
    if isinstance(comparison, NetworkMap):
        return {"map": comparison.result}
    results: dict[PanelKind, CamResult] = {"float": comparison.reference, "quantized": comparison.quantized}
    return results if comparison.deployed is None else results | {"deployed": comparison.deployed.result}


def grey(crop: RGB) -> RGB:
    """Return the luma (ITU-R BT.601) of a picture, uint8 (H, W, 3) to uint8 (H, W)."""
    luma: RGB = np.rint(crop @ _LUMA).astype(np.uint8)
    return luma


def class_labels(comparison: Maps) -> dict[int, str]:
    """Return index -> label of the classes in the models' top-5, in the order of the models."""
    results = model_results(comparison).values()
    return {entry.index: entry.label for result in results for entry in result.predictions}


def explained(comparison: Maps, result: CamResult) -> str:
    """Return the class that a map explains, with its model's own probability where its top-5 holds it."""
    own = {entry.index: entry.probability for entry in result.predictions}
    name = class_labels(comparison).get(result.class_index, f"class {result.class_index}")
    return f"{name} {percent(own[result.class_index])}" if result.class_index in own else f"{name}, below top-5"


def _map_panel(kind: PanelKind, name: str, heatmap: Heatmap, result: CamResult | None = None) -> Panel:
    if heatmap.degenerate:
        return Panel(kind, name, problem=f"no evidence: {heatmap.degenerate}", result=result)
    return Panel(kind, name, heatmap.values, result=result)


def _difference_panel(reference: Heatmap, quantized: Heatmap) -> Panel:
    if reference.degenerate or quantized.degenerate:
        return Panel("difference", "difference", problem="no difference: a map carries no evidence")
    values = quantized.values - reference.values
    largest = float(np.abs(values).max())
    limit = next((step for step in _LIMITS if largest <= step), math.ceil(largest))
    return Panel("difference", f"difference, ±{limit:.2f}", values, limit)
