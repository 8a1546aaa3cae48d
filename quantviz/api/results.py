"""What comparing and explaining give: numbers, figures, files, and how a notebook shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantviz.api.files import check_folder, make_folder, write_file
from quantviz.api.page import Page, PagePanel, PageTable
from quantviz.comparison import FaithfulnessRow, arrays, deployed_words, npz_bytes, result_data
from quantviz.comparison.output import map_arrays, map_data, npz_of
from quantviz.specs import CamResult, Comparison, Cost, FloatMap, MetricTable, NetworkMap, Prediction, Scores

if TYPE_CHECKING:
    import plotly.graph_objects as go

_UNTRAINED = "UNTRAINED (random) weights: a sanity control, not a model"


class _Shown:
    """What both kinds of results share."""

    def _page(self, *, pictures: bool) -> Page:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._page(pictures=False).text()

    def _repr_html_(self) -> str:
        return self._page(pictures=True).html()


@dataclass(frozen=True, repr=False, eq=False)
class ComparisonResult(_Shown):
    """What comparing a float and a quantized network on one picture gives; from ``quantviz.compare``.

    A notebook shows it with its maps; ``print`` gives a few lines.

    Attributes:
        comparison: everything at once: maps, predictions, settings; a frozen value whose parts are described where they
            are defined, in ``quantviz.specs``.
        metrics: tables by further metrics, one a reference, where they were asked for.
        faithfulness: deletion, insertion and ROAD of each network's own map, where they were asked for.
        cost: size and operations of the quantized network, where they are known.
        others: comparisons of the same float network with further quantized files, by their names.

    Example:
        >>> import quantviz as qv
        >>> result = qv.compare("coffee", bits="W8A8")
        >>> result.flipped
        False
        >>> result.scores["quantized_v_float"].cc > 0.9
        True
    """

    comparison: Comparison
    metrics: Sequence[MetricTable] = ()
    faithfulness: Sequence[FaithfulnessRow] = ()
    cost: Cost | None = None
    others: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Scores]:
        """Agreement of each pair of maps, by name: ``"quantized_v_float"``, ``"float_v_saliency"`` and so on.

        Each has ``sim``, ``cc`` and ``kld``, None where a map carries no evidence. The second of a pair is the
        reference.
        """
        deployed = self.comparison.deployed
        return {**self.comparison.scores, **(deployed.scores if deployed else {})}

    @property
    def maps(self) -> dict[str, FloatMap]:
        """The maps by name, float32 in [0, 1].

        ``float`` and ``quantized``, and ``saliency`` and ``deployed`` where there are any, are (H, W) at the input's
        resolution; ``float_native`` and ``quantized_native`` are on the target layer's grid.
        """
        return arrays(self.comparison)

    @property
    def predictions(self) -> dict[str, tuple[Prediction, ...]]:
        """The five most probable classes of ``"float"`` and ``"quantized"``, and of ``"deployed"`` where it ran."""
        return {name: result.predictions for name, result in _results(self.comparison).items()}

    @property
    def flipped(self) -> bool:
        """True when quantization changed the most probable class."""
        return self.comparison.flipped

    @property
    def verdict(self) -> str:
        """One sentence: where the quantized network looks."""
        return _verdict(self.comparison)

    def plot(self, *, opacity: float = 0.6) -> go.Figure:
        """Return the picture and its maps side by side as a Plotly figure.

        Args:
            opacity: of the maps over the picture, in [0, 1].

        Raises:
            UsageError: the opacity is out of range.
        """
        from quantviz.figures import maps_figure

        return maps_figure(self.comparison, opacity=opacity)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the maps as JSON-able data: what `quantviz compare --json` writes."""
        return result_data(self.comparison, self.metrics, self.faithfulness, self.cost, self.others)

    def save(self, folder: str | Path) -> Path:
        """Write ``result.json``, ``maps.npz`` and ``figure.png``, the files of `quantviz compare`, into a folder.

        Args:
            folder: made where it does not exist.

        Returns:
            The folder.

        Raises:
            UsageError: the folder cannot be made or written.
            QuantvizError: the disk refuses.
        """
        return _saved(Path(folder), self.to_dict(), npz_bytes(self.comparison, self.others), self.comparison)

    def _page(self, *, pictures: bool) -> Page:
        shown = self.comparison
        weights = shown.weights
        parts = (
            f"{_picture(shown)}: {shown.model} ({weights.name}), float against {shown.quant.label}",
            f"{shown.cam.method} at {shown.cam.layer}, {_class_words(shown)}",
        )
        degenerate = [
            f"The {name} map carries no evidence ({why}) and is not scored." for name, why in shown.degenerate.items()
        ]
        flip = [f"Label flip: {_top(shown.reference)} to {_top(shown.quantized)}."] if shown.flipped else []
        notes = [*shown.sample.notes, weights.note, shown.backend_note, *shown.notes]
        further = [_verdict(other) for other in self.others.values()]
        return Page(
            verdict=" ".join([self.verdict, *flip, *further]),
            made="; ".join(parts),
            panels=_panels(shown) if pictures else (),
            tables=(_prediction_table(shown), _score_table(self.scores, shown.quant.label)),
            notes=[*degenerate, *filter(None, [deployed_words(shown)]), *(f"Note: {note}" for note in notes if note)],
            warning="" if weights.trained else _UNTRAINED,
        )


