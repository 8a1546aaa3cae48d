"""A study's figures for paper, by matplotlib's object interface: SVG, and PNG of 300 dots an inch, 7 inches wide.

The same study gives the same bytes. No text is smaller than 6 points. What a caption needs (networks, digests of
weights, bit-widths, protocol, pictures, versions) is in the file's own description, as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from quantviz.figures.data.charts import Axis, LineChart, Look, RankChart, Span
from quantviz.figures.data.distribution import BoxGroup, DistributionChart, Spread
from quantviz.figures.data.style import COLOURS, GREY
from quantviz.figures.print.page import LINES, MARKERS, SMALL, Form, study_page
from quantviz.study.specs.plan import StudyPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEAN: Final[dict[str, Any]] = {"marker": "D", "markersize": 2.2, "markerfacecolor": "white", "markeredgewidth": 0.5}


def distribution_print(charts: Sequence[DistributionChart], plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return how scores are spread over the pictures: a panel a score, a group a network, a box a bit-width.

    Boxes hold the middle half of the values with the median as a line, whiskers reach to the furthest values within 1.5
    interquartile ranges, dots are values beyond, and diamonds are means.

    Args:
        charts: one or more scores of one comparison under one protocol.
        plan: of the study, for the file's description.
        form: of the file.

    Raises:
        UsageError: the form is unknown; likewise of the other figures.
    """
    shows, metrics = f"spread of {charts[0].comparison} over the pictures", [chart.metric for chart in charts]
    facts = {"shows": shows, "protocol": charts[0].protocol, "metrics": metrics}
    return study_page(partial(draw_distributions, charts=charts), 0.5 + 1.7 * len(charts), form, plan, facts)


