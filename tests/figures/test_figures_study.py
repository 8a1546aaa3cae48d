"""Figures of studies: that they show the study's numbers, where they belong, and stay small."""

import math
from dataclasses import replace

import numpy as np
import pytest
from study_support import labelled_pictures, synthetic_plan, synthetic_study

from quantviz import figures
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.figures.data.distribution import density, spread
from quantviz.figures.data.words import by_bits, metric_name
from quantviz.layerwise.pictures import dataset
from quantviz.specs import QuantSpec, UsageError
from quantviz.store import TensorStore
from quantviz.study.filters import Filters, ranking, study_view
from quantviz.study.specs.summary import Estimate, Rate
from quantviz.study.specs.table import RankedModel, Ranking, StudyTable
from quantviz.study.table import study_table

MODELS, BITS = ("mobilenet_v2", "resnet50"), ("16", "8", "4")
PROTOCOLS = ("calibrated", "paper")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    plan = synthetic_plan(300, models=MODELS, bits=BITS, protocols=PROTOCOLS)
    return study_table(synthetic_study(tmp_path_factory.mktemp("studies") / "made", plan))


@pytest.fixture(scope="module")
def view(table):
    return study_view(table, Filters())


def known(table, model, setting, protocol="calibrated", column="quantized_v_float_cc"):
    values = table.columns[column][table.cells.index((model, setting, protocol))]
    return values[~np.isnan(values)]


def spread_of(table, comparison="quantized_v_float", metric="cc", protocol="calibrated", kind="box", chosen=None):
    chart = figures.distribution_chart(table, comparison, metric, protocol, chosen=chosen)
    return figures.distribution_figure(chart, kind)


def drift_of(cells, *options, **more):
    return figures.drift_figure(figures.drift_chart(cells, *options, **more))


def accuracy_of(cells, *options, **more):
    return figures.accuracy_figure(figures.accuracy_chart(cells, *options, **more))


def of_model(figure, model, protocol_place=0):
    return [trace for trace in figure.data if trace.legendgroup == model][protocol_place]


def numbers(values):
    return [None if value is None else float(value) for value in values]


def test_a_box_holds_the_quartiles_and_whiskers_of_its_cell(table):
    figure = spread_of(table)
    boxes = [trace for trace in figure.data if trace.type == "box"]
    assert [box.name for box in boxes] == ["W16A16", "W8A8", "W4A4"]
    for box in boxes:
        for place, model in enumerate(MODELS):
            values = known(table, model, box.name)
            first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
            assert (box.q1[place], box.median[place], box.q3[place]) == pytest.approx((first, median, third))
            inside = values[(values >= first - 1.5 * (third - first)) & (values <= third + 1.5 * (third - first))]
            assert (box.lowerfence[place], box.upperfence[place]) == pytest.approx((inside.min(), inside.max()))
            assert round(box.x[place]) == place
    assert list(figure.layout.xaxis.ticktext) == list(MODELS)
    assert figure.layout.yaxis.title.text == "CC, quantized v float"


def test_means_stand_where_they_are_and_tell_the_numbers(table):
    figure = spread_of(table, "quantized_v_saliency", "kld", "paper", kind="violin")
    means = [trace for trace in figure.data if trace.hoverinfo == "text"]
    for trace in means:
        for place, model in enumerate(MODELS):
            values = known(table, model, trace.legendgroup, "paper", "quantized_v_saliency_kld")
            assert trace.y[place] == pytest.approx(values.mean())
            assert f"{len(values)} pictures" in trace.hovertext[place]
            assert f"median {np.median(values):.4f}" in trace.hovertext[place]


def test_a_violin_is_widest_where_most_values_are(table):
    figure = spread_of(table, kind="violin")
    outline = next(trace for trace in figure.data if trace.fill == "toself" and trace.name == "W4A4")
    end = list(outline.x).index(None)
    x, y = numbers(outline.x[:end]), numbers(outline.y[:end])
    values = known(table, MODELS[0], "W4A4")
    assert (min(y), max(y)) == pytest.approx((values.min(), values.max()), abs=1e-6)
    counts, edges = np.histogram(values, 25)
    widest = y[x.index(max(x))]
    assert abs(widest - edges[int(counts.argmax())]) < 0.12 * (values.max() - values.min())


def test_only_chosen_pictures_are_drawn(table):
    chosen = np.zeros((len(table.cells), 300), bool)
    row = table.cells.index((MODELS[1], "W8A8", "calibrated"))
    chosen[row, 10:30] = True
    figure = spread_of(table, chosen=chosen)
    (box,) = [trace for trace in figure.data if trace.type == "box"]
    values = table.columns["quantized_v_float_cc"][row, 10:30]
    assert list(box.median) == pytest.approx([np.median(values[~np.isnan(values)])])
    assert list(figure.layout.xaxis.ticktext) == [MODELS[1]]


