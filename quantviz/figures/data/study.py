"""A study's means against bit-widths, its accuracy against drift, and its ranking, as both renderers draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Final, Literal

from quantviz.figures.data.charts import Axis, Band, LineChart, Look, Point, RankChart, RankedRow, Series, Span
from quantviz.figures.data.style import DASHES, GREY, NETWORKS
from quantviz.figures.data.words import by_bits, metric_name, network_name, number, percent
from quantviz.specs import GIVEN, UsageError
from quantviz.study.specs.summary import Estimate, Rate, StudyCell
from quantviz.study.specs.table import Ranking

DRIFT: Final = "drift"
"""The metric that every cell has: 1 - CC of the quantized and the float map."""

LEAST: Final = 1e-6
"""Drift at or below it is drawn here on a logarithmic axis."""

NOISE_FLOOR: Final = "noise floor: a change that nobody sees"
"""Words beside the band of drifts that say nothing."""

AccuracyMeasure = Literal["accuracy", "change", "flips"]

_MEASURES: Final[dict[str, str]] = {
    "accuracy": "top-1 accuracy",
    "change": "change of top-1 accuracy,\npercentage points",
    "flips": "pictures whose\ntop-1 class changed",
}
_DRIFT_TITLE: Final = "mean map drift, 1 − CC"
_LEAST_SHARE = 0.005  # a smaller one rounds to nothing and is left blank


def drift_chart(
    cells: Sequence[StudyCell],
    metric: str = DRIFT,
    protocols: Sequence[str] = (),
    *,
    comparison: str = "quantized_v_float",
    untrained: Sequence[str] = (),
    floor: float | None = None,
) -> LineChart:
    """Return a score's mean against the bit-widths, a line for each network and protocol.

    Bit-widths stand at 0, 1, 2 and so on, the fewest bits first, the lines a little beside each other.

    Args:
        cells: of a summary or a view.
        metric: ``"drift"``, or a metric of the comparison (``"cc"``).
        protocols: those to show; all if empty.
        comparison: whose metric is shown; without effect on drift.
        untrained: networks whose weights are random.
        floor: drift of a change that nobody sees, which a band shows; without effect on other metrics.

    Raises:
        UsageError: no cell has the metric.
    """
    shown = _of(cells, protocols)
    if metric != DRIFT and not any(metric in cell.scores.get(comparison, {}) for cell in shown):
        known = sorted({f"{pair}_{name}" for cell in shown for pair, scores in cell.scores.items() for name in scores})
        raise UsageError(f"The study has no score {comparison}_{metric}; it has {', '.join(known) or 'none'}.")
    settings = by_bits({cell.setting for cell in shown})

    def point(cell: StudyCell, shift: float) -> Point | None:
        estimate = cell.drift if metric == DRIFT else cell.scores[comparison][metric]
        y, x = span(estimate, LEAST if metric == DRIFT else None), settings.index(cell.setting) + shift
        note = _cell_name(cell, untrained), *_estimate_lines(estimate)
        return None if y is None else Point(Span(x, x, x), y, cell.setting, note)

    looks = _looks(shown)
    series = _series(shown, looks, point, untrained)
    band = None if floor is None or metric != DRIFT else Band(NOISE_FLOOR, max(floor, LEAST))
    y = _score_axis(series, metric, comparison, band)
    x = Axis(_settings_title(shown), tuple(enumerate(settings)))
    intervals = _methods(point.y for line in series for point in line.points)
    facts = {"shows": f"mean {metric} against bit-width", "comparison": comparison, "intervals": intervals}
    more = {} if band is None else {"noise_floor": band.top}
    return LineChart(x, y, series, *_legend(looks, untrained), intervals, {**facts, **more}, band=band)


def accuracy_chart(
    cells: Sequence[StudyCell],
    measure: AccuracyMeasure = "accuracy",
    protocols: Sequence[str] = (),
    *,
    untrained: Sequence[str] = (),
) -> LineChart:
    """Return top-1 accuracy, or what stands for it, against mean map drift.

    Args:
        cells: of a summary or a view; those without labels have no accuracy.
        measure: ``"accuracy"``: of the quantized network, with the float networks' as levels; ``"change"``: quantized -
            float, in percentage points; ``"flips"``: the part of the pictures whose top-1 class changed, which needs
            no labels.
        protocols: those to show; all if empty.
        untrained: networks whose weights are random.

    Raises:
        UsageError: the measure is unknown.
    """
    if measure not in _MEASURES:
        raise UsageError(f"Measure {measure!r} is unknown; use one of {', '.join(_MEASURES)}.")
    shown = _of(cells, protocols)

    def point(cell: StudyCell, _: float) -> Point | None:
        x, y = span(cell.drift, LEAST), _height(cell, measure)
        if x is None or y is None:
            return None
        return Point(x, y, cell.setting, (_cell_name(cell, untrained), *_accuracy_lines(cell)))

    looks = _looks(shown)
    series = _series(shown, looks, point, untrained)
    x = log_axis(_ends(point.x for line in series for point in line.points), _DRIFT_TITLE)
    y = Axis(_MEASURES[measure], percent=measure != "change")
    levels = _float_levels(shown, series) if measure == "accuracy" else ()
    intervals = _methods(point.y for line in series for point in line.points)
    facts = {"shows": f"{measure} against mean drift", "intervals": intervals}
    return LineChart(x, y, series, *_legend(looks, untrained), intervals, facts, levels)


def ranking_chart(ranking: Ranking, *, untrained: Sequence[str] = ()) -> RankChart:
    """Return networks ranked by mean map drift, with the part of the bootstrap samples in which each has which rank.

    Args:
        ranking: of a study.
        untrained: networks whose weights are random.
    """
    rows = []
    for model in ranking.models:
        drift = span(model.drift)
        assert drift is not None, "a ranked network has a drift"
        name, words = network_name(model.model, model.model in untrained), number(drift.value)
        texts = tuple(percent(share) if share >= _LEAST_SHARE else "" for share in model.shares)
        rows.append(RankedRow(name, drift, words, model.shares, texts, (name, *_estimate_lines(model.drift))))
    titles, intervals = (_DRIFT_TITLE, "rank, 1 = least drift"), _methods(row.drift for row in rows)
    facts = {
        "shows": "models ranked by mean drift",
        "setting": ranking.setting,
        "protocol": ranking.protocol,
        "pictures_ranked": ranking.pictures,
        "intervals": intervals,
    }
    return RankChart(ranking.setting, ranking.protocol, ranking.resamples, tuple(rows), titles, intervals, facts)


def _score_axis(series: Sequence[Series], metric: str, comparison: str, band: Band | None) -> Axis:
    """Return the upright axis of ``drift_chart``: logarithmic, and holding the band, where drift is shown."""
    if metric != DRIFT:
        return Axis(f"mean {metric_name(metric)},\n{comparison.replace('_', ' ')}")
    ends = _ends(point.y for line in series for point in line.points)
    return log_axis(ends if band is None else [*ends, band.top], _DRIFT_TITLE)


def span(estimate: Estimate | Rate, least: float | None = None) -> Span | None:
    """Return a number with its interval as both are drawn; None where there is no number.

    Args:
        estimate: a mean or a rate.
        least: what is smaller is drawn here; None: at its place.
    """
    value = estimate.mean if isinstance(estimate, Estimate) else estimate.value
    if value is None:
        return None
    low = value if estimate.low is None else min(estimate.low, value)
    high = value if estimate.high is None else max(estimate.high, value)
    floor = -math.inf if least is None else least
    return Span(max(value, floor), max(low, floor), max(high, floor), estimate.method)


def log_axis(values: Iterable[float | None], title: str = "") -> Axis:
    """Return a logarithmic axis that holds the values, its ticks written out: 0.01 and not a lone 2 or 5 between."""
    positive = [value for value in values if value is not None and value > 0] or [0.01, 1.0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = [step * 10.0**power for power in range(-6, 2) for step in steps]
    room = 0.08 * (high - low) + 0.04
    written = tuple((tick, f"{tick:.6f}".rstrip("0").rstrip(".")) for tick in ticks)
    return Axis(title, written, (low - room, high + room))


def _settings_title(cells: Sequence[StudyCell]) -> str:
    files = any(cell.protocol == GIVEN for cell in cells)  # whose labels are no bits
    return "variant" if files else "bits of weights (W) and activations (A)"


def _of(cells: Sequence[StudyCell], protocols: Sequence[str]) -> list[StudyCell]:
    return [cell for cell in cells if not protocols or cell.protocol in protocols]


def _looks(cells: Sequence[StudyCell]) -> dict[tuple[str, str], Look]:
    """Return (network, protocol) -> the look of its line, by network."""
    networks = enumerate(dict.fromkeys(cell.model for cell in cells))
    protocols = enumerate(dict.fromkeys(cell.protocol for cell in cells))
    return {
        (network, protocol): Look(*NETWORKS[row % len(NETWORKS)], DASHES[turn % len(DASHES)], turn == 0)
        for (row, network), (turn, protocol) in product(networks, protocols)
    }


def _series(
    cells: Sequence[StudyCell],
    looks: Mapping[tuple[str, str], Look],
    point: Callable[[StudyCell, float], Point | None],
    untrained: Sequence[str],
) -> tuple[Series, ...]:
    """Return the lines that have points; ``point`` makes one of a cell and of how far its line stands to the right."""
    settings = by_bits({cell.setting for cell in cells})
    ordered = sorted(cells, key=lambda cell: settings.index(cell.setting))
    series = []
    for place, ((network, protocol), look) in enumerate(looks.items()):
        shift = 0.3 * ((place + 0.5) / len(looks) - 0.5)
        line = [point(cell, shift) for cell in ordered if (cell.model, cell.protocol) == (network, protocol)]
        if points := tuple(one for one in line if one is not None):
            series.append(Series(network, network_name(network, network in untrained), look, points, protocol))
    return tuple(series)


def _legend(
    looks: Mapping[tuple[str, str], Look], untrained: Sequence[str]
) -> tuple[tuple[tuple[str, Look], ...], tuple[tuple[str, Look], ...]]:
    """Return the entries of networks and those of protocols, the latter where there are several."""
    names = [(network_name(network, network in untrained), look) for (network, _), look in looks.items() if look.filled]
    protocols = {protocol: replace(look, colour=GREY, symbol="circle") for (_, protocol), look in looks.items()}
    dashes = [(f"{protocol} protocol", look) for protocol, look in protocols.items()]
    return tuple(names), tuple(dashes if len(dashes) > 1 else ())


def _float_levels(cells: Sequence[StudyCell], series: Sequence[Series]) -> tuple[tuple[str, float], ...]:
    """Return the colour and the float accuracy of each network that has a point."""
    levels: dict[str, float] = {}
    for cell in cells:
        if cell.float_accuracy is not None and cell.float_accuracy.value is not None:
            levels.setdefault(cell.model, cell.float_accuracy.value)
    colours = {line.network: line.look.colour for line in series}
    return tuple((colour, levels[network]) for network, colour in colours.items() if network in levels)


def _height(cell: StudyCell, measure: AccuracyMeasure) -> Span | None:
    """Return where a cell stands on the upright axis; None where it has no such number."""
    if measure != "change":
        rate = cell.flips if measure == "flips" else cell.accuracy
        return None if rate is None else span(rate)
    after, before = cell.accuracy, cell.float_accuracy
    if after is None or before is None or after.value is None or before.value is None:
        return None
    change = 100 * (after.value - before.value)
    return Span(change, change, change)


def _ends(spans: Iterable[Span]) -> list[float]:
    return [end for one in spans for end in (one.value, one.high)]


def _cell_name(cell: StudyCell, untrained: Sequence[str]) -> str:
    return f"{network_name(cell.model, cell.model in untrained)}, {cell.protocol}, {cell.setting}"


def _methods(spans: Iterable[Span]) -> str:
    """Return how intervals were made, in words without a full stop."""
    methods = list(dict.fromkeys(one.method for one in spans if one.method is not None))
    return f"95 % intervals: {' or '.join(methods)}" if methods else ""


def _estimate_lines(estimate: Estimate, words: str = "mean") -> list[str]:
    lines = [f"{words} {number(estimate.mean)} over {estimate.n:,} pictures"]
    if estimate.low is not None and estimate.high is not None:
        lines.append(f"95 % interval {number(estimate.low)} to {number(estimate.high)}{_by(estimate)}")
    return lines


def _accuracy_lines(cell: StudyCell) -> list[str]:
    lines = _estimate_lines(cell.drift, "drift")
    for words, rate in (("top-1", cell.accuracy), ("float top-1", cell.float_accuracy), ("flips", cell.flips)):
        if rate is not None and rate.value is not None:
            lines.append(f"{words} {rate.value:.1%} ({rate.count:,} of {rate.n:,})")
            if rate.low is not None and rate.high is not None:
                lines.append(f"95 % interval {rate.low:.1%} to {rate.high:.1%}{_by(rate)}")
    return lines


def _by(estimate: Estimate | Rate) -> str:
    return "" if estimate.method is None else f" ({estimate.method})"
