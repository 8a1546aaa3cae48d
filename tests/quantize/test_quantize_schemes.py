"""Schemes by their names, and that every quantized tensor lies on the grid that its scheme declares."""

from itertools import product

import pytest
import quantize_support
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_support import GRANULARITIES, LITE, SCHEMES, SQUEEZE, layers_of, small
from torch import nn

from quantviz.quantize import InputQuantizer, Ranges, assemble, calibrate, gptq, weight_grid
from quantviz.specs import (
    PRESETS,
    RANGE_METHODS,
    ROUNDINGS,
    SCHEME_WORDS,
    LayerBits,
    QuantSpec,
    UsageError,
    scheme_name,
    spec_of,
)

pictures, base, ranges = quantize_support.pictures, quantize_support.base, quantize_support.ranges


def read_by_layers(model, image):
    """Run a model and return what each of its layers read, after any quantizer, and returned."""
    seen = {}
    handles = [
        module.register_forward_hook(
            lambda _m, inputs, output, name=name: seen.update({name: (inputs[0].clone(), output.clone())})
        )
        for name, module in layers_of(model).items()
    ]
    with torch.no_grad():
        seen["logits"] = (image, model(image))
    for handle in handles:
        handle.remove()
    return seen


# -- the words

specs = st.builds(
    QuantSpec,
    st.integers(2, 16),
    st.none() | st.integers(2, 16),
    scheme=st.sampled_from(SCHEMES),
    granularity=st.sampled_from(GRANULARITIES),
    act_scheme=st.sampled_from(SCHEMES),
    ranges=st.sampled_from(RANGE_METHODS),
    weight_ranges=st.sampled_from(["minmax", "mse"]),
    rounding=st.sampled_from(ROUNDINGS),
    equalize=st.booleans(),
    bias_correction=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(specs)
def test_every_scheme_has_a_name_that_makes_it(spec):
    assert spec_of(scheme_name(spec), spec.weight_bits, spec.act_bits, ranges=spec.ranges) == spec


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PRESETS), st.lists(st.sampled_from(SCHEME_WORDS), max_size=4))
def test_the_name_of_words_says_the_same_in_as_many_words_at_most(preset, words):
    spec = spec_of(",".join([preset, *words]))
    name = scheme_name(spec)
    assert spec_of(name, ranges=spec.ranges) == spec
    assert len(name.split(",")) <= 1 + len(words)


def test_presets_are_named_by_themselves_and_words_may_stand_alone():
    assert [scheme_name(spec_of(preset)) for preset in PRESETS] == list(PRESETS)
    assert spec_of("per_tensor, equalize") == QuantSpec(granularity="per_tensor", equalize=True)
    assert spec_of("naive").act_scheme == "symmetric"
    assert spec_of("best", ranges="entropy").ranges == "entropy"


@pytest.mark.parametrize("words", ["", "bset", "standard,", "gptq,standard", "standard per_tensor", "GPTQ", ","])
def test_words_that_are_none_are_refused_with_the_status_of_a_wrong_request(words):
    with pytest.raises(UsageError, match=r"^Scheme word '.*' is unknown; begin with one of naive") as raised:
        spec_of(words)
    assert raised.value.exit_status == 2


# -- the grids of whole networks, bit by bit


def assert_on_grid(values, scale, zero_point, quant_min, quant_max):
    """Check that a tensor is scale * (integer - zero_point) exactly, with integers in range; return the integers."""
    integers = (values.double() / scale.double()).round() + zero_point
    assert int(integers.min()) >= quant_min
    assert int(integers.max()) <= quant_max
    assert torch.equal((integers - zero_point).float() * scale, values)
    return integers


