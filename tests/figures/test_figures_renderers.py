"""Both renderers of a study draw exactly the numbers of the charts that the data module prepares."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from study_support import synthetic_plan, synthetic_study

from quantviz import figures
from quantviz.figures.print import study as paper
from quantviz.study.filters import ranking
from quantviz.study.summary import summary
from quantviz.study.table import study_table

MODELS, PROTOCOLS = ("mobilenet_v2", "resnet50"), ("calibrated", "paper")
UNTRAINED = MODELS[1:]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    plan = synthetic_plan(60, models=MODELS, bits=("16", "8", "4"), protocols=PROTOCOLS)
    return synthetic_study(tmp_path_factory.mktemp("studies") / "made", plan)


@pytest.fixture(scope="module")
def cells(study):
    return summary(study).cells


@pytest.fixture(scope="module")
def table(study):
    return study_table(study)


def axes_of(draw, *arguments):
    """Return the panels of a figure that was drawn on an empty page."""
    figure = Figure(layout="constrained")
    draw(figure, *arguments)
    return figure, figure.axes


def printed_series(axes, upright=True):
    """Return of each line with error bars its points and the ends of its bars, each (points, 2), and its colour."""
    found = []
    for container in axes.containers:
        line, _, (bars,) = container.lines
        ends = np.array([segment[:, 1 if upright else 0] for segment in bars.get_segments()])
        found.append((line.get_xydata(), ends, to_hex(line.get_color()).upper()))
    return found


def spans(points, axis):
    return [getattr(point, axis) for point in points]


def ends(drawn):
    return [(one.low, one.high) for one in drawn]


def assert_drawn(chart, figure, axes):
    """Compare a chart's series with the traces and the matplotlib artists."""
    traces = figure.data[: len(chart.series)]
    printed = printed_series(axes)
    assert len(chart.series) == len(printed) == len(MODELS) * len(PROTOCOLS)
    for series, trace, (points, bars, colour) in zip(chart.series, traces, printed, strict=True):
        x, y = spans(series.points, "x"), spans(series.points, "y")
        assert list(trace.x) == [one.value for one in x] == list(points[:, 0])
        assert list(trace.y) == [one.value for one in y] == list(points[:, 1])
        up, down = np.array(trace.error_y.array), np.array(trace.error_y.arrayminus)
        np.testing.assert_allclose(np.stack([trace.y - down, trace.y + up], axis=1), ends(y))
        np.testing.assert_allclose(bars, ends(y))
        assert trace.line.color == colour == series.look.colour
        assert trace.marker.symbol.endswith("-open") != series.look.filled
    assert [name for name, _ in chart.networks] == ["mobilenet_v2", "resnet50\nUNTRAINED"]


@pytest.mark.parametrize("metric", ["drift", "cc"])
def test_means_against_bit_widths(cells, metric):
    chart = figures.drift_chart(cells, metric, untrained=UNTRAINED)
    figure, (axes,) = axes_of(paper.draw_drift, chart)
    assert_drawn(chart, figures.drift_figure(chart), axes)
    estimates = [cell.drift if metric == "drift" else cell.scores["quantized_v_float"]["cc"] for cell in cells]
    drawn = [(point.y.low, point.y.value, point.y.high) for series in chart.series for point in series.points]
    assert sorted(drawn) == sorted((one.low, one.mean, one.high) for one in estimates)
    assert any(one.method in figure.get_supxlabel() for one in estimates)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["W4A4", "W8A8", "W16A16"]
    assert axes.get_yscale() == ("log" if metric == "drift" else "linear")


@pytest.mark.parametrize("measure", ["accuracy", "change", "flips"])
def test_accuracy_against_drift(cells, measure):
    chart = figures.accuracy_chart(cells, measure, untrained=UNTRAINED)
    _, (axes,) = axes_of(paper.draw_accuracy, chart)
    figure = figures.accuracy_figure(chart)
    assert_drawn(chart, figure, axes)
    labels = [point.label for series in chart.series for point in series.points]
    assert [text.get_text() for text in axes.texts] == labels
    assert [label for trace in figure.data[: len(chart.series)] for label in trace.text] == labels
    assert ("Wilson" in chart.intervals) == (measure != "change")
    for trace, series in zip(figure.data, chart.series, strict=False):
        assert list(trace.error_x.array) == [point.x.high - point.x.value for point in series.points]


def test_the_ranking(table):
    chart = figures.ranking_chart(ranking(table, "W4A4", "paper"), untrained=UNTRAINED)
    page, (left, right) = axes_of(paper.draw_ranks, chart)
    dots, shares = figures.ranking_figure(chart).data
    drifts = [row.drift for row in chart.rows]
    printed = printed_series(left, upright=False)
    assert list(dots.x) == [one.value for one in drifts] == [points[0, 0] for points, _, _ in printed]
    np.testing.assert_allclose([bars[0] for _, bars, _ in printed], ends(drifts))
    np.testing.assert_allclose(np.array(dots.x) + dots.error_x.array, [one.high for one in drifts])
    (picture,) = right.images
    assert picture.get_array().tolist() == [list(row.shares) for row in chart.rows]
    words = [text for row in chart.rows for text in row.texts]
    assert [text.get_text() for text in right.texts] == words == [text for row in shares.text for text in row]
    assert page.get_supxlabel() == chart.intervals


def test_the_distribution(table):
    chart = figures.distribution_chart(table, "quantized_v_float", "cc", "paper")
    page, (axes,) = axes_of(paper.draw_distributions, [chart])
    boxes = [trace for trace in figures.distribution_figure(chart).data if trace.type == "box"]
    medians = [line for line in axes.lines if len(set(line.get_ydata())) == 1 and line.get_linewidth() == 1.2]
    drawn = iter(medians)
    for group, trace in zip(chart.groups, boxes, strict=True):
        assert list(trace.x) == [box.x for box in group.boxes]
        assert list(trace.median) == [box.spread.quartiles[1] for box in group.boxes]
        assert (trace.name, trace.line.color, trace.width) == (group.name, group.colour, chart.width)
        for box in group.boxes:
            line = next(drawn)
            np.testing.assert_allclose(line.get_xdata(), [box.x - chart.width / 2, box.x + chart.width / 2])
            assert line.get_ydata()[0] == box.spread.quartiles[1]
            assert to_hex(line.get_color()).upper() == group.colour
    assert next(drawn, None) is None
    assert [text.get_text() for text in page.legends[0].get_texts()] == [group.name for group in chart.groups]


def test_a_complete_distribution_has_the_float_maps_and_a_place_for_every_network(table):
    none = {name: values.copy() for name, values in table.columns.items()}
    for row, (model, _, _) in enumerate(table.cells):
        if model == MODELS[0]:
            none["quantized_v_saliency_cc"][row] = none["float_v_saliency_cc"][row] = np.nan
    bare = type(table)(table.plan, table.cells, none)
    part = figures.distribution_chart(bare, "quantized_v_saliency", "cc", "paper")
    whole = figures.distribution_chart(bare, "quantized_v_saliency", "cc", "paper", complete=True)
    assert (part.networks, whole.networks) == (MODELS[1:], MODELS)
    assert [group.name for group in part.groups] == ["W16A16", "W8A8", "W4A4"]
    assert [group.name for group in whole.groups] == ["float", "W16A16", "W8A8", "W4A4"]
    assert all(round(box.x) == 1 for group in whole.groups for box in group.boxes)
