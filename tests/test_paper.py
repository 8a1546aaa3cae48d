"""The paper's protocol and its switches: against torch's own prepare_qat, against formulas, and in the pipeline."""

import copy
import json
import shutil
import sys
import warnings
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quantviz import cam, images, scores
from quantviz.cli import main
from quantviz.pipeline import CompareRequest, Workbench, report
from quantviz.pipeline.attribution import attribution, rounded_shares, shapley
from quantviz.pipeline.protocols import ProtocolNetworks, finished, sequence
from quantviz.quantize import (
    NETWORK_DEVIATIONS,
    calibrate,
    held,
    paper,
    paper_base,
    quantize,
    seeded,
    settled,
    site_ranges,
    train_mode,
)
from quantviz.quantize.paper import SiteQuantizer, coarse_grid, coarse_weight_grid, quantizers
from quantviz.specs import DEVIATIONS, CamSpec, Heatmap, LayerBits, QuantSpec, UsageError, spec_of
from quantviz.store import TensorStore

PHOTOGRAPHS = ("chelsea", "coffee", "rocket")
LITE0 = "efficientnet_lite0"


def with_switches(*names, bits=8):
    return QuantSpec(bits, bits, protocol="+".join(["calibrated", *names]))


@pytest.fixture
def small(photograph):
    """Return the fixture ``photograph`` at 128 x 128 pixels, which is faster."""
    return lambda *names: nn.functional.interpolate(photograph(*names), size=(128, 128), mode="area")


def prepared(model, bits):
    """Return the model as the published code prepares it, by torch's own deprecated functions."""
    quantization = torch.ao.quantization
    if bits == 8:
        activation, weight = quantization.default_fake_quant, quantization.default_weight_fake_quant
    else:
        wide = {"observer": quantization.MovingAverageMinMaxObserver, "dtype": torch.qint32}
        fake = quantization.FakeQuantize.with_args(quant_min=-32768, quant_max=32767, **wide)
        activation = fake.with_args(qscheme=torch.per_tensor_affine, reduce_range=True)
        weight = fake.with_args(qscheme=torch.per_tensor_symmetric)
    model = copy.deepcopy(model).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.qconfig = quantization.QConfig(activation=activation, weight=weight)
        return quantization.prepare_qat(model)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "efficientnet_b0"])
def test_with_its_four_switches_on_the_network_is_prepare_qats_bit_for_bit(float_model, small, name, bits):
    model, spec = float_model(name), QuantSpec(bits, bits, protocol="paper")
    oracle, network = prepared(model, bits), paper(paper_base(model, spec, small(name)), spec)
    for seed, picture in enumerate(PHOTOGRAPHS):
        image = small(name, picture)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), seeded(network, seed):
            torch.default_generator.manual_seed(seed)
            assert torch.equal(network(image), oracle(image))
    ours, seen = dict(quantizers(network)), 0
    for place, module in oracle.named_modules():
        if isinstance(getattr(module, "activation_post_process", None), torch.ao.quantization.FakeQuantizeBase):
            seen += 1
            fake, grid = module.activation_post_process, ours.pop(place).grid
            observer = fake.activation_post_process
            assert (float(fake.scale), int(fake.zero_point)) == (grid.scale, grid.zero_point)
            assert (observer.quant_min, observer.quant_max) == (grid.quant_min, grid.quant_max)
        if hasattr(module, "weight_fake_quant"):
            fake, grid = module.weight_fake_quant, network.get_submodule(place).weight_grid
            assert float(fake.scale) == float(grid.scale)
            assert (fake.quant_min, fake.quant_max) == (grid.quant_min, grid.quant_max)
            assert torch.equal(fake(module.weight), network.get_submodule(place).weight)
    assert ours == {}
    assert seen > 20


def test_train_mode_is_torchs_and_leaves_model_and_global_generator_as_they_were(float_model, photograph):
    model, image = float_model("efficientnet_b0"), photograph("efficientnet_b0")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = train_mode(model)
    state = torch.get_rng_state()
    with torch.no_grad(), seeded(network, 5):
        ours = network(image)
        assert torch.equal(network.eval()(image), ours)
        assert torch.equal(network.train()(image), ours)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        assert torch.equal(copy.deepcopy(model).train()(image), ours)
        assert not torch.equal(network(image), ours)  # seed 0, outside the block
        assert not torch.allclose(model(image), ours)


