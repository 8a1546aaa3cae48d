"""A study's figures for paper, by matplotlib's object interface: SVG, and PNG of 300 dots an inch, 7 inches wide.

The same study gives the same bytes. No text is smaller than 6 points. What a caption needs (models, digests of weights,
bit-widths, protocol, pictures, versions) is in the file's own description, as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from quantviz.figures.interactive.distributions import ORDERED, by_bits, metric_name, spread
from quantviz.figures.interactive.study import DRIFT, MODEL_MARKS, Measure
from quantviz.figures.layer_style import GREY, log_axis, number
from quantviz.figures.panels import COLOURS, percent
from quantviz.figures.print.page import SMALL, Form, saved
from quantviz.specs import UsageError
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import Estimate, Rate, StudyCell, StudySummary
from quantviz.study.specs.table import Ranking, StudyTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST = 1e-6  # drift at or below it is drawn here on a logarithmic axis
_MARKERS = {
    **{"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v"},
    **{"star": "*", "hexagon": "h"},
}
_DASHES: Final = ("-", ":", "--", "-.", (0, (8, 3)))
_MEASURES: Final = {
    "accuracy": "top-1 accuracy",
    "change": "change of top-1 accuracy,\npercentage points",
    "flips": "pictures whose\ntop-1 class changed",
}
_MEAN: Final = {
    **{"marker": "D", "markersize": 2.2, "markerfacecolor": "white"},
    **{"markeredgecolor": "black", "markeredgewidth": 0.5},
}


def distribution_print(
    table: StudyTable, comparison: str, metrics: Sequence[str], protocol: str, form: Form = "svg"
) -> bytes:
    """Return how scores are spread over the pictures: a panel a metric, a group a model, a box a bit-width.

    Boxes hold the middle half of the values with the median as a line, whiskers reach to the furthest values within 1.5
    interquartile ranges, dots are values beyond, and diamonds are means; all as in ``distribution_figure``.

    Args:
        table: the study.
        comparison: ``"quantized_v_float"`` say.
        metrics: of the comparison, one or more.
        protocol: of the study.
        form: of the file.

    Raises:
        UsageError: the study has no such score.
    """
    for metric in metrics:
        if f"{comparison}_{metric}" not in table.columns:
            raise UsageError(f"The study has no score {comparison}_{metric}; it has {', '.join(table.columns)}.")

    def draw(figure: Figure) -> None:
        rows: Any = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axes, metric in zip(rows, metrics, strict=True):
            _boxes(axes, table, comparison, metric, protocol)
            axes.set_ylabel(metric_name(metric))
        models = [model.name for model in table.plan.models]
        rows[-1].set_xticks(range(len(models)), [_marked(table.plan, name) for name in models])
        rows[0].set_title(f"{comparison.replace('_', ' ')}, {protocol} protocol", loc="left")
        handles, labels = rows[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)

    facts = {"shows": f"spread of {comparison} over the pictures", "protocol": protocol, "metrics": list(metrics)}
    return saved(draw, 0.5 + 1.7 * len(metrics), form, table.plan, facts)


def drift_print(
    found: StudySummary, metric: str = DRIFT, form: Form = "svg", *, comparison: str = "quantized_v_float"
) -> bytes:
    """Return a score's mean against the bit-widths with 95 % intervals, as ``drift_figure``.

    Args:
        found: the summary.
        metric: ``"drift"``, or a metric of the comparison.
        form: of the file.
        comparison: which maps a metric compares; of no account for drift.

    Raises:
        UsageError: no cell has the metric.
    """
    if metric != DRIFT and not any(metric in cell.scores.get(comparison, {}) for cell in found.cells):
        raise UsageError(f"The study has no score {comparison}_{metric}; choose another.")
    settings = by_bits({cell.setting for cell in found.cells})
    lines = list(product([model.name for model in found.plan.models], found.plan.protocols))

    def value(cell: StudyCell) -> Estimate:
        return cell.drift if metric == DRIFT else cell.scores[comparison][metric]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (model, protocol) in enumerate(lines):
            shift = 0.3 * ((place + 0.5) / len(lines) - 0.5)
            cells = [cell for cell in found.cells if (cell.model, cell.protocol) == (model, protocol)]
            cells = sorted((cell for cell in cells if value(cell).mean is not None), key=_order(settings))
            x = [settings.index(cell.setting) + shift for cell in cells]
            least = _LEAST if metric == DRIFT else None
            _curve(axes, x, [value(cell) for cell in cells], found.plan, (model, protocol), least)
        axes.set_xticks(range(len(settings)), settings)
        axes.set_xlabel("bits of weights (W) and activations (A)")
        words = "mean map drift, 1 − CC" if metric == DRIFT else f"mean {metric_name(metric)}"
        axes.set_ylabel(words if metric == DRIFT else f"{words},\n{comparison.replace('_', ' ')}")
        if metric == DRIFT:
            _logarithmic(axes, "y", found.cells)
        _keys(figure, axes, found.plan)

    return saved(draw, 3.0, form, found.plan, {"shows": f"mean {metric} against bit-width", "comparison": comparison})


def accuracy_print(found: StudySummary, measure: Measure = "accuracy", form: Form = "svg") -> bytes:
    """Return top-1 accuracy, or what stands for it, against mean map drift, as ``accuracy_figure``.

    Args:
        found: the summary.
        measure: ``"accuracy"``, ``"change"`` or ``"flips"``; the first two need labels.
        form: of the file.

    Raises:
        UsageError: the measure is unknown.
    """
    if measure not in _MEASURES:
        raise UsageError(f"Measure {measure!r} is unknown; use one of {', '.join(_MEASURES)}.")
    order = _order(by_bits({cell.setting for cell in found.cells}))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for model, protocol in product([model.name for model in found.plan.models], found.plan.protocols):
            cells = [cell for cell in found.cells if (cell.model, cell.protocol) == (model, protocol)]
            known = [(cell, height) for cell in sorted(cells, key=order) if (height := _height(cell, measure))]
            known = [(cell, height) for cell, height in known if cell.drift.mean is not None]
            x = [max(cell.drift.mean or 0.0, _LEAST) for cell, _ in known]
            y = [height[0] for _, height in known]
            bars = np.array(
                [[height[0] - height[1] for _, height in known], [height[2] - height[0] for _, height in known]]
            )
            look, turn = _look(found.plan, model, protocol), found.plan.protocols.index(protocol)
            axes.errorbar(x, y, yerr=bars, **look)
            for (cell, _), across, up in zip(known, x, y, strict=True):
                # Above filled marks and below open ones, which often stand at the same place.
                where: dict[str, Any] = {
                    "xytext": (0, -10 if turn else 4),
                    "textcoords": "offset points",
                    "ha": "center",
                }
                axes.annotate(cell.setting, (across, up), size=SMALL, color=look["color"], **where)
        axes.set_xlabel("mean map drift, 1 − CC")
        axes.set_ylabel(_MEASURES[measure])
        _logarithmic(axes, "x", found.cells)
        if measure != "change":
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.margins(y=0.12)
        _keys(figure, axes, found.plan)

    return saved(draw, 3.2, form, found.plan, {"shows": f"{measure} against mean drift"})


def ranking_print(plan: StudyPlan, ranking: Ranking, form: Form = "svg") -> bytes:
    """Return models ranked by mean map drift beside how often each has which rank, as ``ranking_figure``.

    Args:
        plan: of the study.
        ranking: what to show.
        form: of the file.
    """
    models, rows = ranking.models, list(range(len(ranking.models)))

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[0.55, 0.45])
        for row, one in enumerate(models):
            mean, (down, up) = one.drift.mean or 0.0, _reach(one.drift, None)
            left.errorbar([mean], [row], xerr=[[down], [up]], fmt="o", color=COLOURS["quantized"], capsize=2, ms=4)
        left.set_yticks(rows, [f"{_marked(plan, one.model)}: {number(one.drift.mean)}" for one in models])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_xlim(left=0)
        left.set_xlabel("mean map drift, 1 − CC")
        left.set_title(f"{ranking.setting}, {ranking.protocol} protocol", loc="left")
        shares = np.array([one.shares for one in models]).reshape(len(rows), len(rows))
        right.imshow(shares, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
        for row, rank in product(rows, rows):
            if shares[row, rank] >= 0.005:
                right.text(rank, row, percent(shares[row, rank]), ha="center", va="center", size=SMALL)
        right.set_xticks(rows, [str(rank + 1) for rank in rows])
        right.set_xlabel("rank, 1 = least drift")
        right.set_title(f"part of {ranking.resamples:,} bootstrap samples", loc="left")
        right.grid(visible=False)

    facts = {"shows": "models ranked by mean drift", "setting": ranking.setting, "protocol": ranking.protocol}
    return saved(draw, 0.9 + 0.3 * max(len(rows), 1), form, plan, facts | {"pictures_ranked": ranking.pictures})


def _boxes(axes: Axes, table: StudyTable, comparison: str, metric: str, protocol: str) -> None:
    """Draw the boxes of one score, the most bits first in each group, after those of the float maps where there are."""
    models = [model.name for model in table.plan.models]
    settings = by_bits({cell[1] for cell in table.cells if cell[2] == protocol})[::-1]
    column, same = f"{comparison}_{metric}", f"{comparison.replace('quantized', 'float', 1)}_{metric}"
    groups = [(setting, column, setting, ORDERED[turn % len(ORDERED)]) for turn, setting in enumerate(settings)]
    if same != column and same in table.columns:
        groups.insert(0, ("float", same, settings[0], GREY))  # the same values at every bit-width
    width = 0.84 / len(groups)
    for turn, (label, name, setting, colour) in enumerate(groups):
        boxes, middles = [], []
        for row, cell in enumerate(table.cells):
            values = table.columns[name][row]
            values = values[~np.isnan(values)]
            if cell[1:] == (setting, protocol) and values.size:
                boxes.append(_box(values))
                middles.append(models.index(cell[0]) + ((turn + 0.5) / len(groups) - 0.5) * 0.84)
        if boxes:
            line, dot = {"color": colour, "linewidth": 0.8}, {"markerfacecolor": colour, "markeredgecolor": colour}
            drawn = axes.bxp(
                boxes,
                middles,
                widths=width * 0.86,
                patch_artist=True,
                showmeans=True,
                manage_ticks=False,
                boxprops={"facecolor": f"{colour}59", "edgecolor": colour, "linewidth": 0.8},
                whiskerprops=line,
                capprops=line,
                medianprops={"color": colour, "linewidth": 1.2},
                flierprops={"marker": ".", "markersize": 1.5, **dot},
                meanprops=_MEAN,
            )
            drawn["boxes"][0].set_label(label)
    axes.set_xlim(-0.5, len(models) - 0.5)
    axes.grid(visible=False, axis="x")


def _box(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return what matplotlib draws a box from."""
    found = spread(values)
    ends = dict(zip(("q1", "med", "q3"), found.quartiles, strict=True))
    ends |= {"whislo": found.whiskers[0], "whishi": found.whiskers[1], "mean": found.mean}
    return {**ends, "fliers": found.outliers}


