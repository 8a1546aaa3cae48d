"""Plotly figures of a study's cells: scores against bits, accuracy against drift, and models ranked by drift."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Final, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.interactive.distributions import by_bits, marked, metric_name
from quantviz.figures.layer_style import GREY, frame, log_axis, number, rows_axis
from quantviz.figures.panels import COLOURS, percent
from quantviz.specs import UsageError
from quantviz.study.specs.summary import Estimate, Rate, StudyCell
from quantviz.study.specs.table import Ranking

DRIFT: Final = "drift"
"""The metric that every cell has: 1 - CC of the quantized and the float map."""

MODEL_MARKS: Final = (
    ("#0072B2", "circle"),
    ("#E69F00", "square"),
    ("#009E73", "diamond"),
    ("#CC79A7", "triangle-up"),
    ("#56B4E9", "triangle-down"),
    ("#D55E00", "star"),
    (GREY, "hexagon"),
)
"""Colour (Okabe and Ito 2008) and symbol of each model in turn, so that colour is never the only difference."""

_DASHES: Final = ("solid", "dot", "dash", "dashdot", "longdash")
_LEAST = 1e-6  # drift at or below it is drawn here on a logarithmic axis
_MOST_LABELS = 32
_MEASURES: Final = {
    "accuracy": "top-1 accuracy",
    "change": "change of top-1 accuracy, percentage points",
    "flips": "pictures whose top-1 class changed",
}
_DRIFT_WORDS = "mean map drift, 1 − CC"

Measure = Literal["accuracy", "change", "flips"]


def drift_figure(
    cells: Sequence[StudyCell],
    metric: str = DRIFT,
    protocols: Sequence[str] = (),
    *,
    comparison: str = "quantized_v_float",
    untrained: Sequence[str] = (),
) -> go.Figure:
    """Return a score's mean against the bit-widths, a line for each model and protocol, with 95 % intervals.

    The bit-widths stand side by side, the fewest bits first. Drift is on a logarithmic axis, where what is 10⁻⁶ or
    less is drawn at 10⁻⁶; scores are on a linear one. Solid lines and filled marks are of the first protocol.

    Args:
        cells: of a summary or a view.
        metric: ``"drift"``, or a metric of the comparison (``"cc"``).
        protocols: those to show; all if empty.
        comparison: which maps a metric compares; of no account for drift.
        untrained: models whose weights are random.

    Raises:
        UsageError: no cell has the metric.
    """
    shown = [cell for cell in cells if not protocols or cell.protocol in protocols]
    _check(shown, comparison, metric)
    means = {id(cell): cell.drift if metric == DRIFT else cell.scores[comparison][metric] for cell in shown}
    settings = by_bits({cell.setting for cell in shown})
    models, kinds = _distinct(shown)
    figure = go.Figure()
    pairs = list(product(models, kinds))
    for place, (model, protocol) in enumerate(pairs):
        group = {cell.setting: means[id(cell)] for cell in shown if (cell.model, cell.protocol) == (model, protocol)}
        points = [(settings.index(name), group[name]) for name in settings if name in group]
        shift = 0.3 * ((place + 0.5) / len(pairs) - 0.5)
        figure.add_trace(_curve(points, shift, model, protocol, (models, kinds, untrained), metric == DRIFT, settings))
    figure.add_traces(_protocol_keys(kinds))
    if metric == DRIFT:
        ends = [end for cell in shown for end in (cell.drift.mean, cell.drift.high) if end is not None]
        figure.update_yaxes(**log_axis([max(end, _LEAST) for end in ends]))
    words = _DRIFT_WORDS if metric == DRIFT else f"mean {metric_name(metric)}, {comparison.replace('_', ' ')}"
    figure.update_yaxes(title=_small(words), zeroline=False, automargin=True)
    figure.update_xaxes(**_bits_axis(settings))
    figure.update_layout(**frame(480, _top(models, kinds)), hovermode="closest")
    return figure


def accuracy_figure(
    cells: Sequence[StudyCell],
    protocols: Sequence[str] = (),
    *,
    measure: Measure = "accuracy",
    untrained: Sequence[str] = (),
) -> go.Figure:
    """Return top-1 accuracy, or what stands for it, against mean map drift: a point for each cell, named by its bits.

    Points of one model and protocol are joined. Drift is on a logarithmic axis, where what is 10⁻⁶ or less is drawn
    at 10⁻⁶. Upright bars are Wilson's 95 % intervals, level ones the intervals of the mean drift.

    Args:
        cells: of a summary or a view; those without labels have no accuracy.
        protocols: those to show; all if empty.
        measure: ``"accuracy"``: of the quantized network, with dashed lines at the float networks';
            ``"change"``: quantized - float, in percentage points; ``"flips"``: the part of the pictures whose top-1
            class changed, which needs no labels.
        untrained: models whose weights are random.

    Raises:
        UsageError: the measure is unknown.
    """
    if measure not in _MEASURES:
        raise UsageError(f"Measure {measure!r} is unknown; use one of {', '.join(_MEASURES)}.")
    shown = [cell for cell in cells if not protocols or cell.protocol in protocols]
    shown = [cell for cell in shown if cell.drift.mean is not None and _height(cell, measure) is not None]
    models, kinds = _distinct(shown)
    named = len(shown) <= _MOST_LABELS
    figure = go.Figure()
    for model, protocol in product(models, kinds):
        group = {cell.setting: cell for cell in shown if (cell.model, cell.protocol) == (model, protocol)}
        if group:
            ordered = [group[name] for name in by_bits(set(group))]
            figure.add_trace(_accuracy_points(ordered, (models, kinds, untrained), measure, named))
    figure.add_traces(_protocol_keys(kinds))
    if measure == "accuracy":
        _float_levels(figure, shown, models)
    drifts = [end for cell in shown for end in (cell.drift.mean, cell.drift.high) if end is not None]
    figure.update_xaxes(**log_axis([max(drift, _LEAST) for drift in drifts]), title=_small(_DRIFT_WORDS))
    percents = {} if measure == "change" else {"tickformat": ".0%", "rangemode": "tozero"}
    figure.update_yaxes(title=_small(_MEASURES[measure]), zeroline=False, automargin=True, **percents)
    figure.update_layout(**frame(500, _top(models, kinds)), hovermode="closest")
    return figure


def ranking_figure(ranking: Ranking, *, untrained: Sequence[str] = ()) -> go.Figure:
    """Return models ranked by mean map drift, the least on top, beside how often each has which rank.

    At the left the mean with its 95 % interval; at the right the part of the bootstrap samples of the pictures in
    which the model has the rank, so that a rank that other pictures might have changed is seen to be uncertain.

    Args:
        ranking: what to show.
        untrained: models whose weights are random.
    """
    models = ranking.models
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        column_widths=[0.55, 0.45],
        horizontal_spacing=0.03,
        subplot_titles=(f"mean drift at {html.escape(ranking.setting)}", "how often it has which rank"),
    )
    rows = list(range(len(models)))
    drifts = [one.drift for one in models]
    dots = go.Scatter(
        x=[found.mean for found in drifts],
        y=rows,
        error_x=_bars(drifts, None),
        mode="markers",
        marker={"color": COLOURS["quantized"], "size": 10},
        hovertext=[_estimate_words(marked(one.model, untrained), one.drift) for one in models],
        hoverinfo="text",
    )
    figure.add_trace(dots, row=1, col=1)
    figure.add_trace(_shares(ranking), row=1, col=2)
    figure.update_xaxes(title=_small(_DRIFT_WORDS), rangemode="tozero", zeroline=False, fixedrange=True, row=1, col=1)
    ranks = {"tickvals": [row + 1 for row in rows], "range": [0.5, max(len(rows), 1) + 0.5]}
    figure.update_xaxes(**ranks, title=_small("rank, 1 = least drift"), showgrid=False, fixedrange=True, row=1, col=2)
    labels = [f"{marked(one.model, untrained, '<br>')}: <b>{number(one.drift.mean)}</b>" for one in models]
    figure.update_yaxes(**rows_axis(labels), zeroline=False)
    figure.update_annotations(font_size=13)
    figure.update_layout(**frame(44 * max(len(rows), 1) + 100, 36), showlegend=False)
    return figure


def _check(cells: Sequence[StudyCell], comparison: str, metric: str) -> None:
    if metric != DRIFT and not any(metric in cell.scores.get(comparison, {}) for cell in cells):
        known = sorted({f"{pair} {name}" for cell in cells for pair, marks in cell.scores.items() for name in marks})
        raise UsageError(f"The study has no score {comparison} {metric}; it has {', '.join(known) or 'none'}.")


def _bits_axis(settings: Sequence[str]) -> dict[str, Any]:
    return {
        "tickvals": list(range(len(settings))),
        "ticktext": list(map(html.escape, settings)),
        "title": _small("bits of weights (W) and activations (A)"),
        "range": [-0.4, max(len(settings), 1) - 0.6],
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }


def _distinct(cells: Sequence[StudyCell]) -> tuple[list[str], list[str]]:
    """Return the models and the protocols in their order."""
    return list(dict.fromkeys(cell.model for cell in cells)), list(dict.fromkeys(cell.protocol for cell in cells))


def _top(models: Sequence[str], protocols: Sequence[str]) -> int:
    """Return the margin that the legend needs, in pixels, in a narrow page."""
    entries = len(models) + (len(protocols) if len(protocols) > 1 else 0)
    return 36 + 20 * (-(-entries // 4))


def _look(
    model: str, protocol: str, among: tuple[Sequence[str], Sequence[str], Sequence[str]], size: int = 9
) -> dict[str, Any]:
    """Return how the points and lines of a model under a protocol look, and where they stand in the legend."""
    models, protocols, untrained = among
    colour, symbol = MODEL_MARKS[models.index(model) % len(MODEL_MARKS)]
    place = protocols.index(protocol)
    return {
        "line": {"color": colour, "width": 1.8, "dash": _DASHES[place % len(_DASHES)]},
        "marker": {"color": colour, "symbol": f"{symbol}-open" if place else symbol, "size": size},
        "name": marked(model, untrained),
        "legendgroup": model,
        "showlegend": place == 0,
    }


def _protocol_keys(protocols: Sequence[str]) -> list[go.Scatter]:
    """Return entries of the legend that tell the protocols' lines apart; none where there is one protocol."""
    if len(protocols) < 2:
        return []
    return [
        go.Scatter(
            x=[None],
            y=[None],
            mode="lines+markers",
            line={"color": GREY, "width": 1.8, "dash": _DASHES[place % len(_DASHES)]},
            marker={"color": GREY, "symbol": "circle-open" if place else "circle", "size": 9},
            name=html.escape(f"{protocol} protocol"),
            hoverinfo="skip",
        )
        for place, protocol in enumerate(protocols)
    ]


