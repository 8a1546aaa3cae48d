"""Figures of layers: that they show what they are given, where it belongs, and nothing else."""

import math
import re

import layers_support
import numpy as np
import pytest
from layers_support import drift

from quantviz import figures
from quantviz.figures.data.study import log_axis
from quantviz.figures.data.style import KINDS
from quantviz.figures.data.words import short
from quantviz.figures.interactive.layout import depth_axis
from quantviz.layerwise.specs import LayerDrift, NoiseFloor, Sensitivity
from quantviz.specs import LayerBits, LayerCost, UsageError

names, measured = layers_support.names, layers_support.measured


def points(figure, axis):
    """Return layer name -> y of a panel's markers."""
    found = {}
    for trace in figure.data:
        if trace.mode == "markers" and (trace.yaxis or "y") == axis:
            found |= dict(zip(trace.customdata, trace.y, strict=True))
    return found


def levels(figure):
    """Return what each horizontal line is called -> its height."""
    return {trace.name: trace.y[0] for trace in figure.data if trace.mode == "lines" and trace.line.dash}


# Depth
def test_every_layer_stands_at_its_depth_with_its_drift_alone_and_of_all_but_it(measured):
    figure = figures.depth_figure(measured)
    alone, others = points(figure, "y"), points(figure, "y2")
    assert set(alone) == set(others) == {layer.cost.name for layer in measured.layers}
    for layer in measured.layers:
        if layer.alone.cam is None:
            assert alone[layer.cost.name] is None
        else:
            assert alone[layer.cost.name] == max(layer.alone.cam, 1e-6)
        assert others[layer.cost.name] == layer.all_but.cam
    for trace in figure.data:
        if trace.mode == "markers":
            assert [measured.layers[depth].cost.name for depth in trace.x] == list(trace.customdata)


def test_kinds_differ_in_colour_and_in_marker(measured):
    figure = figures.depth_figure(measured)
    looks = {(t.name, t.marker.color, t.marker.symbol) for t in figure.data if t.mode == "markers"}
    assert looks == set(KINDS.values())
    assert len({colour for _, colour, _ in looks}) == len({symbol for *_, symbol in looks}) == 3


@pytest.mark.parametrize(
    ("measure", "floor", "network", "shown"),
    [
        ("cam", 0.004, 0.05, "noise floor 0.0040"),
        ("kl", 0.02, 0.1, "noise floor 0.0200"),
        ("sqnr", 22.0, 20.0, "noise floor 22.0 dB"),
    ],
)
def test_lines_are_the_noise_floor_and_the_whole_network(measured, measure, floor, network, shown):
    figure = figures.depth_figure(measured, measure=measure)
    found = levels(figure)
    assert found[shown] == floor
    assert next(height for name, height in found.items() if name.startswith("whole network")) == network
    for layer in measured.layers:
        expected = getattr(layer.alone, measure)
        given = points(figure, "y")[layer.cost.name]
        assert given == (max(expected, 1e-6) if expected is not None and measure != "sqnr" else expected)


def test_drift_alone_is_logarithmic_and_sqnr_is_not(measured):
    for measure, kind in (("cam", "log"), ("kl", "log"), ("sqnr", None)):
        figure = figures.depth_figure(measured, measure=measure)
        assert figure.layout.yaxis.type == kind
        assert figure.layout.yaxis2.type is None
    low, high = figures.depth_figure(measured).layout.yaxis.range
    drawn = [max(layer.alone.cam, 1e-6) for layer in measured.layers if layer.alone.cam is not None]
    assert low < math.log10(min(drawn)) <= math.log10(max(drawn)) < high


def test_an_unknown_measure_is_refused(measured):
    with pytest.raises(UsageError, match="'psnr' is unknown; use one of cam, kl, sqnr"):
        figures.depth_figure(measured, measure="psnr")


def test_the_chosen_layer_is_marked_in_both_panels(measured):
    name = measured.layers[7].cost.name
    shapes = figures.depth_figure(measured, selected=name).layout.shapes
    assert [(shape.x0, shape.x1) for shape in shapes] == [(7, 7)] * 2
    assert figures.depth_figure(measured).layout.shapes == ()


def test_hovering_tells_what_a_layer_is_and_does(measured):
    layer = measured.layers[10]
    figure = figures.depth_figure(measured)
    text = next(
        trace.hovertext[list(trace.customdata).index(layer.cost.name)]
        for trace in figure.data
        if trace.mode == "markers" and layer.cost.name in trace.customdata
    )
    for part in (
        f"<b>{layer.cost.name}</b>",
        f"{KINDS[layer.cost.kind][0]}, layer 11 of {len(measured.layers)}",
        "1,010 weights, 11.00 million MACs",
        f"{figures.times(layer.alone.cam, 0.004)} the noise floor",
        "KL 0.1100 nats, SQNR 20.0 dB",
    ):
        assert part in text