def assert_every_tensor_on_its_grid(network, image, spec):
    seen = read_by_layers(network, image)
    for name, module in layers_of(network).items():
        weight_bits, act_bits = spec.bits_of(name)
        assert hasattr(module, "weight_grid") == (weight_bits is not None)
        assert hasattr(module, "input_quantizer") == (act_bits is not None)
        if weight_bits is not None:
            grid = module.weight_grid
            assert len(grid.scale) == (len(module.weight) if spec.granularity == "per_channel" else 1)
            columns = (-1, *[1] * (module.weight.ndim - 1))
            scale, zero_point = grid.scale.view(columns), grid.zero_point.view(columns)
            limits = grid.quant_min, grid.quant_max
            half = 2 ** (weight_bits - 1) - 1
            assert limits == ((-half, half) if spec.scheme == "symmetric" else (0, 2**weight_bits - 1))
            integers = assert_on_grid(module.weight, scale, zero_point, *limits)
            assert torch.equal(integers.int(), grid.integers(module.weight))
            assert torch.equal(grid.values(integers.int()), module.weight)
            assert spec.scheme == "affine" or not grid.zero_point.any()
        if act_bits is not None:
            grid = module.input_quantizer.grid
            half = 2 ** (act_bits - 1) - 1
            limits = (-half, half) if spec.act_scheme == "symmetric" else (0, 2**act_bits - 1)
            assert (grid.quant_min, grid.quant_max) == limits
            assert grid.zero_point == 0 or spec.act_scheme == "affine"
            assert_on_grid(seen[name][0], torch.tensor(grid.scale), grid.zero_point, *limits)


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
@pytest.mark.parametrize("weight_ranges", ["minmax", "mse"])
@pytest.mark.parametrize(("scheme", "granularity"), list(product(SCHEMES, GRANULARITIES)))
def test_every_quantized_tensor_lies_on_its_declared_grid(
    base, ranges, pictures, scheme, granularity, weight_ranges, rounding
):
    spec = QuantSpec(4, 6, scheme, granularity, act_scheme=scheme, weight_ranges=weight_ranges, rounding=rounding)
    if (weight_ranges, rounding) == ("minmax", "nearest"):
        network = assemble(base(SQUEEZE), spec, ranges(SQUEEZE))
        assert_every_tensor_on_its_grid(network, pictures(SQUEEZE)[1], spec)
        return
    # A few layers: a whole network takes too long for every combination.
    layers = nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), nn.Conv2d(8, 16, 3, groups=8), nn.Flatten(), nn.Linear(64, 5)
    model, images = small(*layers), torch.randn(20, 3, 9, 9, generator=torch.Generator().manual_seed(0)).split(10)
    found = calibrate(model, images)
    learned = gptq(model, spec, found, lambda: images) if rounding == "gptq" else None
    network = assemble(model, spec, found, learned)
    assert_every_tensor_on_its_grid(network, images[0], spec)


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_inputs_lie_on_their_grids_whatever_sets_the_ranges(base, ranges, pictures, method):
    spec = QuantSpec(8, 5, act_scheme="symmetric", ranges=method, scheme="affine")
    network = assemble(base(SQUEEZE), spec, ranges(SQUEEZE, method))
    assert_every_tensor_on_its_grid(network, pictures(SQUEEZE)[2], spec)


def test_layers_have_the_bits_that_are_given_to_them(base, ranges, pictures):
    bits = (LayerBits("conv_stem", None, 8), LayerBits("classifier", 3, None), LayerBits("conv_head", 2, 13))
    spec = QuantSpec(5, 7, layer_bits=bits)
    network = assemble(base(LITE), spec, ranges(LITE))
    assert_every_tensor_on_its_grid(network, pictures(LITE)[0], spec)
    assert torch.equal(network.conv_stem.weight, base(LITE).conv_stem.weight)
    assert network.classifier.weight_grid.quant_max == 3
    assert network.conv_head.input_quantizer.grid.quant_max == 2**13 - 1


def test_bits_for_a_layer_that_is_not_quantized_are_refused(base, ranges):
    for name in ("nowhere", "bn2", ""):
        spec = QuantSpec(layer_bits=(LayerBits("classifier", 4, 4), LayerBits(name, 4, 8)))
        with pytest.raises(UsageError, match=f"^Layer '{name}' is none that is quantized; name a"):
            assemble(base(LITE), spec, ranges(LITE))


def test_weight_only_needs_no_ranges_and_rounds_no_input(base, pictures):
    network = assemble(base(SQUEEZE), QuantSpec(4, None, "affine", "per_tensor"), Ranges({}, 0))
    assert not any(isinstance(module, InputQuantizer) for module in network.modules())
    assert_every_tensor_on_its_grid(network, pictures(SQUEEZE)[0], QuantSpec(4, None, "affine", "per_tensor"))


@pytest.mark.parametrize(("scheme", "granularity"), list(product(SCHEMES, GRANULARITIES)))
def test_sixteen_bits_are_nearly_float_under_every_scheme(base, ranges, pictures, scheme, granularity):
    spec = QuantSpec(16, 16, scheme, granularity, act_scheme=scheme)
    network, image = assemble(base(SQUEEZE), spec, ranges(SQUEEZE)), pictures(SQUEEZE)[0]
    with torch.no_grad():
        expected, found = base(SQUEEZE)(image), network(image)
    assert 0 < float((found - expected).norm() / expected.norm()) < 2e-3


@pytest.mark.parametrize(("scheme", "granularity"), list(product(SCHEMES, GRANULARITIES)))
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_range_of_least_squares_is_never_worse_than_the_full_one(bits, scheme, granularity):
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(bits)) ** 3
    weight[2] = 0
    full = weight_grid(weight, bits, scheme, granularity)
    best = weight_grid(weight, bits, scheme, granularity, least_squares=True)
    errors = [(grid.round(weight).double() - weight.double()).square().sum((1, 2, 3)) for grid in (full, best)]
    if granularity == "per_tensor":
        errors = [error.sum() for error in errors]
    assert bool((errors[1] <= errors[0]).all())
    assert bool((errors[1] < errors[0]).any()) or bits == 8