def _curve(
    points: Sequence[tuple[int, Estimate]],
    shift: float,
    model: str,
    protocol: str,
    among: tuple[Sequence[str], Sequence[str], Sequence[str]],
    log: bool,
    settings: Sequence[str],
) -> go.Scatter:
    known = [(place, found) for place, found in points if found.mean is not None]
    least = _LEAST if log else None
    words = f"{marked(model, among[2])}, {html.escape(protocol)}"
    return go.Scatter(
        x=[place + shift for place, _ in known],
        y=[_drawn(found.mean, least) for _, found in known],
        error_y=_bars([found for _, found in known], least),
        mode="lines+markers",
        hovertext=[_estimate_words(f"{words}, {html.escape(settings[place])}", found) for place, found in known],
        hoverinfo="text",
        **_look(model, protocol, among),
    )


def _accuracy_points(
    cells: Sequence[StudyCell],
    among: tuple[Sequence[str], Sequence[str], Sequence[str]],
    measure: Measure,
    named: bool,
) -> go.Scatter:
    heights = [_height(cell, measure) for cell in cells]
    rates = [None if measure == "change" else _rate(cell, measure) for cell in cells]
    model, protocol = cells[0].model, cells[0].protocol
    return go.Scatter(
        x=[_drawn(cell.drift.mean, _LEAST) for cell in cells],
        y=heights,
        error_x=_bars([cell.drift for cell in cells], _LEAST),
        error_y=_rate_bars(rates),
        mode="lines+markers+text" if named else "lines+markers",
        text=[html.escape(cell.setting) for cell in cells],
        textposition="top center",
        textfont={"size": 10},
        cliponaxis=False,
        hovertext=[_accuracy_words(cell, among[2]) for cell in cells],
        hoverinfo="text",
        **_look(model, protocol, among),
    )


