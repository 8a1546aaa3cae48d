"""Figures of bits, of a search's front and of the protocol's switches, and what all figures of layers share."""

import json
import string
from dataclasses import replace

import layers_support
import numpy as np
import plotly.graph_objects as go
import pytest
from layers_support import PICTURES, SETTINGS, drift

from quantviz import figures
from quantviz.figures.data.style import COLOURS, GREY
from quantviz.layerwise.specs import Attribution, Candidate, SearchResult
from quantviz.specs import DEVIATIONS, Cost, LayerBits, LayerCost, QuantSpec

names, measured = layers_support.names, layers_support.measured


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
            unscored={},
            **settings,
        )

    return made


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


def test_shares_are_bars_from_zero_and_add_up(attributed):
    attribution = attributed([-0.11, -0.021, -0.034, 0.0123, -0.0456, 0.0078, -0.0007])
    figure = figures.attribution_figure(attribution)
    (bar,) = figure.data
    assert bar.base is None
    assert list(bar.x) == list(figures.shown_shares(attribution).values())
    difference = round(attribution.paper, 3) - round(attribution.calibrated, 3)
    assert sum(bar.x) == pytest.approx(difference, abs=1e-9)
    low, high = figure.layout.xaxis.range
    assert low < min(bar.x) < 0 < max(bar.x) < high
    for share, colour in zip(bar.x, bar.marker.color, strict=True):
        assert colour == COLOURS["quantized" if share < 0 else "float"]
    written = [float(note.text.replace("−", "-")) for note in figure.layout.annotations]
    assert written == pytest.approx(list(bar.x))
    assert figure.layout.yaxis.ticktext[0] == "train mode"
    assert DEVIATIONS["train_mode"][:40] in bar.hovertext[0].replace("<br>", " ")
    assert bar.error_x.array is None


def test_intervals_of_shares_are_drawn_and_hold_the_number(attributed):
    attribution = replace(attributed([-0.1, 0, 0, 0, 0, 0, 0]), intervals={"train_mode": (-0.15, -0.04)})
    (bar,) = figures.attribution_figure(attribution).data
    assert bar.error_x.array[0] == pytest.approx(0.06)
    assert bar.error_x.arrayminus[0] == pytest.approx(0.05)
    assert "95 % interval -0.150 to -0.040" in bar.hovertext[0]


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
            marks = trace.marker.color
            used |= {marks} if isinstance(marks, str) else set(marks or ())
            used |= {trace.line.color} if trace.type == "scatter" and trace.line.color else set()
    for colour in used:
        light = luminance(colour)
        assert (1.05) / (light + 0.05) > 2, colour
        assert (light + 0.05) / 0.05 > 2, colour


def luminance(colour):
    assert set(colour[1:]) <= set(string.hexdigits)
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
