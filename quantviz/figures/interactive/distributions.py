"""Plotly figure of how a score is spread over a study's pictures, as boxes or violins."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from quantviz.figures.layer_style import GREY, frame
from quantviz.specs import UsageError
from quantviz.study.specs.table import StudyTable

DistributionKind = Literal["box", "violin"]

ORDERED: Final = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
"""Colours of Okabe and Ito (2008) from cold to hot: bit-widths, the most bits first."""

_KINDS: Final = ("box", "violin")
_MOST_OUTLIERS = 24  # a box; of more, the furthest and evenly chosen ones
_GRID = 80  # places at which a violin's density is drawn
_BINS = 512
_ROOM = 0.84  # of the distance between two models, shared by the bit-widths

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How values are spread.

    Attributes:
        n: how many.
        mean: their mean.
        sd: standard deviation, n - 1 in the denominator; 0 for one value.
        quartiles: first quartile, median and third quartile, interpolated linearly.
        whiskers: least and greatest value within 1.5 interquartile ranges of the quartiles (Tukey 1977).
        outliers: values beyond the whiskers, ascending, float64; of many, an even choice that holds both ends.
        beyond: how many values lie beyond the whiskers.
    """

    n: int
    mean: float
    sd: float
    quartiles: tuple[float, float, float]
    whiskers: tuple[float, float]
    outliers: Values
    beyond: int


def distribution_figure(
    table: StudyTable,
    comparison: str,
    metric: str,
    protocol: str,
    kind: DistributionKind = "box",
    *,
    chosen: npt.NDArray[np.bool_] | None = None,
) -> go.Figure:
    """Return how a score is spread over the pictures: a group for each model, in it a box or violin a bit-width.

    Boxes are as ``spread`` tells, with dots for values beyond the whiskers (24 a box at most); violins as ``density``,
    each as wide as the others. The diamond is the mean; hovering over it tells the numbers. What is drawn is summed up
    here, so that the figure's size does not depend on the number of pictures.

    Args:
        table: the study.
        comparison: of ``COMPARISONS``, ``"quantized_v_float"`` say.
        metric: ``"cc"`` say.
        protocol: of the study.
        kind: ``"box"`` or ``"violin"``.
        chosen: bool (cells, pictures), which values count; None for all.

    Raises:
        UsageError: the study has no such column or protocol, or the kind is unknown.
    """
    column = f"{comparison}_{metric}"
    _check(table, column, protocol, kind)
    known = ~np.isnan(table.columns[column]) & (True if chosen is None else chosen)
    rows = [row for row, cell in enumerate(table.cells) if cell[2] == protocol and known[row].any()]
    models = list(dict.fromkeys(table.cells[row][0] for row in rows))
    settings = by_bits({table.cells[row][1] for row in rows})[::-1]
    figure = go.Figure()
    for place, setting in enumerate(settings):
        shift = ((place + 0.5) / len(settings) - 0.5) * _ROOM
        found = [row for row in rows if table.cells[row][1] == setting]
        groups = [(models.index(table.cells[row][0]) + shift, table.columns[column][row, known[row]]) for row in found]
        figure.add_traces(_traces(groups, setting, place, kind, 0.86 * _ROOM / len(settings)))
    untrained = [model.name for model in table.plan.models if not model.weights.trained]
    figure.update_xaxes(**models_axis(models, untrained))
    words = f"{metric_name(metric)}, {comparison.replace('_', ' ')}"
    figure.update_yaxes(title={"text": words, "font": {"size": 12}}, zeroline=False, automargin=True)
    figure.update_layout(**frame(460), hovermode="closest")
    return figure


def spread(values: Values) -> Spread:
    """Return how values, float64 (n,) without NaN and n > 0, are spread."""
    first, median, third = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    reach = 1.5 * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    beyond = np.sort(values[(values < first - reach) | (values > third + reach)])
    drawn = beyond
    if len(beyond) > _MOST_OUTLIERS:
        drawn = beyond[np.linspace(0, len(beyond) - 1, _MOST_OUTLIERS).round().astype(np.intp)]
    # No value lies between the quartiles' own bounds and the whiskers where all values are outliers of a point.
    low, high = min(float(inside.min()), first), max(float(inside.max()), third)
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Spread(len(values), float(values.mean()), sd, (first, median, third), (low, high), drawn, len(beyond))


def density(values: Values, points: int = _GRID) -> tuple[Values, Values]:
    """Return places from the least to the greatest value, and a Gaussian kernel density there, 1 at its highest.

    The bandwidth is 0.9 min(sd, IQR / 1.34) n^(-1/5) (Silverman, Density Estimation, 1986, equation 3.31); values are
    counted in 512 bins first. All values alike give one place.

    Args:
        values: float64 (n,) without NaN, n > 0.
        points: how many places.
    """
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-12 * max(abs(low), abs(high), 1.0):
        return np.array([low]), np.array([1.0])
    counts, edges = np.histogram(values, _BINS, (low, high))
    first, third = np.quantile(values, (0.25, 0.75))
    scales = [scale for scale in (float(values.std(ddof=1)), float(third - first) / 1.34) if scale > 0]
    width = max(0.9 * min(scales) * len(values) ** -0.2, (high - low) / _BINS)
    places = np.linspace(low, high, points)
    steps = (places[:, None] - (edges[:-1] + edges[1:])[None, :] / 2) / width
    found: Values = np.exp(-0.5 * steps**2) @ counts
    return places, found / found.max()


