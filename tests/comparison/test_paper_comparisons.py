"""Comparisons under the paper's protocol, and which of its switches makes how much of the drift."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import combinations

import comparison_support
import numpy as np
import pytest
import torch
from locked_support import opened
from paper_support import PHOTOGRAPHS, with_switches
from PIL import Image

from quantviz import cam, images, scores
from quantviz.cli import main
from quantviz.comparison import CompareRequest, Workbench, comparison_data
from quantviz.comparison.protocols import ProtocolNetworks, finished
from quantviz.comparison.sequence import sequence
from quantviz.layerwise.attribution import attribution, rounded_shares, shapley, stored_attribution
from quantviz.quantize import (
    after_picture,
)
from quantviz.specs import DEVIATIONS, CamSpec, Heatmap, QuantSpec, UsageError, spec_of
from quantviz.store import TensorStore

bench = comparison_support.bench


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    """Return a request of the untrained network at W4A4 under the paper's protocol, calibrated on two pictures."""
    folder = tmp_path_factory.mktemp("calibration")
    for name in ("astronaut", "flower"):
        shutil.copy(images.bundled_path(name), folder)
    quant = QuantSpec(4, 4, protocol="paper")
    return CompareRequest("squeezenet1_1", "untrained", quant, calibration=folder, saliency=None)


SAMPLES = [images.bundled(name) for name in PHOTOGRAPHS]


def test_a_comparison_under_the_papers_protocol(squeezenet, bench, tmp_path):
    request = replace(squeezenet, saliency="spectral_residual")
    found = bench.compare(request, SAMPLES[0])
    assert found.class_rule == "own"
    assert found.weights.preprocessing.fit == "stretch"
    assert found.reference.class_index == found.reference.predictions[0].index
    assert found.quantized.class_index == found.quantized.predictions[0].index
    assert np.array_equal(found.crop, images.crop(SAMPLES[0].rgb, found.weights.preprocessing))
    told = json.loads(json.dumps(comparison_data(found)))["quantization"]
    assert told["protocol"] == "paper"
    assert told["deviations"] == dict(DEVIATIONS)
    assert (told["calibration"], told["headroom"]) == (None, 1.0)
    again = bench.compare(request, SAMPLES[0])
    assert again.cached
    assert np.array_equal(again.quantized.heatmap.values, found.quantized.heatmap.values)
    # The picture calibrates itself: what was compared before does not matter.
    after = bench.compare(squeezenet, SAMPLES[1])
    with TensorStore(tmp_path) as other:
        fresh = Workbench(other).compare(squeezenet, SAMPLES[1])
    assert np.array_equal(after.quantized.heatmap.values, fresh.quantized.heatmap.values)
    assert not fresh.cached


def test_results_of_protocols_are_kept_apart_and_shared_where_they_are_the_same(squeezenet, bench):
    def made(*names):
        quant = replace(with_switches(*names, bits=4))
        return bench.compare(replace(squeezenet, quant=quant), SAMPLES[0])

    plain, own, trained, stretched = made(), made("own_class"), made("train_mode"), made("stretched_input")
    # SqueezeNet has no batch norm; its dropout changes only what comes after the target layer.
    values = [found.reference.heatmap.values for found in (plain, trained, stretched)]
    for first, second in combinations(values, 2):
        assert not np.array_equal(first, second)
    assert np.array_equal(own.reference.heatmap.values, plain.reference.heatmap.values)
    assert plain.class_rule == "float"
    assert made("coarse_grids").reference.heatmap.values.tobytes() == plain.reference.heatmap.values.tobytes()
    assert made().cached
    assert len({found.key for found in (plain, own, trained, stretched)}) == 4