def drift_print(chart: LineChart, plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return the file of a score's mean against the bit-widths with 95 % intervals."""
    return study_page(partial(draw_drift, chart=chart), 3.0, form, plan, chart.facts)


def accuracy_print(chart: LineChart, plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return the file of accuracy, or what stands for it, against mean map drift."""
    return study_page(partial(draw_accuracy, chart=chart), 3.2, form, plan, chart.facts)


def ranking_print(chart: RankChart, plan: StudyPlan, form: Form = "svg") -> bytes:
    """Return the file of networks ranked by mean map drift, beside how often each has which rank."""
    height = 0.9 + 0.3 * max(len(chart.rows), 1)
    return study_page(partial(draw_ranks, chart=chart), height, form, plan, chart.facts)


def draw_distributions(figure: Figure, charts: Sequence[DistributionChart]) -> None:
    """Draw the boxes of one or more scores of a comparison below each other."""
    rows: Any = figure.subplots(len(charts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, chart in zip(rows, charts, strict=True):
        for group in chart.groups:
            _boxes(axes, group, chart.width)
        axes.set_xlim(-0.5, len(chart.networks) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(chart.titles[0])
    rows[-1].set_xticks(range(len(charts[0].networks)), charts[0].networks)
    rows[0].set_title(f"{charts[0].titles[1]}, {charts[0].protocol} protocol", loc="left")
    handles, labels = rows[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)


def draw_drift(figure: Figure, chart: LineChart) -> None:
    """Draw means against bit-widths."""
    axes = _lines(figure, chart)
    axes.set_xticks(range(len(chart.x.ticks)), [words for _, words in chart.x.ticks])
    _logarithmic(axes, "y", chart.y)
    if chart.band is not None:
        axes.axhspan(axes.get_ylim()[0], chart.band.top, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        corner: dict[str, Any] = {"textcoords": "offset points", "xytext": (3, -2), "ha": "left", "va": "top"}
        axes.annotate(chart.band.name, (0, chart.band.top), xycoords=axes.get_yaxis_transform(), size=SMALL, **corner)


def draw_accuracy(figure: Figure, chart: LineChart) -> None:
    """Draw accuracy against drift, each point with its bit-width; the drift's intervals are left out for room."""
    axes = _lines(figure, chart)
    for series in chart.series:
        # Above filled symbols and below open ones, which often stand at the same place.
        where: dict[str, Any] = {"xytext": (0, 4 if series.look.filled else -10), "textcoords": "offset points"}
        for point in series.points:
            place = point.x.value, point.y.value
            axes.annotate(point.label, place, size=SMALL, color=series.look.colour, ha="center", **where)
    _logarithmic(axes, "x", chart.x)
    if chart.y.percent:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.margins(y=0.12)


def draw_ranks(figure: Figure, chart: RankChart) -> None:
    """Draw drifts at the left and shares of the ranks at the right."""
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[0.55, 0.45])
    figure.supxlabel(chart.intervals, size=SMALL)
    rows = range(len(chart.rows))
    for place, row in enumerate(chart.rows):
        style: dict[str, Any] = {"fmt": "o", "color": COLOURS["quantized"], "capsize": 2, "ms": 4}
        left.errorbar([row.drift.value], [place], xerr=_bars([row.drift]), **style)
    left.set_yticks(rows, [f"{row.name}: {row.words}" for row in chart.rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlim(left=0)
    left.set_xlabel(chart.titles[0])
    left.set_title(f"{chart.setting}, {chart.protocol} protocol", loc="left")
    if rows:
        right.imshow([row.shares for row in chart.rows], cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for place, rank in product(rows, rows):
        right.text(rank, place, chart.rows[place].texts[rank], ha="center", va="center", size=SMALL)
    right.set_xticks(rows, [str(rank + 1) for rank in rows])
    right.set_xlabel(chart.titles[1])
    right.set_title(f"part of {chart.resamples:,} bootstrap samples", loc="left")
    right.grid(visible=False)


def _boxes(axes: Axes, group: BoxGroup, width: float) -> None:
    if not group.boxes:
        return
    line: dict[str, Any] = {"color": group.colour, "linewidth": 0.8}
    dots = {"markerfacecolor": group.colour, "markeredgecolor": group.colour}
    drawn = axes.bxp(
        [_box(box.spread) for box in group.boxes],
        [box.x for box in group.boxes],
        widths=width,
        patch_artist=True,
        showmeans=True,
        manage_ticks=False,
        boxprops={"facecolor": f"{group.colour}59", "edgecolor": group.colour, "linewidth": 0.8},
        whiskerprops=line,
        capprops=line,
        medianprops={"color": group.colour, "linewidth": 1.2},
        flierprops={"marker": ".", "markersize": 1.5, **dots},
        meanprops=_MEAN | {"markeredgecolor": "black"},
    )
    drawn["boxes"][0].set_label(group.name)


def _box(spread: Spread) -> dict[str, Any]:
    """Return what matplotlib draws a box from."""
    ends = dict(zip(("q1", "med", "q3"), spread.quartiles, strict=True))
    ends |= {"whislo": spread.whiskers[0], "whishi": spread.whiskers[1], "mean": spread.mean}
    return {**ends, "fliers": spread.outliers}


def _bars(spans: Iterable[Span]) -> tuple[list[float], list[float]]:
    """Return the lengths of error bars below and above the values."""
    drawn = list(spans)
    return [one.value - one.low for one in drawn], [one.high - one.value for one in drawn]


def _lines(figure: Figure, chart: LineChart) -> Axes:
    """Draw a chart's points with their upright intervals, and the legend: networks, then protocols."""
    from matplotlib.lines import Line2D

    axes: Axes = figure.subplots()
    for series in chart.series:
        x, y = [point.x.value for point in series.points], [point.y for point in series.points]
        bars: dict[str, Any] = {"yerr": _bars(y), "elinewidth": 0.7, "capsize": 1.5}
        axes.errorbar(x, [one.value for one in y], **bars, **_look(series.look))
    axes.set(xlabel=chart.x.title, ylabel=chart.y.title)
    figure.supxlabel(chart.intervals, size=SMALL)
    keys = (*chart.networks, *chart.protocols)
    handles = [Line2D([], [], **_look(look), label=name.replace("\n", " ")) for name, look in keys]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False)
    return axes


def _look(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour,
        "marker": MARKERS[look.symbol],
        "markersize": 4,
        "markerfacecolor": look.colour if look.filled else "white",
        "linestyle": LINES[look.dash],
        "linewidth": 1,
    }


def _logarithmic(axes: Axes, which: str, axis: Axis) -> None:
    """Make an axis logarithmic if the chart's is; its labels have no exponents, whose digits would be too small."""
    if axis.exponents is None:
        return
    low, high = (10**end for end in axis.exponents)
    axes.set(**{f"{which}scale": "log"})
    drawn = axes.xaxis if which == "x" else axes.yaxis
    ticks = {place: words for place, words in axis.ticks if low <= place <= high}
    drawn.set_ticks(list(ticks), labels=list(ticks.values()))
    drawn.set_ticks([], minor=True)
    axes.set(**{f"{which}lim": (low, high)})