def _float_levels(figure: go.Figure, cells: Sequence[StudyCell], models: Sequence[str]) -> None:
    """Draw the float networks' accuracies as dashed lines."""
    for model in models:
        found = next((cell.float_accuracy for cell in cells if cell.model == model and cell.float_accuracy), None)
        if found is not None and found.value is not None:
            colour = MODEL_MARKS[models.index(model) % len(MODEL_MARKS)][0]
            line = {"color": colour, "width": 1.2, "dash": "dash"}
            level = {"y0": found.value, "y1": found.value, "x0": 0, "x1": 1, "xref": "paper"}
            figure.add_shape(type="line", line=line, layer="below", opacity=0.55, **level)


def _shares(ranking: Ranking) -> go.Heatmap:
    count = len(ranking.models)
    shares = [list(one.shares) for one in ranking.models]
    return go.Heatmap(
        x=list(range(1, count + 1)),
        y=list(range(count)),
        # A share that rounds to nothing is left blank, on white and on black.
        z=[[share if share >= 0.005 else None for share in row] for row in shares],
        text=[[percent(share) if share >= 0.005 else "" for share in row] for row in shares],
        texttemplate="%{text}",
        textfont={"size": 12},
        colorscale=[[0, "#DCE9F2"], [1, COLOURS["float"]]],
        zmin=0,
        zmax=1,
        xgap=3,
        ygap=3,
        showscale=False,
        hovertemplate="rank %{x}: %{text} of the bootstrap samples<extra></extra>",
    )


