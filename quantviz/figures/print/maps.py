"""A figure for a paper, drawn by matplotlib's object interface: pyplot keeps global state and is not used."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from quantviz.figures.data.panels import Maps, Panel, class_labels, grey, panels
from quantviz.figures.data.style import COLOURS, NEUTRAL
from quantviz.figures.data.words import percent, wrapped
from quantviz.figures.print.page import FONT, SMALL, TEXT, WIDTH, file_bytes
from quantviz.specs import NetworkMap, Scores, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lengths in inches, text in points.
_EDGE, _GAP = 0.05, 0.06
_NAME_LINE, _SMALL_LINE = 0.125, 0.105
_BAR, _BAR_STRIP = 0.07, 0.27  # thickness of a colour bar; height of all that belongs to it
_OPACITY = 0.6
_FOOT_CHARACTERS = 138
_NAME_CHARACTERS = 20


def paper_png(comparison: Maps, *, dpi: float = 300) -> bytes:
    """Return a PNG, 7 inches wide on white, with all that its caption needs.

    Panels: image, saliency where there is one, float, quantized, deployed where there is one, and the difference
    quantized - float; of one network's map: image, saliency, map. The maps lie over the picture in grey; there is a
    colour bar for the maps and one for the difference. Each model's top-1 class and its probability stand above its
    map, the scores below it (SIM, CC, and KLD in nats; the second of a pair is the reference), and what everything was
    made with at the foot. No text is smaller than 6 points. The file's ``Description`` holds the settings as JSON, with
    whole digests. The same comparison gives the same bytes, however long it took and wherever it came from.

    Args:
        comparison: what to show.
        dpi: dots an inch, 50 to 1200.

    Raises:
        UsageError: the resolution is out of range.
    """
    if not 50 <= dpi <= 1200:
        raise UsageError(f"Figure resolution {dpi!r} dpi is not a number from 50 to 1200.")
    description = json.dumps(_settings(comparison), sort_keys=True)
    return file_bytes(partial(_draw, comparison, dpi), dpi, description=description)


def _draw(comparison: Maps, dpi: float) -> Figure:
    from matplotlib.figure import Figure

    shown = panels(comparison)
    titles = [_title_lines(comparison, panel) for panel in shown]
    scores = _score_rows(comparison)
    foot = _foot_lines(comparison)
    side = (WIDTH - 2 * _EDGE - (len(shown) - 1) * _GAP) / len(shown)
    tall = side * comparison.crop.shape[0] / comparison.crop.shape[1]
    head = _EDGE + _NAME_LINE + (max(map(len, titles)) - 1) * _SMALL_LINE + 0.02
    table = (1 + max(map(len, scores.values()), default=0)) * _SMALL_LINE + _EDGE
    height = head + tall + _BAR_STRIP + table + len(foot) * _SMALL_LINE + 2 * _EDGE
    sheet = _Sheet(Figure(figsize=(WIDTH, height), dpi=dpi, facecolor="white"), height)
    lefts = [_EDGE + number * (side + _GAP) for number in range(len(shown))]
    for left, panel, title in zip(lefts, shown, titles, strict=True):
        _draw_title(sheet, title, left + side / 2)
        _draw_panel(sheet.axes(left, head, side, tall), panel, comparison)
        if panel.kind in scores:
            _draw_scores(sheet, scores[panel.kind], left, head + tall + _BAR_STRIP, side)
    mapped = [left for left, panel in zip(lefts, shown, strict=True) if panel.kind not in ("original", "difference")]
    top = head + tall + 0.05
    if any(panel.values is not None and panel.kind != "difference" for panel in shown):
        bar = sheet.axes(mapped[0], top, mapped[-1] + side - mapped[0], _BAR)
        _draw_colour_bar(bar, "viridis", [0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    if shown[-1].kind == "difference" and shown[-1].values is not None:
        limit = shown[-1].limit
        bar = sheet.axes(lefts[-1], top, side, _BAR)
        _draw_colour_bar(bar, _diverging(), [-limit, 0, limit], [f"−{limit:g}", "0", f"+{limit:g}"])
    for number, line in enumerate(foot):
        sheet.text(_EDGE, height - _EDGE - (len(foot) - number) * _SMALL_LINE, line, size=SMALL)
    return sheet.figure


class _Sheet:
    """A figure on which everything is placed in inches from the upper left corner."""

    def __init__(self, figure: Figure, height: float) -> None:
        self.figure = figure
        self._height = height

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return new axes without ticks."""
        bottom = self._height - top - height
        place = (left / WIDTH, bottom / self._height, width / WIDTH, height / self._height)
        axes = self.figure.add_axes(place)
        axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        return axes

    def text(self, x: float, top: float, text: str, *, size: float, **style: Any) -> None:
        """Write one line; a dollar sign in a user's file name must not start a formula."""
        style = {"va": "top", "family": FONT, "color": "black", "parse_math": False, **style}
        self.figure.text(x / WIDTH, 1 - top / self._height, _drawable(text), size=size, **style)


