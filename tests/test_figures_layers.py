"""Figures of layers: that they show what they are given, where it belongs, and nothing else."""

import json
import math
import re
import string

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from quantviz import figures
from quantviz.figures.marks import GREY, KINDS, depth_axis, log_axis, short
from quantviz.specs import (
    DEVIATIONS,
    Attribution,
    CalibrationRef,
    CamSpec,
    Candidate,
    Cost,
    Drift,
    LayerBits,
    LayerCost,
    LayerDrift,
    NoiseFloor,
    Preprocessing,
    QuantSpec,
    SearchResult,
    Sensitivity,
    UsageError,
    WeightsRef,
)

PICTURES = tuple((letter * 64, f"picture {letter}") for letter in "abcd")
SETTINGS = {
    "weights": WeightsRef(
        "bundled", "IMAGENET1K", "0" * 64, Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    ),
    "calibration": CalibrationRef("bundled photographs", 40, "1" * 64),
    "cam": CamSpec("gradcam++", "bn2"),
}


def drift(cam, *, kl=0.1, sqnr=20.0, flips=0.0, accuracy=None):
    cams = (None,) * 4 if cam is None else (0.5 * cam, cam, 1.5 * cam, None)
    return Drift(cam, cams, kl, sqnr, flips, accuracy)


@pytest.fixture(scope="module")
def names(float_model):
    """Return the names and kinds of a real network's layers, as (name, kind) in order of execution."""
    found = []
    for name, module in float_model("efficientnet_lite0").named_modules():
        if isinstance(module, torch.nn.Conv2d):
            found.append((name, "depthwise" if module.groups > 1 else "conv"))
        elif isinstance(module, torch.nn.Linear):
            found.append((name, "linear"))
    return found


@pytest.fixture(scope="module")
def measured(names):
    chance = np.random.default_rng(4)
    layers = [
        LayerDrift(
            LayerCost(name, kind, 1000 + depth, 10, 10, 10**6 * (depth + 1)),
            depth,
            drift(float(chance.lognormal(-6, 2)), kl=0.01 * (depth + 1), sqnr=10.0 + depth),
            drift(float(chance.uniform(0.02, 0.06))),
        )
        for depth, (name, kind) in enumerate(names)
    ]
    layers[3] = LayerDrift(layers[3].cost, 3, drift(None), layers[3].all_but)  # no evidence
    layers[5] = LayerDrift(layers[5].cost, 5, drift(0.0, kl=0.0, sqnr=None), layers[5].all_but)  # no difference
    floor = NoiseFloor(drift(0.0005, kl=0.001, sqnr=40.0), drift(0.004, kl=0.02, sqnr=22.0), drift(0.002))
    return Sensitivity(
        model="efficientnet_lite0",
        quant=QuantSpec(4, 8),
        images=PICTURES,
        layers=tuple(layers),
        network=drift(0.05),
        floor=floor,
        cost=Cost(2**21, 2**24, 10**8, 10**9, 10**11),
        **SETTINGS,
    )


def candidate(names, name, bits, size, cam, *, held_out=True, accuracy=None):
    return Candidate(
        name,
        tuple(LayerBits(layer, bits, 8) for layer, _ in names),
        Cost(size, 2**24, 10**8, 10**9, 10**11),
        drift(0.8 * cam),
        drift(cam, flips=0.25, accuracy=accuracy) if held_out else None,
    )