@pytest.mark.parametrize("kind", ["box", "violin"])
def test_a_figure_of_many_pictures_is_small(table, kind):
    places = np.random.default_rng(0).integers(0, 300, 20_000)
    columns = {name: values[:, places] for name, values in table.columns.items()}
    plan = replace(table.plan, images=tuple(table.plan.images[place] for place in places))
    large = spread_of(StudyTable(plan, table.cells, columns), protocol="paper", kind=kind)
    assert len(large.to_json()) < 40_000


def test_random_weights_are_marked(table):
    first = table.plan.models[0]
    untrained = replace(first, weights=replace(first.weights, source="untrained"))
    marked = replace(table, plan=replace(table.plan, models=(untrained, table.plan.models[1])))
    figure = spread_of(marked, protocol="paper")
    assert figure.layout.xaxis.ticktext[0] == "mobilenet_v2<br>UNTRAINED"
    curves = drift_of(study_view(marked, Filters()).cells, untrained=[first.name])
    assert of_model(curves, first.name).name == "mobilenet_v2 UNTRAINED"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric": "auc"}, "no score quantized_v_float_auc"),
        ({"protocol": "calibrated+own_class"}, "no protocol 'calibrated+own_class'"),
        ({"kind": "bars"}, "Kind 'bars' is unknown"),
    ],
)
def test_what_the_study_does_not_have_is_refused(table, changes, told):
    with pytest.raises(UsageError, match=told.replace("+", r"\+")):
        spread_of(table, **changes)


def test_spread_of_few_and_of_equal_values():
    alone = spread(np.array([0.5]))
    assert (alone.n, alone.mean, alone.sd, alone.whiskers, alone.beyond) == (1, 0.5, 0.0, (0.5, 0.5), 0)
    equal = spread(np.array([1.0] * 9 + [0.0]))
    assert (equal.quartiles, equal.whiskers, equal.outliers.tolist()) == ((1, 1, 1), (1, 1), [0.0])
    many = spread(np.concatenate([np.linspace(0, 1, 1000), 5 + np.arange(50.0)]))
    assert many.beyond > len(many.outliers) == 24
    assert many.outliers[-1] == 54
    assert [array.tolist() for array in density(np.full(5, 0.25))] == [[0.25], [1.0]]


def test_bit_widths_are_ordered_by_their_bits():
    assert by_bits({"W16A16", "W4A8", "W8A8", "W4", "W4A4"}) == ["W4A4", "W4A8", "W4", "W8A8", "W16A16"]
    assert (metric_name("cc"), metric_name("auc_judd")) == ("CC", "AUC Judd")


def test_a_curve_goes_through_the_means_with_their_intervals(view):
    figure = drift_of(view.cells, "cc")
    assert list(figure.layout.xaxis.ticktext) == ["W4A4", "W8A8", "W16A16"]
    for model in MODELS:
        for place, protocol in enumerate(PROTOCOLS):
            trace = of_model(figure, model, place)
            cells = {one.setting: one for one in view.cells if (one.model, one.protocol) == (model, protocol)}
            ordered = [cells[name].scores["quantized_v_float"]["cc"] for name in figure.layout.xaxis.ticktext]
            assert list(trace.y) == pytest.approx([one.mean for one in ordered])
            assert list(trace.error_y.array) == pytest.approx([one.high - one.mean for one in ordered])
            assert list(trace.error_y.arrayminus) == pytest.approx([one.mean - one.low for one in ordered])
    dashes = {of_model(figure, MODELS[0], place).line.dash for place in (0, 1)}
    assert len(dashes) == 2
    assert [trace.name for trace in figure.data if trace.showlegend is None] == [
        f"{name} protocol" for name in PROTOCOLS
    ]


def test_drift_on_its_logarithmic_axis_has_a_floor(view):
    nothing = Estimate(9, 0.0, 0.0, 0.0, 0.0)
    cells = [replace(one, drift=nothing) if one.setting == "W16A16" else one for one in view.cells]
    figure = drift_of(cells, protocols=["paper"])
    trace = of_model(figure, MODELS[0])
    assert trace.y[-1] == 1e-6
    assert trace.error_y.array[-1] == 0
    assert "mean 0.0000" in trace.hovertext[-1]
    assert figure.layout.yaxis.type == "log"
    assert len([trace for trace in figure.data if trace.legendgroup]) == len(MODELS)


def test_a_score_that_no_cell_has_is_refused(view):
    with pytest.raises(UsageError, match=r"no score quantized_v_float_nss; it has .*quantized_v_float_cc"):
        drift_of(view.cells, "nss")