def _draw_title(sheet: _Sheet, lines: Sequence[str], middle: float) -> None:
    sheet.text(middle, _EDGE, lines[0], size=TEXT, ha="center", weight="bold")
    for number, line in enumerate(lines[1:]):
        sheet.text(middle, _EDGE + _NAME_LINE + number * _SMALL_LINE, line, size=SMALL, ha="center")


def _draw_panel(axes: Axes, panel: Panel, comparison: Maps) -> None:
    if panel.kind == "original":
        axes.imshow(comparison.crop, interpolation="bilinear", aspect="auto")
        return
    axes.imshow(grey(comparison.crop), cmap="gray", vmin=0, vmax=255, interpolation="bilinear", aspect="auto")
    if panel.values is None:
        reason = _drawable("\n".join(wrapped(panel.problem, 22, lines=5)))
        style: dict[str, Any] = {"ha": "center", "va": "center", "family": FONT, "color": "black"}
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        axes.text(0.5, 0.5, reason, size=SMALL, transform=axes.transAxes, parse_math=False, **style)
        return
    low, colours = (-panel.limit, _diverging()) if panel.kind == "difference" else (0, "viridis")
    scale: dict[str, Any] = {"cmap": colours, "vmin": low, "vmax": panel.limit}
    axes.imshow(panel.values, alpha=_OPACITY, interpolation="bilinear", aspect="auto", **scale)


def _draw_scores(sheet: _Sheet, rows: list[tuple[str, Scores]], left: float, top: float, width: float) -> None:
    """Write a small table: the pair, then SIM, CC and KLD in columns that end at the same place."""
    ends = [left + width * part for part in (0.53, 0.77, 1.0)]
    for end, heading in zip(ends, ("SIM", "CC", "KLD"), strict=True):
        sheet.text(end, top, heading, size=SMALL, ha="right")
    for number, (pair, values) in enumerate(rows, start=1):
        line = top + number * _SMALL_LINE
        sheet.text(left, line, pair, size=SMALL)
        for end, value in zip(ends, (values.sim, values.cc, values.kld), strict=True):
            sheet.text(end, line, _number(value), size=SMALL, ha="right")


def _number(value: float | None) -> str:
    """Return a score with three decimals and no zero before them, never rounded to a claim of perfect agreement."""
    if value is None:
        return "–"
    if 0 < value < 0.0005:
        return "<.001"
    if 0.9995 <= value < 1:
        return ">.999"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}").replace("-", "−")


def _draw_colour_bar(axes: Axes, colours: Any, ticks: list[float], labels: list[str]) -> None:
    import numpy as np

    axes.imshow(
        np.linspace(0, 1, 256)[None], cmap=colours, vmin=0, vmax=1, aspect="auto", extent=(ticks[0], ticks[-1], 0, 1)
    )
    axes.tick_params(bottom=True, labelbottom=True, labelsize=SMALL, length=1.5, width=0.5, pad=1)
    axes.set_xticks(ticks, labels, family=FONT, color="black")
    # Inwards at both ends, or the outermost labels would leave the figure.
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("difference", [COLOURS["float"], NEUTRAL, COLOURS["quantized"]])