def test_a_layers_name_cannot_bring_markup_into_the_page(measured):
    cost = LayerCost("<img src=x>", "conv", 1, 1, 1, 1)
    sharp = Sensitivity(
        **{field: getattr(measured, field) for field in measured.__dataclass_fields__}
        | {"layers": (LayerDrift(cost, 0, drift(0.1), drift(0.1)),)}
    )
    for figure in (
        figures.depth_figure(sharp),
        figures.ranked_figure(sharp),
        figures.bits_figure([LayerBits("<img>", 2, 2)]),
    ):
        shown = [text for trace in figure.data for text in (getattr(trace, "hovertext", None) or ())]
        axes = [*figure.select_xaxes(), *figure.select_yaxes()]
        shown += [text for axis in axes for text in (axis.ticktext or ())]
        assert shown
        assert not any("<img" in text for text in shown)


def test_ticks_of_the_depth_name_blocks_and_never_stand_too_close(names):
    axis = depth_axis([name for name, _ in names])
    assert axis["ticktext"][0] == "conv_stem"
    assert "blocks.3.0" in axis["ticktext"]
    assert np.diff(axis["tickvals"]).min() >= len(names) / 22
    place = axis["tickvals"][axis["ticktext"].index("blocks.3.0")]
    inside = [depth for depth, (name, _) in enumerate(names) if name.startswith("blocks.3.0.")]
    assert place == np.mean(inside)
    deep = depth_axis([f"features.denseblock{depth // 40}.denselayer{depth}.conv" for depth in range(120)])
    assert deep["ticktext"] == ["…denseblock0", "…denseblock1", "…denseblock2"]


def test_long_names_keep_their_end():
    assert short("features.denseblock4.denselayer12.conv1", 30) == "…denselayer12.conv1"
    assert short("conv_stem") == "conv_stem"
    assert len(short("a" * 99, 20)) == 20


def test_ticks_of_a_logarithmic_axis_are_written_out():
    narrow, wide = log_axis([0.02, 0.3]), log_axis([1e-6, 1.0])
    assert {"0.02", "0.05", "0.1", "0.2"} <= {text for _, text in narrow.ticks}
    assert "0.02" not in [text for _, text in wide.ticks]
    assert {"0.000001", "0.01", "1"} <= {text for _, text in wide.ticks}
    for value, text in wide.ticks:
        assert float(text) == pytest.approx(value, abs=1e-9)


# Ranking and noise floor
def test_the_ranking_holds_the_layers_that_move_the_maps_most(measured):
    figure = figures.ranked_figure(measured, count=15)
    rows = {
        row: (name, x) for trace in figure.data for row, name, x in zip(trace.y, trace.customdata, trace.x, strict=True)
    }
    expected = sorted(measured.layers, key=lambda layer: -(layer.alone.cam or 0))[:15]
    assert [rows[row] for row in range(15)] == [(layer.cost.name, layer.alone.cam) for layer in expected]
    assert [shape.x0 for shape in figure.layout.shapes] == [0.004]
    texts = [note.text for note in figure.layout.annotations if note.y in range(15) and "(" in note.text]
    assert texts[0] == f"{expected[0].alone.cam:.4f}  ({figures.times(expected[0].alone.cam, 0.004)})"
    assert len(texts) == 15


def test_the_noise_floor_shows_each_twin_and_each_picture(measured):
    figure = figures.floor_figure(measured.floor, measured.network, "W4A8")
    bars = {trace.y[0]: trace.x[0] for trace in figure.data if trace.type == "bar"}
    assert bars == {0: 0.0005, 1: 0.004, 2: 0.002, 3: 0.05}
    ticks = [trace.x for trace in figure.data if trace.type == "scatter"]
    assert list(ticks[3]) == [0.025, 0.05, pytest.approx(0.075)]  # not the picture without a drift
    assert re.sub("<.?b>", "", figure.layout.yaxis.ticktext[3]) == "float v W4A8: 0.0500"
    without = figures.floor_figure(NoiseFloor(drift(0.1), drift(None), None))
    assert [text.split(":")[0] for text in without.layout.yaxis.ticktext] == [
        "one grey level",
        "crop moved by one pixel",
    ]


@pytest.mark.parametrize(
    ("value", "floor", "words"),
    [
        (0.5, 0.01, "50 ×"),
        (0.0123, 0.01, "1.2 ×"),
        (30, 0.01, "3,000 ×"),
        (None, 0.1, ""),
        (0.1, None, ""),
        (0.1, 0.0, ""),
    ],
)
def test_multiples_of_the_floor_in_words(value, floor, words):
    assert figures.times(value, floor) == words


def test_numbers_in_words():
    assert [figures.number(value) for value in (None, 0.0, 3e-6, 0.00042, 0.0123456)] == [
        "–",
        "0.0000",
        "<0.00001",
        "0.00042",
        "0.0123",
    ]
