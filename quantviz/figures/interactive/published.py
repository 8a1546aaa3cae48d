"""Plotly figures of the published table: beside what a study reproduces, and against the rule that SIM obeys."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.data.charts import Span
from quantviz.figures.data.study import span
from quantviz.figures.data.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from quantviz.figures.data.words import network_name
from quantviz.figures.interactive.layout import bars, frame, pale, rows_axis, text, title
from quantviz.specs import CALIBRATED, PAPER
from quantviz.study.specs.published import PRECISIONS, Reproduction, TriangleCheck
from quantviz.study.specs.summary import Estimate

_PUBLISHED: Final = "published"
_LOOKS: Final = {
    _PUBLISHED: (_PUBLISHED, GREY, "diamond"),
    PAPER: ("reproduced, the paper's protocol", VERMILLION, "circle"),
    CALIBRATED: ("reproduced, calibrated protocol", BLUE, "square"),
}
_OTHER_COLOURS: Final = (GREEN, ORANGE, PURPLE)  # protocols of chosen deviations
_TITLES: Final = {
    "cc": "mean CC of quantized v float (1 is no change)",
    "sim": "mean SIM of quantized v float (1 is no change)",
    "kld": "mean KLD of quantized from float, in nats (0 is no change)",
}
_ROW = 58  # pixels


def agreement_figure(rows: Sequence[Reproduction], metric: str = "cc", untrained: Collection[str] = ()) -> go.Figure:
    """Return agreement of quantized and float maps as published and as reproduced: a panel a precision, a row a model.

    Dots are means over pictures; bars are 95 % intervals of the means, published ones by normal theory. Colour and
    shape both tell the source. Hovering shows the numbers.

    Args:
        rows: of any comparison; those of the quantized with the float map are shown.
        metric: as in ``STUDY_METRICS``.
        untrained: models whose weights are random in the study; their rows say so.
    """
    shown = [row for row in rows if row.comparison == "quantized_v_float" and row.metric == metric]
    precisions = [name for name in PRECISIONS if any(row.precision == name for row in shown)]
    models = list(dict.fromkeys(row.model for row in shown))
    figure = make_subplots(
        rows=1,
        cols=max(len(precisions), 1),
        shared_yaxes=True,
        shared_xaxes="all",
        horizontal_spacing=0.03,
        subplot_titles=[f"{name} / {PRECISIONS[name]}" for name in precisions],
        x_title=_TITLES[metric],  # one under each panel would not fit in a narrow page
    )
    sources = _sources(shown)
    for column, precision in enumerate(precisions, start=1):
        panel = [row for row in shown if row.precision == precision]
        for place, source in enumerate(sources):
            offset = 0.24 * (place - (len(sources) - 1) / 2)
            trace = _dots(panel, models, source, offset, sources)
            figure.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
    figure.update_xaxes(zeroline=False, fixedrange=True, nticks=6, showgrid=True)
    figure.update_yaxes(**rows_axis([_row_name(model, untrained) for model in models]), zeroline=False)
    figure.update_annotations(font_size=12)
    figure.update_layout(**frame(_ROW * len(models) + 130, 84), hovermode="closest")
    figure.update_layout(margin_b=64)
    return figure


def triangle_figure(checks: Sequence[TriangleCheck], untrained: Collection[str] = ()) -> go.Figure:
    """Return, for each model and precision, the mean SIM with the ground truth that is possible, and the one computed.

    A bar runs from the least to the greatest possible mean; a symbol is the mean that was published or computed: a dot
    where it is possible, a cross where it is not. A tick is the float network's. Hovering shows the numbers.

    Args:
        checks: in the order of the rows, from the top.
        untrained: models whose weights are random in the study; their rows say so.
    """
    figure = go.Figure()
    possible = go.Bar(
        x=[check.high - check.low for check in checks],
        base=[check.low for check in checks],
        y=list(range(len(checks))),
        orientation="h",
        width=0.5,
        marker={"color": pale(BLUE, 0.28), "line": {"width": 1.5, "color": BLUE}},
        name="possible",
        hoverinfo="skip",
    )
    figure.add_trace(possible)
    figure.add_trace(_means(checks, "float v ground truth", [True] * len(checks), "line-ns-open", GREY, float_map=True))
    inside = [check.holds for check in checks]
    figure.add_trace(_means(checks, "quantized v ground truth", inside, "circle", BLUE))
    if not all(inside):
        outside = [not good for good in inside]
        figure.add_trace(_means(checks, "quantized, impossible", outside, "x", VERMILLION))
    axis = title("mean SIM with the ground truth")
    figure.update_xaxes(title=axis, zeroline=False, fixedrange=True, showgrid=True)
    labels = [f"{_row_name(check.model, untrained)} {html.escape(check.setting)}" for check in checks]
    figure.update_yaxes(**rows_axis(labels), zeroline=False)
    figure.update_layout(**frame(26 * len(checks) + 110), hovermode="closest", barmode="overlay")
    return figure


def _row_name(model: str, untrained: Collection[str]) -> str:
    return text(network_name(model, model in untrained))


def _sources(rows: Sequence[Reproduction]) -> list[str]:
    """Return what the rows have numbers of: the published one first, the calibrated protocol last."""
    protocols = list(dict.fromkeys(protocol for row in rows for protocol in row.found))
    ordered = sorted(protocols, key=lambda protocol: (protocol == CALIBRATED, protocol != PAPER))
    return [_PUBLISHED, *ordered] if any(row.published for row in rows) else ordered


def _look(source: str, sources: Sequence[str]) -> tuple[str, str, str]:
    if source in _LOOKS:
        return _LOOKS[source]
    others = [name for name in sources if name not in _LOOKS]
    colour = _OTHER_COLOURS[others.index(source) % len(_OTHER_COLOURS)]
    return f"reproduced, {source.replace('_', ' ')}", colour, "triangle-up"


def _dots(
    panel: Sequence[Reproduction], models: Sequence[str], source: str, offset: float, sources: Sequence[str]
) -> go.Scatter:
    words, colour, symbol = _look(source, sources)
    spans: list[Span] = []
    y, hover = [], []
    for row in panel:
        published = row.published.estimate if source == _PUBLISHED and row.published is not None else None
        estimate = published or row.found.get(source)
        if estimate is not None and (drawn := span(estimate)) is not None:
            spans.append(drawn)
            y.append(models.index(row.model) + offset)
            hover.append(_hover(row, estimate, words))
    return go.Scatter(
        x=[drawn.value for drawn in spans],
        y=y,
        error_x=bars(spans, 1.5, 4),
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10},
        name=words,
        legendgroup=source,
        cliponaxis=False,
        hovertext=hover,
        hoverinfo="text",
    )


def _hover(row: Reproduction, estimate: Estimate, words: str) -> str:
    lines = [f"<b>{html.escape(row.model)}</b>, {html.escape(words)}"]
    sd = "" if estimate.sd is None else f" ± {estimate.sd:.3f}"
    lines.append(f"{row.metric.upper()} {estimate.mean:.3f}{sd} over {estimate.n:,} pictures")
    if estimate.low is not None and estimate.high is not None:
        lines.append(f"95 % interval of the mean: {estimate.low:.3f} to {estimate.high:.3f} ({estimate.method})")
    return "<br>".join(lines)


def _means(
    checks: Sequence[TriangleCheck],
    name: str,
    chosen: Sequence[bool],
    symbol: str,
    colour: str,
    *,
    float_map: bool = False,
) -> go.Scatter:
    rows = [(place, check) for place, check in enumerate(checks) if chosen[place]]
    marker: dict[str, Any] = {"symbol": symbol, "color": colour, "size": 11}
    if float_map:
        marker |= {"size": 13, "line": {"width": 2, "color": colour}}
    return go.Scatter(
        x=[check.float_v_truth if float_map else check.quantized_v_truth for _, check in rows],
        y=[place for place, _ in rows],
        mode="markers",
        marker=marker,
        name=name,
        cliponaxis=False,
        hovertext=[_triangle_hover(check) for _, check in rows],
        hoverinfo="text",
    )


def _triangle_hover(check: TriangleCheck) -> str:
    lines = [
        f"<b>{html.escape(f'{check.model} {check.setting}')}</b>, {html.escape(check.source)}, {check.n:,} pictures",
        f"SIM: float v ground truth {check.float_v_truth:.3f}, quantized v float {check.quantized_v_float:.3f}",
        f"so quantized v ground truth lies within {check.low:.3f} and {check.high:.3f}",
        f"it is {check.quantized_v_truth:.3f}" + ("" if check.holds else f", {check.excess:.3f} outside"),
    ]
    return "<br>".join(lines)