def _height(cell: StudyCell, measure: Measure) -> float | None:
    """Return where a cell stands on the upright axis; None where it has no such number."""
    if measure != "change":
        found = _rate(cell, measure)
        return None if found is None else found.value
    after, before = cell.accuracy, cell.float_accuracy
    if after is None or before is None or after.value is None or before.value is None:
        return None
    return 100 * (after.value - before.value)


def _rate(cell: StudyCell, measure: Measure) -> Rate | None:
    return cell.flips if measure == "flips" else cell.accuracy


def _bars(found: Sequence[Estimate], least: float | None) -> dict[str, Any]:
    """Return error bars from the means to the intervals' ends; none where there is no interval."""

    def length(one: Estimate, end: Callable[[Estimate], float | None]) -> float:
        other = end(one)
        if one.mean is None or other is None:
            return 0.0
        return abs(float(_drawn(other, least) or 0.0) - float(_drawn(one.mean, least) or 0.0))

    up = [length(one, lambda entry: entry.high) for one in found]
    down = [length(one, lambda entry: entry.low) for one in found]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}


def _rate_bars(rates: Sequence[Rate | None]) -> dict[str, Any]:
    pairs = [
        (0.0, 0.0)
        if rate is None or rate.value is None or rate.low is None or rate.high is None
        else (rate.high - rate.value, rate.value - rate.low)
        for rate in rates
    ]
    up, down = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 0.8, "width": 2}


def _drawn(value: float | None, least: float | None) -> float | None:
    return value if value is None or least is None else max(value, least)


def _estimate_words(name: str, found: Estimate) -> str:
    lines = [f"<b>{name}</b>", f"mean {number(found.mean)} over {found.n:,} pictures"]
    if found.low is not None and found.high is not None:
        lines.append(f"95 % interval {number(found.low)} to {number(found.high)}")
    return "<br>".join(lines)


def _accuracy_words(cell: StudyCell, untrained: Sequence[str]) -> str:
    name = f"{marked(cell.model, untrained)}, {html.escape(cell.protocol)}, {html.escape(cell.setting)}"
    lines = [f"<b>{name}</b>", f"drift {number(cell.drift.mean)} over {cell.drift.n:,} pictures"]
    for words, rate in (("top-1", cell.accuracy), ("float top-1", cell.float_accuracy), ("flips", cell.flips)):
        if rate is not None and rate.value is not None:
            lines.append(f"{words} {rate.value:.1%} ({rate.count:,} of {rate.n:,})")
    return "<br>".join(lines)


def _small(text: str) -> dict[str, Any]:
    return {"text": text, "font": {"size": 12}}
