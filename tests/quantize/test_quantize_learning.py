"""Rounding that looks at data: GPTQ, distillation, and biases that are corrected."""

import copy
import sys
from functools import lru_cache

import pytest
import torch
from torch import nn

from quantviz import networks
from quantviz.comparison.records import pack_learned, unpack_learned
from quantviz.quantize import Ranges, assemble, calibrate, correct_biases, float_base, gptq, learn
from quantviz.specs import LayerBits, Phase, QuantSpec, QuantvizError

SQUEEZE, LITE = "squeezenet1_1", "efficientnet_lite0"
PICTURES = ("chelsea", "coffee", "rocket", "china")


@pytest.fixture
def quick(monkeypatch):
    """Let distillation take a few steps: enough where only the form of what it returns is looked at."""
    monkeypatch.setattr(sys.modules["quantviz.quantize.distil"], "_STEPS", 8)


class Stopped(Exception):
    """What a caller's progress raises to end the work."""


@pytest.fixture(scope="module")
def pictures(photograph):
    return lru_cache(maxsize=4)(lambda name: torch.cat([photograph(name, picture) for picture in PICTURES]).split(2))


@pytest.fixture(scope="module")
def base(float_model, photograph):
    return lru_cache(maxsize=4)(
        lambda name: float_base(float_model(name), QuantSpec(), photograph(name), networks.spec(name).layer)
    )


@pytest.fixture(scope="module")
def ranges(base, pictures):
    return lru_cache(maxsize=4)(lambda name: calibrate(base(name), pictures(name)))