@pytest.fixture(scope="module")
def searched(names):
    """Return a function from options to a search's result."""

    def made(*, size=10**6, labels=False, held_out=True, found=True):
        options = {"held_out": held_out, "accuracy": 0.7 if labels else None}
        front = tuple(candidate(names, "mixed", 4, size * step, 0.3 / step**2, **options) for step in (1, 2, 3))
        uniform = tuple(
            candidate(names, f"W{bits}A8", bits, size * bits // 2, 1 / bits**2, **options) for bits in (2, 4, 8)
        )
        return SearchResult(
            model="efficientnet_lite0",
            quant=QuantSpec(8, 8),
            max_drift=0.06,
            max_flips=None,
            searched=PICTURES[:2],
            held_out=PICTURES[2:] if held_out else (),
            found=front[1] if found else None,
            front=front,
            uniform=uniform,
            float_accuracy=0.9 if labels else None,
            **SETTINGS,
        )

    return made


@pytest.fixture(scope="module")
def attributed():
    """Return a function from shares to an attribution."""

    def made(shares, calibrated=0.9654321):
        settings = {name: value for name, value in SETTINGS.items() if name != "calibration"}
        share = dict(zip(DEVIATIONS, shares, strict=True))
        return Attribution(
            model="mobilenet_v2",
            quant=QuantSpec(),
            images=PICTURES,
            calibrated=calibrated,
            paper=calibrated + sum(shares),
            share=share,
            alone={name: calibrated + value for name, value in share.items()},
            subsets={},
            **settings,
        )

    return made


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
    assert {"0.02", "0.05", "0.1", "0.2"} <= set(narrow["ticktext"])
    assert "0.02" not in wide["ticktext"]
    assert {"0.000001", "0.01", "1"} <= set(wide["ticktext"])
    for value, text in zip(wide["tickvals"], wide["ticktext"], strict=True):
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


# Search


def test_the_front_shows_every_candidate_on_seen_and_unseen_pictures(searched):
    result = searched()
    figure = figures.front_figure(result)
    traces = {trace.name: trace for trace in figure.data}
    for group, candidates in (("mixed", result.front), ("uniform", result.uniform)):
        for words, which in (("unseen", "held_out"), ("searched", "searched")):
            trace = traces[f"{group}, {words} images"]
            assert list(trace.y) == [getattr(one, which).cam for one in candidates]
            np.testing.assert_allclose(trace.x, [one.cost.bytes / 2**20 for one in candidates])
    assert list(traces["uniform, unseen images"].text) == ["W2A8", "W4A8", "W8A8"]
    assert (traces["found"].x[0], traces["found"].y[0]) == (2e6 / 2**20, result.found.held_out.cam)
    assert traces["drift allowed, 0.06"].y == (0.06, 0.06)
    assert figure.layout.xaxis.title.text == "size in MiB"
    assert "yaxis2" not in figure.layout


def test_the_front_without_unseen_pictures_labels_what_there_is(searched):
    figure = figures.front_figure(searched(held_out=False, found=False))
    traces = {trace.name: trace for trace in figure.data}
    assert "found" not in traces
    assert not any("unseen" in name for name in traces)
    assert list(traces["uniform, searched images"].text) == ["W2A8", "W4A8", "W8A8"]


def test_small_models_are_told_in_kib(searched):
    figure = figures.front_figure(searched(size=100_000))
    assert figure.layout.xaxis.title.text == "size in KiB"
    assert figure.data[0].x[0] == 100_000 / 1024


def test_labels_bring_a_second_panel_with_the_accuracy(searched):
    figure = figures.front_figure(searched(labels=True))
    below = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert [set(trace.y) for trace in below] == [{0.7}] * 3
    assert [note.text for note in figure.layout.annotations] == ["float 90%"]
    assert figure.layout.xaxis2.title.text == "size in MiB"


def test_bits_stand_in_order_of_execution(names):
    costs = [LayerCost(name, kind, 100, 1, 1, 100) for name, kind in names]
    bits = [LayerBits(name, 2 + depth % 7, 8) for depth, (name, _) in enumerate(names)]
    bits[4] = LayerBits(bits[4].name, None, None)
    bars, line = figures.bits_figure(sorted(bits, key=lambda layer: layer.name), costs).data
    assert list(bars.customdata) == [name for name, _ in names]
    assert list(bars.y) == [32 if depth == 4 else 2 + depth % 7 for depth in range(len(names))]
    assert list(line.y) == [32 if depth == 4 else 8 for depth in range(len(names))]
    assert "weights float, input float" in bars.hovertext[4]
    assert "100 weights" in bars.hovertext[0]


# Attribution


@pytest.mark.parametrize("seed", range(20))
def test_the_shares_shown_add_up_to_the_gap_shown(attributed, seed):
    chance = np.random.default_rng(seed)
    attribution = attributed(chance.normal(0, 0.05, len(DEVIATIONS)), calibrated=float(chance.uniform(0.2, 1)))
    shares = figures.shown_shares(attribution)
    total = round(attribution.paper, 3) - round(attribution.calibrated, 3)
    assert sum(round(1000 * share) for share in shares.values()) == round(1000 * total)
    for name, share in shares.items():
        assert abs(share - attribution.share[name]) <= 0.001
    assert list(shares) == sorted(shares, key=lambda name: attribution.share[name])


def test_the_waterfall_goes_from_one_protocol_to_the_other(attributed):
    attribution = attributed([-0.11, -0.021, -0.034, 0.0123, -0.0456, 0.0078, -0.0007])
    figure = figures.attribution_figure(attribution)
    texts = [re.sub("<.?b>", "", trace.text[0]).replace("−", "-") for trace in figure.data]
    first, *steps, last = map(float, texts)
    assert (first, last) == (round(attribution.calibrated, 3), round(attribution.paper, 3))
    assert first + sum(steps) == pytest.approx(last, abs=1e-9)
    level = first
    for trace, step in zip(figure.data[1:-1], steps, strict=True):
        assert trace.base[0] == pytest.approx(level)
        level += step
        assert trace.base[0] + trace.x[0] == pytest.approx(level)
        assert trace.marker.color == KINDS["linear" if step > 0 else "depthwise"][1]
    start = figure.layout.xaxis.range[0]
    assert 0 < start < last
    assert f"starts at {start:g}" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.ticktext[1] == "train mode"
    assert "eval" not in figure.data[1].hovertext[0]
    assert DEVIATIONS["train_mode"][:40] in figure.data[1].hovertext[0].replace("<br>", " ")


def test_a_waterfall_to_a_negative_mean_shows_all_of_it(attributed):
    figure = figures.attribution_figure(attributed([-0.9, -0.3, 0, 0, 0, 0, 0]))
    assert figure.layout.xaxis.range[0] < -0.234


# All of them


@pytest.fixture(scope="module")
def every(measured, searched, attributed):
    return [
        figures.depth_figure(measured, selected=measured.layers[2].cost.name),
        figures.depth_figure(measured, measure="sqnr"),
        figures.ranked_figure(measured),
        figures.floor_figure(measured.floor, measured.network, "W4A8"),
        figures.front_figure(searched(labels=True)),
        figures.bits_figure(searched().found.bits),
        figures.attribution_figure(attributed([0.0] * 7)),
    ]


def test_figures_are_json_and_leave_text_and_paper_to_the_theme(every):
    for figure in every:
        assert isinstance(figure, go.Figure)
        json.loads(figure.to_json())
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.font.color is None
        assert figure.layout.height


def test_colours_are_told_apart_on_white_and_on_black(every):
    """Contrast of at least 2 with both grounds (WCAG 2.2's formula), for everything that is drawn."""
    used = {GREY}
    for figure in every:
        for trace in figure.data:
            used |= {
                colour
                for colour in (trace.marker.color, trace.line.color if trace.type == "scatter" else None)
                if colour
            }
    for colour in used:
        light = luminance(colour)
        assert (1.05) / (light + 0.05) > 2, colour
        assert (light + 0.05) / 0.05 > 2, colour


def luminance(colour):
    assert set(colour[1:]) <= set(string.hexdigits)
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