def test_a_sequence_carries_its_observers_on_and_each_picture_passes_them_once(squeezenet, bench):
    request = replace(squeezenet, quant=with_switches("online_ranges", "output_quantizers", bits=4))
    forth = list(sequence(bench, request, SAMPLES))
    alone = [bench.compare(request, sample) for sample in SAMPLES]
    assert np.array_equal(forth[0].fixed[1].heatmap.values, alone[0].quantized.heatmap.values)
    assert not np.array_equal(forth[2].fixed[1].heatmap.values, alone[2].quantized.heatmap.values)
    assert np.array_equal(forth[2].fixed[0].heatmap.values, alone[2].reference.heatmap.values)
    back = list(sequence(bench, request, SAMPLES[::-1]))
    assert not np.array_equal(back[2].fixed[1].heatmap.values, forth[0].fixed[1].heatmap.values)
    # By hand, one forward pass a picture; asking for the own class as well moves nothing.
    subject = bench.subject(request)
    network = ProtocolNetworks(bench.networks).quantized(subject, request.quant, lambda *_: None)
    for sample, step in zip(SAMPLES, forth, strict=True):
        pixels = images.crop(sample.rgb, subject.ref.preprocessing)
        image = torch.from_numpy(images.normalize(pixels, subject.ref.preprocessing))
        index = step.fixed[0].class_index
        by_hand = cam.explain(network, image, CamSpec("gradcam++", subject.layer), index)
        assert np.array_equal(by_hand.heatmap.values, step.fixed[1].heatmap.values)
        assert step.own[1].class_index == step.own[1].predictions[0].index
    assert any(step.own[1].class_index != step.fixed[1].class_index for step in forth)


def test_eight_bit_maps_are_the_saved_ones(squeezenet, bench):
    result = bench.float_result(squeezenet, SAMPLES[1], None, bench.subject(squeezenet).ref.preprocessing)
    plain = bench.compare(replace(squeezenet, quant=QuantSpec()), SAMPLES[1]).reference
    spec = with_switches("eight_bit_maps")
    size = SAMPLES[1].rgb.shape[:2]
    found = finished(plain, spec, size).heatmap.values
    large = Image.fromarray(plain.native.values).resize(size[::-1], Image.Resampling.BICUBIC)
    saved = np.array(large, np.float64)
    saved = np.rint(255 * (saved - saved.min()) / (saved.max() - saved.min())).astype(np.uint8)
    back = Image.fromarray(saved.astype(np.float32)).resize(found.shape[::-1], Image.Resampling.BILINEAR)
    assert np.abs(found * 255 - np.array(back)).max() <= 1.001  # a grey level where float32 rounds the other way
    assert scores.compare(found, plain.heatmap.values).cc > 0.97
    assert not np.array_equal(found, plain.heatmap.values)
    assert result.heatmap.values.shape == found.shape
    flat = replace(plain, heatmap=Heatmap(np.zeros((224, 224)), "constant"))
    assert finished(flat, spec, size) is flat
    assert finished(plain, QuantSpec(), size) is plain


def test_more_passes_of_a_picture_leave_its_observers_and_draws(squeezenet, bench):
    found = bench.compare(squeezenet, SAMPLES[2])
    *networks, image = bench.models(squeezenet, SAMPLES[2])
    float_network, network = map(opened, networks)
    with torch.no_grad():
        first = network(image)
        network(image * 3)
        assert torch.equal(network(image), first)
        assert torch.equal(float_network(image), float_network(image))
    top = int(first.argmax())
    assert top == found.quantized.class_index
    assert int(float_network(image).argmax()) == found.reference.class_index
    assert not torch.equal(after_picture(float_network, image, 1)(image), float_network(image))


def test_shapley_values_of_known_games():
    weights = {"a": 1.0, "b": -2.0, "c": 0.25}
    subsets = [frozenset(names) for size in range(4) for names in combinations(weights, size)]
    additive = {names: 5 + sum(weights[name] for name in names) for names in subsets}
    assert {name: shapley(additive, name) for name in weights} == pytest.approx(weights)
    # One left glove, two right ones: 4/6, 1/6, 1/6 (Shapley 1953).
    gloves = {names: float("a" in names and len(names) > 1) for names in subsets}
    assert [shapley(gloves, name) for name in "abc"] == pytest.approx([2 / 3, 1 / 6, 1 / 6])


@pytest.mark.slow
def test_rounded_shares_add_up(measured):
    found = measured[0]
    for paper_cc, digits in ((0.81234, 3), (0.81236, 3), (0.8, 1), (0.99996, 4)):
        share = {name: (paper_cc - 0.93333) * part / 28 for part, name in enumerate(DEVIATIONS, 1)}
        rounded = rounded_shares(replace(found, calibrated=0.93333, paper=paper_cc, share=share), digits)
        assert sum(rounded.values()) == pytest.approx(round(paper_cc, digits) - round(0.93333, digits), abs=1e-9)
        assert all(abs(rounded[name] - share[name]) <= 1.01 * 10**-digits for name in share)


