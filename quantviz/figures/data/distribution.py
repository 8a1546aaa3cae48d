"""How a score is spread over a study's pictures: boxes, densities and the chart that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantviz.figures.data.style import BIT_WIDTHS, GREY
from quantviz.figures.data.words import by_bits, metric_name, network_name
from quantviz.specs import UsageError
from quantviz.study.specs.table import StudyTable

_MOST_OUTLIERS = 24  # a box; of more, the furthest and evenly chosen ones
_POINTS = 80  # at which a density is computed
_BINS = 512
_ROOM = 0.84  # of the distance between two networks, shared by the bit-widths

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


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """The scores of one network at one bit-width: where they stand across, how they are spread, float64 (n,)."""

    x: float
    spread: Spread
    values: Values


@dataclass(frozen=True, slots=True, eq=False)
class BoxGroup:
    """The boxes of one bit-width, or of the float maps: name, colour, and a box for each network that has scores."""

    name: str
    colour: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DistributionChart:
    """How a score is spread over the pictures.

    Attributes:
        metric, comparison, protocol: of the score.
        titles: of the metric and the comparison.
        networks: their names, at 0, 1, 2 and so on.
        groups: the most bits first, after those of the float maps where they are shown.
        width: of a box, in distances between two networks.
    """

    metric: str
    comparison: str
    protocol: str
    titles: tuple[str, str]
    networks: tuple[str, ...]
    groups: tuple[BoxGroup, ...]
    width: float


def distribution_chart(
    table: StudyTable,
    comparison: str,
    metric: str,
    protocol: str,
    *,
    chosen: npt.NDArray[np.bool_] | None = None,
    complete: bool = False,
) -> DistributionChart:
    """Return the boxes of a score: a group for each bit-width, in it a box for each network.

    Args:
        table: the study.
        comparison: of ``COMPARISONS``, ``"quantized_v_float"`` say.
        metric: ``"cc"`` say.
        protocol: of the study.
        chosen: bool (cells, pictures), which values count; None for all.
        complete: keep a place for each network of the study, with or without scores, and add the scores of the float
            maps where the comparison is of quantized maps with anything else.

    Raises:
        UsageError: the study has no such column or protocol.
    """
    column = f"{comparison}_{metric}"
    _check(table, column, protocol)
    cells = [cell for cell, _ in _scored(table, column, chosen) if cell[2] == protocol]
    named = [model.name for model in table.plan.models] if complete else [model for model, _, _ in cells]
    networks = list(dict.fromkeys(named))
    settings = by_bits({setting for _, setting, _ in cells})[::-1]
    # Name, colour, bit-width and column of each group.
    sources = [(name, BIT_WIDTHS[turn % len(BIT_WIDTHS)], name, column) for turn, name in enumerate(settings)]
    float_column = f"{comparison.replace('quantized', 'float', 1)}_{metric}"
    if complete and settings and float_column != column and float_column in table.columns:
        sources.insert(0, ("float", GREY, settings[0], float_column))  # the same values at every bit-width
    groups = []
    for turn, (name, colour, setting, source) in enumerate(sources):
        shift = ((turn + 0.5) / len(sources) - 0.5) * _ROOM
        scored = [pair for pair in _scored(table, source, chosen) if pair[0][1:] == (setting, protocol)]
        boxes = [Box(networks.index(cell[0]) + shift, spread(values), values) for cell, values in scored]
        groups.append(BoxGroup(name, colour, tuple(boxes)))
    trained = {model.name: model.weights.trained for model in table.plan.models}
    names = tuple(network_name(name, not trained[name]) for name in networks)
    titles = metric_name(metric), comparison.replace("_", " ")
    width = 0.86 * _ROOM / max(len(sources), 1)
    return DistributionChart(metric, comparison, protocol, titles, names, tuple(groups), width)


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


def density(values: Values, points: int = _POINTS) -> tuple[Values, Values]:
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
    heights: Values = np.exp(-0.5 * steps**2) @ counts
    return places, heights / heights.max()


def _check(table: StudyTable, column: str, protocol: str) -> None:
    if column not in table.columns:
        raise UsageError(f"The study has no score {column}; it has {', '.join(table.columns)}.")
    if protocol not in table.plan.protocols:
        raise UsageError(f"The study has no protocol {protocol!r}; use one of {', '.join(table.plan.protocols)}.")


def _scored(
    table: StudyTable, column: str, chosen: npt.NDArray[np.bool_] | None
) -> Iterator[tuple[tuple[str, str, str], Values]]:
    """Yield each cell that has chosen scores in a column, with those scores."""
    for row, cell in enumerate(table.cells):
        values = table.columns[column][row]
        values = values[~np.isnan(values) & (True if chosen is None else chosen[row])]
        if values.size:
            yield cell, values