@dataclass(frozen=True, repr=False, eq=False)
class ExplanationResult(_Shown):
    """One network's map of one picture; from ``quantviz.explain``. A notebook shows it as a picture.

    Attributes:
        explanation: everything at once: the map, predictions, settings; a frozen value.
    """

    explanation: NetworkMap

    @property
    def scores(self) -> dict[str, Scores]:
        """Agreement of the map with the picture's saliency, ``"map_v_saliency"``; empty without a saliency."""
        return dict(self.explanation.scores)

    @property
    def map(self) -> FloatMap:
        """The map, float32 (H, W) in [0, 1], at the input's resolution."""
        return self.explanation.result.heatmap.values

    @property
    def native(self) -> FloatMap:
        """The map, float32 (h, w) in [0, 1], on the target layer's own grid."""
        return self.explanation.result.native.values

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The five most probable classes."""
        return self.explanation.result.predictions

    def plot(self, *, opacity: float = 0.6) -> go.Figure:
        """Return the picture and its map side by side as a Plotly figure.

        Args:
            opacity: of the map over the picture, in [0, 1].

        Raises:
            UsageError: the opacity is out of range.
        """
        from quantviz.figures import maps_figure

        return maps_figure(self.explanation, opacity=opacity)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the map as JSON-able data; the keys are those of a comparison."""
        return map_data(self.explanation)

    def save(self, folder: str | Path) -> Path:
        """Write ``result.json``, ``maps.npz`` and ``figure.png`` into a folder, and return it.

        Args:
            folder: made where it does not exist.

        Raises:
            UsageError: the folder cannot be made or written.
            QuantvizError: the disk refuses.
        """
        return _saved(Path(folder), self.to_dict(), npz_of(map_arrays(self.explanation)), self.explanation)

    def _page(self, *, pictures: bool) -> Page:
        shown = self.explanation
        top = shown.result.predictions[0]
        scored = [_score_table(self.scores)] if self.scores else []
        return Page(
            verdict=f"{shown.model} says {top.label} ({top.probability:.1%}).",
            made=f"{_picture(shown)}: {shown.cam.method} at {shown.cam.layer}, {_explained(shown.result)}",
            panels=_panels(shown) if pictures else (),
            tables=(PageTable(("top-5", ""), _rows(shown.result)), *scored),
            notes=[*_degenerate(shown), *(f"Note: {note}" for note in (*shown.sample.notes, *shown.notes))],
            warning="" if shown.weights.trained else _UNTRAINED,
        )


def _results(comparison: Comparison) -> dict[str, CamResult]:
    results = {"float": comparison.reference, "quantized": comparison.quantized}
    return results if comparison.deployed is None else results | {"deployed": comparison.deployed.result}


def _picture(shown: Comparison | NetworkMap) -> str:
    return shown.sample.name or "picture"


def _degenerate(shown: Comparison | NetworkMap) -> list[str]:
    return [f"The {name} map carries no evidence ({why}) and is not scored." for name, why in shown.degenerate.items()]


def _verdict(comparison: Comparison) -> str:
    return f"At {comparison.quant.label}, {comparison.model} {comparison.verdict.sentence}"


def _class_words(comparison: Comparison) -> str:
    if comparison.reference.class_index != comparison.quantized.class_index:
        return f"{_explained(comparison.reference)} (float) and {_explained(comparison.quantized)} (quantized)"
    rules = {"float": "the float network's top-1", "own": "each network's own top-1"}
    return f"{_explained(comparison.reference)} ({rules.get(str(comparison.class_rule), 'chosen')})"


def _explained(result: CamResult) -> str:
    named = {entry.index: f" {entry.label}" for entry in result.predictions}
    return f"class {result.class_index}{named.get(result.class_index, '')}"


def _top(result: CamResult) -> str:
    return result.predictions[0].label


def _panels(shown: Comparison | NetworkMap) -> list[PagePanel]:
    from quantviz.figures import panel_pictures

    return [PagePanel(panel.name, second, picture, panel.problem) for panel, second, picture in panel_pictures(shown)]


def _rows(result: CamResult) -> list[tuple[str, str]]:
    return [(entry.label, f"{entry.probability:.1%}") for entry in result.predictions]


def _prediction_table(comparison: Comparison) -> PageTable:
    results = _results(comparison)
    names = {"float": "float", "quantized": comparison.quant.label, "deployed": "deployed"}
    head = [cell for name in results for cell in (f"{names[name]} top-5", "")]
    rows = [[cell for row in pair for cell in row] for pair in zip(*map(_rows, results.values()), strict=True)]
    return PageTable(head, rows, left=range(0, len(head), 2))


def _score_table(marks: Mapping[str, Scores], label: str = "quantized") -> PageTable:
    rows = []
    for name, values in marks.items():
        numbers = ("-" if value is None else f"{value:.4f}" for value in (values.sim, values.cc, values.kld))
        rows.append((name.replace("_v_", " v ").replace("quantized", label), *numbers))
    return PageTable(("agreement", "SIM", "CC", "KLD"), rows)


def _saved(folder: Path, data: dict[str, Any], maps: bytes, shown: Comparison | NetworkMap) -> Path:
    from quantviz.figures import paper_png

    check_folder(folder)
    make_folder(folder)
    write_file(folder / "result.json", (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())
    write_file(folder / "maps.npz", maps)
    write_file(folder / "figure.png", paper_png(shown))
    return folder
