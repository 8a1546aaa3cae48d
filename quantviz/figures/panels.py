"""What every figure shows and in which words, before any drawing library is asked."""

from __future__ import annotations

import math
import textwrap
import threading
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from quantviz.specs import RGB, CamResult, Comparison, FloatMap, Heatmap

COLOURS: Final[dict[str, str]] = {"float": "#0072B2", "quantized": "#D55E00", "deployed": "#009E73"}
"""Blue, vermillion and bluish green of Okabe and Ito (2008): any colour vision tells them apart, on white and black."""

NEUTRAL: Final = "#F7F7F7"
"""Middle of the difference's palette, which runs from the float model's colour to the quantized model's."""

DRAWING: Final = threading.Lock()
"""Held while matplotlib draws: it promises nothing to concurrent threads, whatever they draw."""

_LIMITS = (0.05, 0.1, 0.2, 0.5, 1.0)  # the least is large enough that rounding noise stays neutral
_LUMA = np.array([0.299, 0.587, 0.114])

PanelKind = Literal["original", "saliency", "float", "quantized", "deployed", "difference"]


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
    """

    kind: PanelKind
    name: str
    values: FloatMap | None = None
    limit: float = 1.0
    problem: str = ""


def panels(comparison: Comparison, name: str = "") -> list[Panel]:
    """Return the panels in reading order: original, saliency, float, quantized, deployed, difference.

    Saliency and deployed are there where the comparison has them.

    Args:
        comparison: what to show.
        name: of the quantized model, "" for its bit-widths.
    """
    names = model_names(comparison) | ({"quantized": name} if name else {})
    reference, quantized = comparison.reference.heatmap, comparison.quantized.heatmap
    found = [Panel("original", "original")]
    if comparison.saliency is not None:
        found.append(_map_panel("saliency", "saliency", comparison.saliency.heatmap))
    found.append(_map_panel("float", names["float"], reference))
    found.append(_map_panel("quantized", names["quantized"], quantized))
    if comparison.deployed is not None:
        found.append(_map_panel("deployed", names["deployed"], comparison.deployed.result.heatmap))
    found.append(_difference_panel(reference, quantized))
    return found


def model_names(comparison: Comparison) -> dict[str, str]:
    """Return how the models are called, marked if untrained: ``"float"``, ``"W8A8"`` and ``"int8 deployed"``."""
    mark = "" if comparison.weights.trained else " UNTRAINED"
    quantized = f"{comparison.quant.label} simulated" if comparison.deployed is not None else comparison.quant.label
    return {"float": f"float{mark}", "quantized": f"{quantized}{mark}", "deployed": f"int8 deployed{mark}"}


def model_results(comparison: Comparison) -> dict[str, CamResult]:
    """Return the models' results by the keys of ``model_names``; deployed where there is one."""
    found = {"float": comparison.reference, "quantized": comparison.quantized}
    return found if comparison.deployed is None else found | {"deployed": comparison.deployed.result}


def grey(crop: RGB) -> RGB:
    """Return the luma (ITU-R BT.601) of a picture, uint8 (H, W, 3) to uint8 (H, W)."""
    luma: RGB = np.rint(crop @ _LUMA).astype(np.uint8)
    return luma


def percent(probability: float) -> str:
    """Return a probability as a reader's percentage; what rounds to none or to all of it is told as a bound."""
    if probability < 0.0005:
        return "<0.1 %"
    if probability > 0.9995:
        return ">99.9 %"
    return f"{probability:.0%}"[:-1] + " %" if 0.0995 <= probability < 0.995 else f"{100 * probability:.1f} %"


def class_name(comparison: Comparison, index: int) -> str:
    """Return the label of a class where either top-5 holds it, else ``"class 281"``."""
    results = model_results(comparison).values()
    named = {entry.index: entry.label for result in results for entry in result.predictions}
    return named.get(index, f"class {index}")


def explained(comparison: Comparison, result: CamResult) -> str:
    """Return the class that a map explains, with its model's own probability where its top-5 holds it."""
    own = {entry.index: entry.probability for entry in result.predictions}
    name = class_name(comparison, result.class_index)
    return f"{name} {percent(own[result.class_index])}" if result.class_index in own else f"{name}, below top-5"


def wrapped(text: str, width: int, *, lines: int = 2) -> list[str]:
    """Return a text on at most ``lines`` lines of ``width`` characters, cut with an ellipsis where it is longer.

    Characters that do not print (a file name may hold any) become spaces.
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    joined = printable.replace(" %", "\N{NO-BREAK SPACE}%")  # a number stays with its unit
    found = textwrap.wrap(joined, width, max_lines=lines, placeholder=" …") or [""]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in found]


def _map_panel(kind: PanelKind, name: str, heatmap: Heatmap) -> Panel:
    if heatmap.degenerate:
        return Panel(kind, name, problem=f"no evidence: {heatmap.degenerate}")
    return Panel(kind, name, heatmap.values)


def _difference_panel(reference: Heatmap, quantized: Heatmap) -> Panel:
    if reference.degenerate or quantized.degenerate:
        return Panel("difference", "difference", problem="no difference: a map carries no evidence")
    values = quantized.values - reference.values
    largest = float(np.abs(values).max())
    limit = next((step for step in _LIMITS if largest <= step), math.ceil(largest))
    return Panel("difference", f"difference, ±{limit:.2f}", values, limit)