def by_bits(labels: Sequence[str] | set[str]) -> list[str]:
    """Return labels of bit-widths, the fewest weight bits first, then the fewest activation bits; weight-only last."""

    def bits(label: str) -> tuple[int, int, str]:
        weight = re.search(r"W(\d+)", label)
        act = re.search(r"A(\d+)", label)
        return int(weight[1]) if weight else 33, int(act[1]) if act else 32, label

    return sorted(labels, key=bits)


def metric_name(metric: str) -> str:
    """Return a score's name as readers know it: ``"CC"``, ``"AUC Judd"``."""
    first, *rest = metric.split("_")
    return " ".join([first.upper(), *(word.capitalize() for word in rest)])


def models_axis(models: Sequence[str], untrained: Sequence[str]) -> dict[str, Any]:
    """Return an x axis with a place for each model, those of random weights marked."""
    return {
        "tickvals": list(range(len(models))),
        "ticktext": [marked(model, untrained, "<br>") for model in models],
        "range": [-0.5, max(len(models), 1) - 0.5],
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
    }


def marked(model: str, untrained: Sequence[str], between: str = " ") -> str:
    """Return a model's name as HTML, marked where its weights are random."""
    return html.escape(model) + (f"{between}UNTRAINED" if model in untrained else "")


def _check(table: StudyTable, column: str, protocol: str, kind: str) -> None:
    if column not in table.columns:
        raise UsageError(f"The study has no score {column!r}; it has {', '.join(table.columns)}.")
    if protocol not in table.plan.protocols:
        raise UsageError(f"The study has no protocol {protocol!r}; use one of {', '.join(table.plan.protocols)}.")
    if kind not in _KINDS:
        raise UsageError(f"DistributionKind {kind!r} is unknown; use one of {', '.join(_KINDS)}.")


def _traces(
    groups: Sequence[tuple[float, Values]], setting: str, place: int, kind: DistributionKind, width: float
) -> list[go.Box | go.Scatter]:
    """Return the traces of one bit-width: its boxes or violins, dots beyond the whiskers, and the means."""
    colour = ORDERED[place % len(ORDERED)]
    spreads = [(x, spread(values)) for x, values in groups]
    shared = {"legendgroup": setting, "name": setting}
    dark = {"color": GREY, "width": 1}
    means = go.Scatter(
        x=[x for x, _ in spreads],
        y=[found.mean for _, found in spreads],
        mode="markers",
        marker={"symbol": "diamond", "size": 7, "color": "#FFFFFF", "line": {"color": "#000000", "width": 1}},
        hovertext=[_hover(setting, found) for _, found in spreads],
        hoverinfo="text",
        showlegend=False,
        **shared,
    )
    if kind == "violin":
        return [_violins(groups, width, colour, shared), _middles(spreads, width, shared), means]
    boxes = go.Box(
        x=[x for x, _ in spreads],
        **{name: [found.quartiles[at] for _, found in spreads] for at, name in enumerate(("q1", "median", "q3"))},
        lowerfence=[found.whiskers[0] for _, found in spreads],
        upperfence=[found.whiskers[1] for _, found in spreads],
        width=width,
        fillcolor=_pale(colour),
        line={"color": colour, "width": 1.5},
        hoverinfo="skip",
        **shared,
    )
    dots = go.Scatter(
        x=[x for x, found in spreads for _ in found.outliers],
        y=[float(value) for _, found in spreads for value in found.outliers],
        mode="markers",
        marker={"size": 4, "color": colour, "opacity": 0.55, "line": dark | {"width": 0}},
        hovertemplate=f"{html.escape(setting)}: %{{y:.4f}}<extra></extra>",
        showlegend=False,
        **shared,
    )
    return [boxes, dots, means]


def _violins(groups: Sequence[tuple[float, Values]], width: float, colour: str, shared: dict[str, str]) -> go.Scatter:
    """Return all violins of a bit-width as one trace, their outlines parted by gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for middle, values in groups:
        places, heights = density(values)
        half = heights * width / 2
        x += [*(middle + half).tolist(), *(middle - half)[::-1].tolist(), None]
        y += [*places.tolist(), *places[::-1].tolist(), None]
    return go.Scatter(
        x=[None if place is None else round(place, 4) for place in x],
        y=[None if value is None else round(value, 6) for value in y],
        mode="lines",
        fill="toself",
        fillcolor=_pale(colour),
        line={"color": colour, "width": 1.5},
        hoverinfo="skip",
        **shared,
    )


def _middles(spreads: Sequence[tuple[float, Spread]], width: float, shared: dict[str, str]) -> go.Scatter:
    """Return the quartiles of violins as upright lines with a dash across at the median."""
    x: list[float | None] = []
    y: list[float | None] = []
    for middle, found in spreads:
        first, median, third = found.quartiles
        x += [middle, middle, None, middle - width / 8, middle + width / 8, None]
        y += [first, third, None, median, median, None]
    line = {"color": GREY, "width": 2}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, **shared)


def _hover(setting: str, found: Spread) -> str:
    first, median, third = found.quartiles
    return "<br>".join(
        [
            f"<b>{html.escape(setting)}</b>, {found.n:,} pictures",
            f"mean {found.mean:.4f}, sd {found.sd:.4f}",
            f"median {median:.4f}, middle half {first:.4f} to {third:.4f}",
            f"whiskers {found.whiskers[0]:.4f} to {found.whiskers[1]:.4f}, {found.beyond:,} beyond",
        ]
    )


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"