def test_accuracy_stands_over_drift(view):
    figure = accuracy_of(view.cells, protocols=["calibrated"])
    trace = of_model(figure, MODELS[0])
    cells = {one.setting: one for one in view.cells if (one.model, one.protocol) == (MODELS[0], "calibrated")}
    assert list(trace.text) == ["W4A4", "W8A8", "W16A16"]
    assert list(trace.x) == pytest.approx([cells[name].drift.mean for name in trace.text])
    assert list(trace.y) == pytest.approx([cells[name].accuracy.value for name in trace.text])
    high = [cells[name].accuracy.high - cells[name].accuracy.value for name in trace.text]
    assert list(trace.error_y.array) == pytest.approx(high)
    levels = {shape.y0 for shape in figure.layout.shapes}
    assert cells["W4A4"].float_accuracy.value in levels
    change = of_model(accuracy_of(view.cells, protocols=["calibrated"], measure="change"), MODELS[0])
    expected = [100 * (cells[name].accuracy.value - cells[name].float_accuracy.value) for name in change.text]
    assert list(change.y) == pytest.approx(expected)
    flips = of_model(accuracy_of(view.cells, protocols=["calibrated"], measure="flips"), MODELS[0])
    assert list(flips.y) == pytest.approx([cells[name].flips.value for name in flips.text])
    with pytest.raises(UsageError, match="Measure 'top5' is unknown"):
        accuracy_of(view.cells, measure="top5")


def test_cells_without_labels_have_no_point_of_accuracy(view):
    bare = [replace(one, accuracy=None, float_accuracy=None) for one in view.cells]
    assert not [trace for trace in accuracy_of(bare).data if trace.y != (None,)]
    flips = accuracy_of(bare, measure="flips")
    assert len([trace for trace in flips.data if trace.y != (None,)]) == len(MODELS) * len(PROTOCOLS)
    assert Rate(0, 0, None, None).value is None


def test_a_ranking_shows_intervals_and_how_often_each_rank_occurs(table):
    found = ranking(table, "W4A4", "paper")
    figure = figures.ranking_figure(figures.ranking_chart(found, untrained=[found.models[1].model]))
    dots, shares = figure.data
    assert list(dots.x) == pytest.approx([one.drift.mean for one in found.models])
    assert list(dots.error_x.array) == pytest.approx([one.drift.high - one.drift.mean for one in found.models])
    for row, one in enumerate(found.models):
        drawn = [0.0 if share is None else share for share in shares.z[row]]
        assert drawn == pytest.approx([share if share >= 0.005 else 0.0 for share in one.shares])
    assert figure.layout.yaxis.ticktext[0].startswith(found.models[0].model)
    assert "UNTRAINED" in figure.layout.yaxis.ticktext[1]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first on top


def test_names_from_outside_are_no_markup(view):
    odd = "<b>x</b>"
    cells = [replace(one, model=odd) for one in view.cells if one.model == MODELS[0]]
    found = Ranking("W4A4", "paper", 3, 10, (RankedModel(odd, Estimate(3, 0.1, 0.1, 0.0, 0.2), (1.0,)),))
    for figure in (drift_of(cells), accuracy_of(cells), figures.ranking_figure(figures.ranking_chart(found))):
        text = figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">")
        assert "&lt;b&gt;x" in text
        names = [trace.name or "" for trace in figure.data] + list(figure.layout.yaxis.ticktext or ())
        assert not any(odd in name for name in names)


def test_the_grid_has_a_tile_for_each_map_and_says_what_is_under_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    sample = dataset(labelled_pictures(tmp_path / "pictures") / "n07920052" / "cup.png")[0]
    bench = Workbench(TensorStore(tmp_path / "tensors"))
    row = [
        bench.compare(CompareRequest("squeezenet1_1", "untrained", QuantSpec(bits, bits)), sample) for bits in (8, 4)
    ]
    figure = figures.grid_figure([row])
    columns = ("image", "saliency", "float", "W8A8", "W4A4")
    assert list(figure.layout.xaxis.ticktext) == [f"<b>{name}</b>" for name in columns]
    assert len(figure.layout.images) == 5
    assert "UNTRAINED" in figure.layout.yaxis.ticktext[0]
    words = [note.text for note in figure.layout.annotations]
    for found in row:
        assert any(figures.number(found.scores["quantized_v_float"].cc) in text for text in words)
    assert len(figure.to_json()) < 120_000
    lost = replace(row[0].quantized, heatmap=replace(row[0].quantized.heatmap, degenerate="constant"))
    without = figures.grid_figure([[replace(row[0], quantized=lost), row[1]]])
    assert len(without.layout.images) == 4
    assert any("no evidence: constant" in note.text for note in without.layout.annotations)
    assert math.isclose(without.layout.images[0].sizex, 0.95)
