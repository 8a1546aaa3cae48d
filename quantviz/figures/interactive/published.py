"""Plotly figures of the published table: beside what a study reproduces, and against the rule that SIM obeys."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from quantviz.figures.layer_style import GREY, frame, rows_axis
from quantviz.figures.panels import COLOURS
from quantviz.specs import CALIBRATED, PAPER
from quantviz.study.specs.published import PRECISIONS, Reproduction, TriangleCheck
from quantviz.study.specs.summary import Estimate

_PUBLISHED: Final = "published"
_LOOKS: Final = {
    _PUBLISHED: (_PUBLISHED, GREY, "diamond"),
    PAPER: ("reproduced, the paper's protocol", COLOURS["quantized"], "circle"),
    CALIBRATED: ("reproduced, calibrated protocol", COLOURS["float"], "square"),
}
_OTHER_COLOURS: Final = ("#009E73", "#E69F00", "#CC79A7")  # of Okabe and Ito (2008): protocols of chosen deviations
_TITLES: Final = {
    "cc": "mean CC of quantized v float (1 is no change)",
    "sim": "mean SIM of quantized v float (1 is no change)",
    "kld": "mean KLD of quantized from float, in nats (0 is no change)",
}
_ROW = 58  # pixels


def agreement_figure(rows: Sequence[Reproduction], metric: str = "cc", untrained: Collection[str] = ()) -> go.Figure:
    """Return agreement of quantized and float maps as published and as reproduced: a panel a precision, a row a model.

    Dots are means over pictures; bars are 95 % intervals of the means, published ones by normal theory. Colour and
    shape both tell the source. Hovering tells the numbers.

    Args:
        rows: of any comparison; those of the quantized with the float map are shown.
        metric: as in ``STUDY_METRICS``.
        untrained: models whose weights are random in the study, which their rows say.
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
    """Return, for each model and precision, the mean SIM with the ground truth that is possible, and the one found.

    A bar runs from the least to the greatest possible mean; a mark is the mean that was published or computed: a dot
    where it is possible, a cross where it is not. A tick is the float network's. Hovering tells the numbers.

    Args:
        checks: in the order of the rows, from the top.
        untrained: as in ``agreement_figure``.
    """
    figure = go.Figure()
    bars = go.Bar(
        x=[check.high - check.low for check in checks],
        base=[check.low for check in checks],
        y=list(range(len(checks))),
        orientation="h",
        width=0.5,
        marker={"color": "rgba(0,114,178,0.28)", "line": {"width": 1.5, "color": COLOURS["float"]}},
        name="possible",
        hoverinfo="skip",
    )
    figure.add_trace(bars)
    figure.add_trace(_marks(checks, "float v ground truth", [True] * len(checks), "line-ns-open", GREY, float_map=True))
    inside = [check.holds for check in checks]
    figure.add_trace(_marks(checks, "quantized v ground truth", inside, "circle", COLOURS["float"]))
    if not all(inside):
        outside = [not good for good in inside]
        figure.add_trace(_marks(checks, "quantized, impossible", outside, "x", COLOURS["quantized"]))
    figure.update_xaxes(
        title={"text": "mean SIM with the ground truth", "font": {"size": 12}},
        zeroline=False,
        fixedrange=True,
        showgrid=True,
    )
    labels = [f"{_row_name(check.model, untrained)} {html.escape(check.setting)}" for check in checks]
    figure.update_yaxes(**rows_axis(labels), zeroline=False)
    figure.update_layout(**frame(26 * len(checks) + 110), hovermode="closest", barmode="overlay")
    return figure


def _row_name(model: str, untrained: Collection[str]) -> str:
    return html.escape(model) + (" UNTRAINED" if model in untrained else "")


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


def _numbers(
    panel: Sequence[Reproduction], models: Sequence[str], source: str
) -> Iterator[tuple[int, Reproduction, Estimate, float]]:
    for row in panel:
        found = row.found.get(source)
        if source == _PUBLISHED and row.published is not None:
            found = row.published.estimate
        if found is not None and found.mean is not None:
            yield models.index(row.model), row, found, found.mean


def _dots(
    panel: Sequence[Reproduction], models: Sequence[str], source: str, offset: float, sources: Sequence[str]
) -> go.Scatter:
    words, colour, symbol = _look(source, sources)
    numbers = list(_numbers(panel, models, source))
    above = [0.0 if found.high is None else max(found.high - mean, 0.0) for _, _, found, mean in numbers]
    below = [0.0 if found.low is None else max(mean - found.low, 0.0) for _, _, found, mean in numbers]
    return go.Scatter(
        x=[mean for *_, mean in numbers],
        y=[place + offset for place, *_ in numbers],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10},
        error_x={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "width": 4, "thickness": 1.5},
        name=words,
        legendgroup=source,
        cliponaxis=False,
        hovertext=[_hover(row, found, words) for _, row, found, _ in numbers],
        hoverinfo="text",
    )


def _hover(row: Reproduction, found: Estimate, words: str) -> str:
    lines = [f"<b>{html.escape(row.model)}</b>, {html.escape(words)}"]
    spread = "" if found.sd is None else f" ± {found.sd:.3f}"
    lines.append(f"{row.metric.upper()} {found.mean:.3f}{spread} over {found.n:,} pictures")
    if found.low is not None and found.high is not None:
        lines.append(f"95 % interval of the mean: {found.low:.3f} to {found.high:.3f}")
    return "<br>".join(lines)


def _marks(
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