def _drawable(text: str) -> str:
    """Return a text whose letters the font has, a question mark for each that it lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family=FONT)))
    return "".join(letter if letter == "\n" or font.get_char_index(ord(letter)) else "?" for letter in text)


def _title_lines(comparison: Maps, panel: Panel) -> list[str]:
    second = {
        "original": "",
        "saliency": comparison.saliency.source if comparison.saliency is not None else "",
        "difference": "" if isinstance(comparison, NetworkMap) else f"{comparison.quant.label} − float",
    }
    if panel.result is not None:
        top = panel.result.predictions[0]
        second = {panel.kind: f"top-1 {top.label} {percent(top.probability)}"}
    name, below = panel.name, wrapped(second[panel.kind], 27)
    if len(name) > _NAME_CHARACTERS:  # six panels leave less room for a name
        name = name.removesuffix(" UNTRAINED")
        below = ["UNTRAINED weights", *below]
    return [name, *below]


def _score_rows(comparison: Maps) -> dict[str, list[tuple[str, Scores]]]:
    """Return the rows of the tables under the models' panels."""
    scores = comparison.scores
    if isinstance(comparison, NetworkMap):
        return {"map": [("v saliency", marks) for marks in scores.values()]} if scores else {}
    rows = {"quantized": [("v float", scores["quantized_v_float"])]}
    if comparison.saliency is not None:
        named = "v saliency" if comparison.deployed is None else "v sal."
        rows["float"] = [(named, scores["float_v_saliency"])]
        rows["quantized"].append((named, scores["quantized_v_saliency"]))
    if comparison.deployed is not None:
        names = {"quantized": "v simul.", "float": "v float", "saliency": "v sal."}
        third = comparison.deployed.scores
        rows["deployed"] = [
            (name, third[f"deployed_v_{key}"]) for key, name in names.items() if f"deployed_v_{key}" in third
        ]
    return rows


def _foot_lines(comparison: Maps) -> list[str]:
    weights = comparison.weights
    height, width = comparison.crop.shape[:2]
    parts = [
        comparison.model,
        f"weights {_cut(weights.name)} ({weights.source})" if weights.trained else "weights UNTRAINED",
        *([] if isinstance(comparison, NetworkMap) else [comparison.quant.title]),
        f"{comparison.cam.method} at {comparison.cam.layer}",
        _classes(comparison),
        *_calibration(comparison),
        f"maps at {width} × {height} px",
        f"quantviz {comparison.versions['quantviz']}",
    ]
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) <= _FOOT_CHARACTERS:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _calibration(comparison: Maps) -> list[str]:
    calibration = None if isinstance(comparison, NetworkMap) else comparison.calibration
    return [f"calibration: {calibration.images} inputs from {_cut(calibration.source)}"] if calibration else []


def _classes(comparison: Maps) -> str:
    if isinstance(comparison, NetworkMap):
        return f"class explained: {_indexed(comparison, comparison.result.class_index)}"
    first, second = comparison.reference.class_index, comparison.quantized.class_index
    if first == second:
        return f"class explained: {_indexed(comparison, first)}"
    own = f"{_indexed(comparison, first)} (float), {_indexed(comparison, second)} ({comparison.quant.label})"
    return f"classes explained: {own}"


def _indexed(comparison: Maps, index: int) -> str:
    label = class_labels(comparison).get(index)
    return str(index) if label is None else f"{index} {label}"


def _cut(name: str) -> str:
    """Return a file's or folder's name, its middle left out where it is long."""
    return name if len(name) <= 40 else f"{name[:24]}…{name[-15:]}"


def _settings(comparison: Maps) -> dict[str, Any]:
    """Return what decides the figure; not what differs between two runs, such as the time taken."""
    common = {
        "model": comparison.model,
        "weights": asdict(comparison.weights),
        "cam": asdict(comparison.cam),
        "class_rule": comparison.class_rule,
        "image": {"name": comparison.sample.name, "sha256": comparison.sample.id},
        "saliency": None if comparison.saliency is None else comparison.saliency.source,
        "scores": {pair: asdict(values) for pair, values in comparison.scores.items()},
        "versions": dict(comparison.versions),
    }
    if isinstance(comparison, NetworkMap):
        return common | {"class_index": comparison.result.class_index}
    deployed = comparison.deployed
    return common | {
        "quantization": asdict(comparison.quant),
        "calibration": asdict(comparison.calibration) if comparison.calibration else None,
        "class_index": {"float": comparison.reference.class_index, "quantized": comparison.quantized.class_index},
        "backend": comparison.backend,
        "deployed": deployed and {pair: asdict(values) for pair, values in deployed.scores.items()},
    }