def test_a_picture_gets_the_same_answer_alone_and_in_a_batch(float_model, small):
    network = train_mode(float_model("efficientnet_b0"))
    pictures = [small("efficientnet_b0", name) for name in PHOTOGRAPHS]
    with torch.no_grad(), seeded(network, 3):
        together, apart = network(torch.cat(pictures)), torch.cat([network(picture) for picture in pictures])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_names_of_layers_and_the_activation_inside_timms_batch_norm_stay(float_model):
    model = float_model(LITE0)
    network = train_mode(model)
    assert [name for name, _ in network.named_modules()] == [name for name, _ in model.named_modules()]
    assert isinstance(network.get_submodule("bn2.act"), nn.ReLU6)


@pytest.mark.parametrize("on", [names for size in (1, 2, 3, 4) for names in combinations(NETWORK_DEVIATIONS, size)])
def test_each_combination_does_what_its_switches_say(float_model, small, on):
    model, image = float_model(LITE0), small(LITE0)
    spec = with_switches(*on)
    base = paper_base(model, spec, image)
    ranges = None if "online_ranges" in on else site_ranges(base, spec, [image, small(LITE0, "coffee")])
    network, rounded = paper(base, spec, ranges), {}

    def keep(module, _inputs, output):
        rounded[module] = output

    for _, quantizer in quantizers(network):
        quantizer.register_forward_hook(keep)
    with torch.no_grad():
        logits = network(image)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert bool(norms) == ("train_mode" in on or "output_quantizers" in on)
    assert all((norm.running_mean is None) == ("train_mode" in on) for norm in norms)
    places = {type(network.get_submodule(name)) for name, _ in quantizers(network)}
    assert (nn.ReLU6 in places) == ("output_quantizers" in on)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all((len(layer.weight_grid.scale) == 1) == ("coarse_grids" in on) for layer in convolutions)
    least = -128 if "coarse_grids" in on else -127
    for layer in convolutions:
        grid = layer.weight_grid
        assert (grid.quant_min, grid.quant_max) == (least, 127)
        assert torch.equal(grid.values(grid.integers(layer.weight)), layer.weight)
    for module, values in rounded.items():
        grid = module.grid
        assert grid.quant_max - grid.quant_min == (127 if "coarse_grids" in on else 255)
        integers = (values / grid.scale).round() + grid.zero_point
        assert torch.equal((integers - grid.zero_point) * grid.scale, values)
        assert grid.quant_min <= int(integers.min()) <= int(integers.max()) <= grid.quant_max
        assert module.online == ("online_ranges" in on)
    assert len(rounded) == len(quantizers(network))
    assert torch.isfinite(logits).all()


def test_input_quantizers_with_calibrated_ranges_are_the_calibrated_networks(float_model, small):
    model, image = float_model(LITE0), small(LITE0)
    spec = with_switches("coarse_grids")
    base = paper_base(model, spec, image)
    ranges = site_ranges(base, spec, [image, small(LITE0, "coffee")])
    assert ranges == dict(calibrate(base, [image, small(LITE0, "coffee")]).limits)
    # Without a switch that changes the network, its pieces are those of the calibrated protocol.
    plain = QuantSpec()
    with torch.no_grad():
        expected = quantize(model, plain, calibrate(base, [image, small(LITE0, "coffee")]), image)(image)
        assert torch.equal(paper(base, plain, ranges)(image), expected)


def test_observers_average_and_stop_where_they_are_held(photograph):
    quantizer = SiteQuantizer(8, "affine", coarse=False, limits=None)
    values = [torch.tensor([-1.0, 3.0]), torch.tensor([-2.0, 13.0]), torch.tensor([0.0, 103.0])]
    quantizer(values[0])
    assert (float(quantizer.low), float(quantizer.high)) == (-1.0, 3.0)
    quantizer(values[1])
    assert float(quantizer.low) == pytest.approx(-1.01)
    assert float(quantizer.high) == pytest.approx(3.1)
    assert quantizer.grid.scale == pytest.approx(4.11 / 255)
    with held(nn.Sequential(quantizer)):
        clipped = quantizer(values[2])
    assert float(quantizer.high) == pytest.approx(3.1)
    assert float(clipped.max()) == pytest.approx(3.1, abs=quantizer.grid.scale)
    quantizer(values[2])
    assert float(quantizer.high) == pytest.approx(3.1 + 0.01 * (103 - 3.1))


