"""Plotly figure of what each switch of the paper's protocol costs."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from quantviz.figures.data.attribution import shown_shares
from quantviz.figures.data.charts import Span
from quantviz.figures.data.style import COLOURS, GREY
from quantviz.figures.data.words import wrapped
from quantviz.figures.interactive.layout import bars, frame, note, rows_axis, title
from quantviz.layerwise.specs import Attribution
from quantviz.specs import DEVIATIONS

_GAIN, _LOSS = COLOURS["float"], COLOURS["quantized"]  # towards the float network's maps, and away


def attribution_figure(attribution: Attribution) -> go.Figure:
    """Return a bar for each switch, from zero to its share of the change of mean CC, with its 95 % interval.

    The greatest loss stands first. The numbers are those of ``shown_shares``, which add up to the difference of the
    protocols. Hovering shows what a switch does, and the mean CC with it alone.
    """
    shares = shown_shares(attribution)
    spans = [_span(share, attribution.intervals.get(name)) for name, share in shares.items()]
    figure = go.Figure(
        go.Bar(
            x=list(shares.values()),
            y=list(range(len(shares))),
            orientation="h",
            width=0.68,
            marker={"color": [_LOSS if share < 0 else _GAIN for share in shares.values()], "line": {"width": 0}},
            error_x=bars(spans, 1.2, 4) if attribution.intervals else None,
            customdata=list(shares),
            hovertext=[_hover(name, share, attribution) for name, share in shares.items()],
            hoverinfo="text",
        )
    )
    ends = [0.0, *(end for span in spans for end in (span.low, span.high))]
    room = 0.14 * (max(ends) - min(ends) or 1.0)
    _write_shares(figure, list(shares.values()), spans)
    figure.update_xaxes(
        title=title("share of the change of mean CC, quantized v float"),
        range=[min(ends) - room, max(ends) + room],
        fixedrange=True,
        zeroline=True,
        zerolinecolor=GREY,
        zerolinewidth=1.5,
    )
    figure.update_yaxes(**rows_axis([name.replace("_", " ") for name in shares]))
    figure.update_layout(**frame(36 * len(shares) + 70, 8), showlegend=False)
    return figure


def _write_shares(figure: go.Figure, shares: Sequence[float], spans: Sequence[Span]) -> None:
    for row, (share, span) in enumerate(zip(shares, spans, strict=True)):
        # At the outer end, so that a number never lies on its bar's interval.
        place, anchor = (span.low, "right") if share < 0 else (span.high, "left")
        figure.add_annotation(
            x=place,
            y=row,
            text=f"{share:+.3f}".replace("-", "−"),
            showarrow=False,
            xanchor=anchor,
            xshift=-6 if share < 0 else 6,
            font={"size": 12},
        )


def _span(share: float, ends: tuple[float, float] | None) -> Span:
    low, high = ends or (share, share)
    return Span(share, min(low, share), max(high, share))


def _hover(name: str, share: float, attribution: Attribution) -> str:
    alone = attribution.alone.get(name)
    ends = attribution.intervals.get(name)
    only = [] if ends is None else [f"95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}"]
    only += [] if alone is None else [f"mean CC with it alone: {alone:.3f}"]
    words, _, rest = note([name.replace("_", " "), *only, *wrapped(DEVIATIONS.get(name, ""), 60, lines=6)]).partition(
        "</b>"
    )
    return f"{words}</b>: {share:+.4f}{rest}"