def _curve(
    axes: Axes, x: Sequence[float], found: Sequence[Estimate], plan: StudyPlan, of: tuple[str, str], least: float | None
) -> None:
    means = [max(one.mean or 0.0, -float("inf") if least is None else least) for one in found]
    reaches = np.array([_reach(one, least) for one in found]).reshape(-1, 2).T
    axes.errorbar(x, means, yerr=reaches, **_look(plan, *of))


def _reach(found: Estimate, least: float | None) -> tuple[float, float]:
    """Return how far the interval goes below and above the mean, as they are drawn."""
    if found.mean is None or found.low is None or found.high is None:
        return 0.0, 0.0
    floor = -float("inf") if least is None else least
    mean, low, high = (max(value, floor) for value in (found.mean, found.low, found.high))
    return max(mean - low, 0.0), max(high - mean, 0.0)


def _height(cell: StudyCell, measure: Measure) -> tuple[float, float, float] | None:
    """Return where a cell stands and the ends of its interval; None where it has no such number."""
    if measure == "change":
        after, before = cell.accuracy, cell.float_accuracy
        if after is None or before is None or after.value is None or before.value is None:
            return None
        return (100 * (after.value - before.value),) * 3
    rate: Rate | None = cell.flips if measure == "flips" else cell.accuracy
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        return None
    return rate.value, min(rate.low, rate.value), max(rate.high, rate.value)