@pytest.mark.parametrize("bits", [2, 4, 8, 9, 16])
def test_coarse_grids_by_their_formulas(bits):
    weight = torch.tensor([[-0.5, 0.25], [2.0, 0.0]])
    grid = coarse_weight_grid(weight, bits)
    assert float(grid.scale) == pytest.approx(2.0 / ((2**bits - 1) / 2))
    assert (grid.quant_min, grid.quant_max) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    found = coarse_grid(torch.tensor(-1.0), torch.tensor(3.0), bits)
    assert found.quant_max - found.quant_min == 2 ** (bits - 1) - 1
    assert found.scale == pytest.approx(4.0 / (2 ** (bits - 1) - 1))
    assert (found.quant_min - found.zero_point) * found.scale == pytest.approx(-1.0, abs=found.scale / 2)
    zero = coarse_grid(torch.tensor(0.0), torch.tensor(0.0), bits)
    assert zero.scale == torch.finfo(torch.float32).eps


def test_single_layers_and_weight_only(float_model, photograph):
    model, image = float_model("squeezenet1_1"), photograph("squeezenet1_1")
    spec = QuantSpec(8, None, protocol="paper", layer_bits=(LayerBits("features.0", None, 4),))
    network = paper(paper_base(model, spec, image), spec)
    assert [name for name, _ in quantizers(network)] == ["features.0"]
    assert torch.equal(network.get_submodule("features.0").weight, model.get_submodule("features.0").weight)


@pytest.mark.parametrize(
    ("words", "ranges", "protocol", "named"),
    [
        ("gptq", None, "paper", "gptq"),
        ("best", None, "calibrated+train_mode", "distilled"),
        ("equalize", None, "paper", "Equalization"),
        ("bias_correction", None, "calibrated+coarse_grids", "Bias correction"),
        ("standard", "percentile", "calibrated+train_mode", "percentile"),
    ],
)
def test_what_a_protocol_does_not_define_is_refused(float_model, photograph, words, ranges, protocol, named):
    spec = spec_of(words, ranges=ranges, protocol=protocol)
    with pytest.raises(UsageError, match=named):
        paper_base(float_model("squeezenet1_1"), spec, photograph("squeezenet1_1"))


def test_a_clipped_logit_leaves_no_evidence(float_model, photograph):
    # Later pictures' greatest logits lie beyond a moving average that the first set: no gradient passes there.
    name = "mobilenet_v2"
    model, spec = float_model(name), with_switches("output_quantizers", "coarse_grids", "online_ranges", bits=16)
    network = paper(paper_base(model, spec, photograph(name)), spec)
    target = CamSpec("gradcam++", "features.18")
    first = cam.explain(network, photograph(name), target)
    assert not first.heatmap.degenerate
    head = dict(quantizers(network))["classifier.1"]
    head.low, head.high = head.low / 4, head.high / 4
    assert cam.explain(network, photograph(name), target).heatmap.degenerate == "no positive evidence for the class"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with TensorStore(tmp_path_factory.mktemp("paper")) as store:
        yield Workbench(store)


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
    told = json.loads(json.dumps(report(found)))["quantization"]
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
    float_network, network, image = bench.models(squeezenet, SAMPLES[2])
    with torch.no_grad():
        first = network(image)
        network(image * 3)
        assert torch.equal(network(image), first)
        assert torch.equal(float_network(image), float_network(image))
    top = int(first.argmax())
    assert top == found.quantized.class_index
    assert int(float_network(image).argmax()) == found.reference.class_index
    assert not torch.equal(settled(float_network, image, 1)(image), float_network(image))


def test_shapley_values_of_known_games():
    weights = {"a": 1.0, "b": -2.0, "c": 0.25}
    subsets = [frozenset(names) for size in range(4) for names in combinations(weights, size)]
    additive = {names: 5 + sum(weights[name] for name in names) for names in subsets}
    assert {name: shapley(additive, name) for name in weights} == pytest.approx(weights)
    # One left glove, two right ones: 4/6, 1/6, 1/6 (Shapley 1953).
    gloves = {names: float("a" in names and len(names) > 1) for names in subsets}
    assert [shapley(gloves, name) for name in "abc"] == pytest.approx([2 / 3, 1 / 6, 1 / 6])


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

    def note(message, fraction):
        if message.startswith("Measuring"):
            reports.append(fraction)

    def interrupted(message, fraction):
        note(message, fraction)
        if message.startswith("Measuring") and fraction > 0.4:
            raise KeyboardInterrupt

    with TensorStore(folder / "tensors") as store:
        bench = Workbench(store)
        with pytest.raises(KeyboardInterrupt):
            attribution(bench, request, SAMPLES[:2], interrupted)
        before = len(reports)
        found = attribution(bench, request, SAMPLES[:2], note)
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