def layers_of(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def small(*, depthwise=False, bias=True):
    """Return a network of a few layers, of which one may be depthwise, and images for it."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=8 if depthwise else 2, bias=bias),
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 5, bias=bias),
    )
    return model.eval().requires_grad_(False), torch.randn(24, 3, 12, 12).cumsum(2).split(5)


def state(model):
    """Return what must not change about a network: its numbers, modules and hooks."""
    return (
        {key: value.numpy().tobytes() for key, value in model.state_dict().items()},
        [(name, id(module), module.training) for name, module in model.named_modules()],
        [len(getattr(module, kind)) for module in model.modules() for kind in vars(module) if kind.endswith("_hooks")],
    )


def outputs(model, images):
    """Return what every layer of a network makes of the images."""
    found = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _i, output, name=name: found.setdefault(name, []).append(output.detach().clone())
        )
        for name, module in layers_of(model).items()
    ]
    with torch.no_grad():
        for batch in images:
            model(batch)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(values).double() for name, values in found.items()}


def reading(module, values):
    """Return what a layer, its weight rounded, makes of values that its input quantizer has rounded."""
    with torch.no_grad():
        return module(values).double()


# -- GPTQ


@pytest.mark.parametrize("spec", [QuantSpec(3, 8), QuantSpec(4, None, "affine", "per_tensor", weight_ranges="mse")])
@pytest.mark.parametrize("depthwise", [False, True])
def test_gptq_leaves_less_output_error_than_nearest_in_each_layer(spec, depthwise):
    model, images = small(depthwise=depthwise)
    ranges = calibrate(model, images)
    learned = gptq(model, spec, ranges, lambda: images)
    assert set(learned) == set(layers_of(model))
    mended, plain = assemble(model, spec, ranges, learned), assemble(model, spec, ranges)
    for name in layers_of(model):
        # Both layers read what GPTQ's layer reads: the network whose earlier weights GPTQ has rounded.
        reads = []
        module = mended.get_submodule(name)
        handle = module.register_forward_pre_hook(lambda _m, inputs, reads=reads: reads.append(inputs[0].clone()))
        with torch.no_grad():
            for batch in images:
                mended(batch)
        handle.remove()
        values = torch.cat(reads)
        expected = reading(model.get_submodule(name), values)
        errors = [
            float((reading(network.get_submodule(name), values) - expected).square().sum())
            for network in (mended, plain)
        ]
        assert errors[0] < 0.95 * errors[1]
        assert learned[name].bias is None


def test_learning_leaves_the_float_network_and_its_hooks_alone_however_it_ends(quick):
    network, images = small(depthwise=True)
    found, before = calibrate(network, images), state(network)
    for rounding in ("nearest", "gptq", "distilled"):
        spec = QuantSpec(4, 8, rounding=rounding, bias_correction=True)
        messages = []

        def follow(message, fraction, phase, messages=messages):
            assert 0 <= fraction <= 1
            assert phase is Phase.LEARNING
            messages.append(message)

        def views(count):
            return torch.cat(images)[:count]

        learn(network, spec, found, lambda: images, views, follow)
        assert state(network) == before
        for message in set(messages):

            def stop(told, _fraction, _phase=None, message=message):
                if told == message:
                    raise Stopped

            with pytest.raises(Stopped):
                learn(network, spec, found, lambda: images, views, stop)
            assert state(network) == before


def test_gptq_refuses_inputs_that_are_not_numbers():
    model, images = small()
    ranges = calibrate(model, images)
    broken = [torch.full_like(batch, float("nan")) for batch in images]
    with pytest.raises(QuantvizError, match=r"^GPTQ cannot round layer '0'"):
        gptq(model, QuantSpec(4, None), ranges, lambda: broken)


def test_layers_whose_weights_stay_in_float_are_not_learned(quick):
    model, images = small()
    ranges = calibrate(model, images)
    spec = QuantSpec(4, 8, layer_bits=(LayerBits("2", None, 4), LayerBits("6", 2, None)), bias_correction=True)
    for rounding in ("nearest", "gptq", "distilled"):
        chosen = QuantSpec(4, 8, rounding=rounding, layer_bits=spec.layer_bits, bias_correction=True)
        learned = learn(model, chosen, ranges, lambda: images, lambda count: torch.cat(images)[:count])
        assert set(learned) == {"0", "6"}
        network = assemble(model, chosen, ranges, learned)
        assert torch.equal(network[2].weight, model[2].weight)
        assert torch.equal(network[2].bias, model[2].bias)
        assert (learned["6"].grid.quant_min, learned["6"].grid.quant_max) == (-1, 1)


# -- what is learned


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("rounding", ["nearest", "gptq", "distilled"])
def test_learned_integers_lie_in_range_and_the_assembled_weights_are_their_values(quick, rounding, granularity, scheme):
    model, images = small(depthwise=True, bias=False)
    ranges = calibrate(model, images)
    spec = QuantSpec(3, 8, scheme, granularity, weight_ranges="mse", rounding=rounding, bias_correction=True)
    learned = learn(model, spec, ranges, lambda: images, lambda count: torch.cat(images)[:count])
    network = assemble(model, spec, ranges, learned)
    for name, layer in learned.items():
        grid, module = layer.grid, network.get_submodule(name)
        assert (grid.quant_min, grid.quant_max) == ((-3, 3) if scheme == "symmetric" else (0, 7))
        assert layer.integers.dtype == torch.int32
        assert grid.quant_min <= int(layer.integers.min()) <= int(layer.integers.max()) <= grid.quant_max
        assert bool((grid.scale > 0).all())
        assert len(grid.scale) == (1 if granularity == "per_tensor" else len(module.weight))
        columns = (-1, *[1] * (module.weight.ndim - 1))
        exact = (layer.integers - grid.zero_point.view(columns)).float() * grid.scale.view(columns)
        assert torch.equal(module.weight, exact)
        assert torch.equal(grid.integers(module.weight), layer.integers)
        assert torch.equal(module.bias, layer.bias)
        assert module.weight_grid is grid


def test_what_was_learned_comes_back_as_it_was():
    model, images = small()
    ranges = calibrate(model, images)
    spec = QuantSpec(5, 8, "affine", rounding="gptq")
    learned = learn(model, spec, ranges, lambda: images, lambda count: torch.cat(images)[:count])
    corrected = learn(
        model, QuantSpec(5, 8, "affine", bias_correction=True), ranges, lambda: images, lambda count: None
    )
    for layers in (learned, corrected):
        again = unpack_learned(pack_learned(layers))
        expected, found = (assemble(model, spec, ranges, part).state_dict() for part in (layers, again))
        assert list(expected) == list(found)
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_only_other_rounding_and_corrected_biases_have_to_be_learned():
    assert not QuantSpec(4, 4, equalize=True, ranges="mse").learns
    for spec in (QuantSpec(rounding="gptq"), QuantSpec(rounding="distilled"), QuantSpec(bias_correction=True)):
        assert spec.learns


def test_distilling_answers_more_as_the_float_network_does_than_gptq():
    model, images = small()
    ranges = calibrate(model, images)
    views, errors = torch.cat(images), []
    for rounding in ("nearest", "gptq", "distilled"):
        spec = QuantSpec(3, 8, rounding=rounding)
        learned = learn(model, spec, ranges, lambda: images, lambda count: views[:count]) if spec.learns else None
        with torch.no_grad():
            errors.append(float((assemble(model, spec, ranges, learned)(views) - model(views)).square().mean()))
    assert errors[2] < errors[1] < errors[0]


# -- biases


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
@pytest.mark.parametrize("bias", [True, False])
def test_corrected_layers_have_the_float_networks_mean_outputs(rounding, bias):
    model, images = small(depthwise=True, bias=bias)
    ranges = calibrate(model, images)
    spec = QuantSpec(3, 4, rounding=rounding, bias_correction=True)
    learned = learn(model, spec, ranges, lambda: images, lambda count: None)
    expected = outputs(model, images)
    plain = QuantSpec(3, 4, rounding=rounding)
    rounded = gptq(model, plain, ranges, lambda: images) if rounding == "gptq" else None
    before = outputs(assemble(model, plain, ranges, rounded), images)
    after = outputs(assemble(model, spec, ranges, learned), images)
    for name, values in expected.items():
        axes = (0, 2, 3) if values.ndim == 4 else (0,)
        wanted, found, uncorrected = (part[name].mean(axes) for part in (expected, after, before))
        error = float((found - wanted).abs().max())
        assert error < 1e-5
        assert error < 0.01 * float((uncorrected - wanted).abs().max())


def test_correction_brings_a_real_network_nearer_to_float(base, ranges, pictures, photograph):
    spec = QuantSpec(4, 8, bias_correction=True)
    network, found = base(LITE), ranges(LITE)
    learned = correct_biases(network, spec, found, lambda: [pictures(LITE)[0][:1]], {})
    image = photograph(LITE, "astronaut")
    with torch.no_grad():
        expected = network(image).softmax(1)
        distances = [
            float((assemble(network, spec, found, layers)(image).softmax(1) - expected).abs().sum())
            for layers in (learned, None)
        ]
    assert distances[0] < distances[1]


def test_correction_starts_from_what_was_learned_and_leaves_it_alone(quick):
    model, images = small()
    ranges = calibrate(model, images)
    spec = QuantSpec(4, 8, rounding="distilled", bias_correction=True)
    views = lambda count: torch.cat(images)[:count]  # noqa: E731
    distilled = learn(model, QuantSpec(4, 8, rounding="distilled"), ranges, lambda: images, views)
    kept = copy.deepcopy(distilled)
    corrected = correct_biases(model, spec, ranges, lambda: images, distilled)
    for name, layer in kept.items():
        assert torch.equal(distilled[name].bias, layer.bias)
        assert torch.equal(corrected[name].integers, layer.integers)
        assert not torch.equal(corrected[name].bias, layer.bias)


def test_weights_alone_can_be_corrected():
    model, images = small()
    spec = QuantSpec(2, None, bias_correction=True)
    corrected = correct_biases(model, spec, Ranges({}, 0), lambda: images, {})
    expected, found = (outputs(network, images)["6"].mean(0) for network in (
        model, assemble(model, spec, Ranges({}, 0), corrected)
    ))  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