@pytest.fixture(scope="module")
def measured(squeezenet, tmp_path_factory):
    """Return an attribution that was interrupted once, the reports of both calls, and the cache's folder."""
    folder, request = tmp_path_factory.mktemp("attribution"), replace(squeezenet, quant=QuantSpec(4, 4))
    reports = []

    def note(message, fraction, _phase=None):
        if message.startswith("Measuring"):
            reports.append(fraction)

    def interrupted(message, fraction, _phase=None):
        note(message, fraction)
        if message.startswith("Measuring") and fraction > 0.4:
            raise KeyboardInterrupt

    with TensorStore(folder / "tensors") as store:
        bench = Workbench(store)
        with pytest.raises(KeyboardInterrupt):
            attribution(bench, request, SAMPLES[:2], interrupted)
        before = len(reports)
        assert stored_attribution(bench, request, SAMPLES[:2], note) is None
        found = attribution(bench, request, SAMPLES[:2], note)
        assert stored_attribution(bench, request, SAMPLES[:2], note) == found
    return found, reports[:before], reports[before:], folder


def test_shares_add_up_and_subsets_are_the_comparisons(squeezenet, measured, bench):
    found = measured[0]
    assert sum(found.share.values()) == pytest.approx(found.paper - found.calibrated, abs=1e-9)
    assert list(found.share) == list(found.alone) == list(DEVIATIONS)
    assert len(found.subsets) == 2**7
    assert found.subsets[""] == found.calibrated
    assert found.subsets["+".join(DEVIATIONS)] == found.paper
    assert found.quant.protocol == "calibrated"
    for names in ((), ("coarse_grids", "stretched_input"), ("train_mode", "own_class", "eight_bit_maps")):
        request = replace(squeezenet, quant=with_switches(*names, bits=4))
        marks = [bench.compare(request, sample).scores["quantized_v_float"].cc for sample in SAMPLES[:2]]
        assert found.subsets["+".join(names)] == pytest.approx(np.mean([mark for mark in marks if mark is not None]))
        assert len(found.unscored.get("+".join(names), ())) == marks.count(None)
    assert any(abs(share) > 1e-3 for share in found.share.values())


@pytest.mark.slow
def test_an_interrupted_attribution_goes_on_where_it_was(measured):
    _, first, second, _ = measured
    assert first == sorted(first)
    assert second == sorted(second)
    done = (len(first) - 1) // 3  # each pass reports its beginning and its two pictures
    assert 8 < done < 31
    assert len(second) == done + 3 * (32 - done)


@pytest.mark.parametrize(
    ("changed", "samples", "named"),
    [
        ({"target": "own"}, SAMPLES, "own"),
        ({"quant": spec_of("gptq")}, SAMPLES, "gptq"),
        ({"quant": spec_of("standard", ranges="mse")}, SAMPLES, "mse"),
        ({}, [], "no picture"),
    ],
)
def test_attributions_that_mean_nothing_are_refused(squeezenet, bench, changed, samples, named):
    with pytest.raises(UsageError, match=named):
        attribution(bench, replace(squeezenet, **changed), samples)


def test_the_command_attribute(squeezenet, measured, monkeypatch, capfd):
    found, _, _, folder = measured

    def run(*more):
        arguments = ["attribute", "chelsea", "coffee", "--model", "squeezenet1_1", "--weights", "untrained"]
        arguments += ["--weight-bits", "4", "--act-bits", "4", "--cache", str(folder)]
        arguments += ["--calibration", str(squeezenet.calibration), *more]
        monkeypatch.setattr(sys, "argv", ["quantviz", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert (ended.value.code, err) == (0, "")
        return out

    told = json.loads(run("--json", "-"))
    assert told["share"] == dict(found.share)
    assert (told["calibrated"], told["paper"]) == (found.calibrated, found.paper)
    assert [image["name"] for image in told["images"]] == list(PHOTOGRAPHS[:2])
    lines = [line.split() for line in run().splitlines()]
    numbers = {line[0]: float(line[1]) for line in lines if line and line[0] in {*DEVIATIONS, "calibrated", "paper"}}
    end = numbers.pop("paper")
    assert sum(numbers.values()) == pytest.approx(end, abs=1e-9)
    assert set(numbers) == {*DEVIATIONS, "calibrated"}
    text = " ".join(" ".join(line) for line in lines)
    assert "UNTRAINED" in text
    assert all(sentence in text for sentence in DEVIATIONS.values())