def _look(plan: StudyPlan, model: str, protocol: str) -> dict[str, Any]:
    place = [entry.name for entry in plan.models].index(model)
    colour, symbol = MODEL_MARKS[place % len(MODEL_MARKS)]
    turn = plan.protocols.index(protocol)
    return {
        "color": colour,
        "marker": _MARKERS[symbol],
        "markersize": 4,
        "markerfacecolor": "white" if turn else colour,
        "linestyle": _DASHES[turn % len(_DASHES)],
        "linewidth": 1,
        "elinewidth": 0.7,
        "capsize": 1.5,
    }


def _keys(figure: Figure, axes: Axes, plan: StudyPlan) -> None:
    """Write the legend: models by colour and mark, then protocols by dash."""
    from matplotlib.lines import Line2D

    handles: list[Line2D] = []
    for model in plan.models:
        look = _look(plan, model.name, plan.protocols[0])
        handles.append(Line2D([], [], **_line(look), label=_marked(plan, model.name, " ")))
    if len(plan.protocols) > 1:
        for turn, protocol in enumerate(plan.protocols):
            face = "white" if turn else GREY
            style: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": face, "linewidth": 1}
            dash: Any = _DASHES[turn % len(_DASHES)]
            handles.append(Line2D([], [], color=GREY, linestyle=dash, label=f"{protocol} protocol", **style))
    figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False)


def _line(look: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in look.items() if name not in ("elinewidth", "capsize")}


def _logarithmic(axes: Axes, which: Literal["x", "y"], cells: Sequence[StudyCell]) -> None:
    """Make an axis of drift logarithmic; its labels have no exponents, whose digits would be too small to read."""
    ends = [end for cell in cells for end in (cell.drift.mean, cell.drift.high) if end is not None]
    scale = log_axis([max(end, _LEAST) for end in ends])
    low, high = (10**end for end in scale["range"])
    marks = [
        (mark, text) for mark, text in zip(scale["tickvals"], scale["ticktext"], strict=True) if low <= mark <= high
    ]
    ticks, texts = [mark for mark, _ in marks], [text for _, text in marks]
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, labels=texts)
    axis.set_ticks([], minor=True)
    axes.set(**{f"{which}lim": (low, high)})


def _order(settings: Sequence[str]) -> Callable[[StudyCell], int]:
    return lambda cell: settings.index(cell.setting)


def _marked(plan: StudyPlan, name: str, between: str = "\n") -> str:
    """Return a model's name, marked where its weights are random."""
    trained = all(model.weights.trained for model in plan.models if model.name == name)
    return name if trained else f"{name}{between}UNTRAINED"
