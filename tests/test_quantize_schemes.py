"""Every scheme's grids bit by bit, activation ranges against other implementations, equalization, and ONNX Runtime."""

import copy
import io
import warnings
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization.calibrate import HistogramCollector
from torch import nn

from quantviz import zoo
from quantviz.pipeline.records import pack_ranges, unpack_ranges
from quantviz.quantize import (
    ChannelClip,
    Grid,
    InputQuantizer,
    Ranges,
    activation_grid,
    assemble,
    calibrate,
    equalizable,
    float_base,
    gptq,
    input_grid,
    weight_grid,
)
from quantviz.specs import (
    PRESETS,
    RANGE_METHODS,
    ROUNDINGS,
    SCHEME_WORDS,
    LayerBits,
    QuantSpec,
    QuantvizError,
    UsageError,
    headroom,
    scheme_name,
    spec_of,
)
from quantviz.store import TensorStore

LITE, SQUEEZE, MOBILE = "efficientnet_lite0", "squeezenet1_1", "mobilenet_v2"
PICTURES = ("chelsea", "coffee", "rocket", "china")
SCHEMES, GRANULARITIES = ("symmetric", "affine"), ("per_channel", "per_tensor")


@pytest.fixture(scope="module")
def pictures(photograph):
    return lambda name, count=4: [photograph(name, picture) for picture in PICTURES[:count]]


@pytest.fixture(scope="module")
def base(float_model, photograph):
    return lru_cache(maxsize=8)(
        lambda name, equalize=False: float_base(
            float_model(name), QuantSpec(equalize=equalize), photograph(name), zoo.spec(name).layer
        )
    )


@pytest.fixture(scope="module")
def ranges(base, pictures):
    return lru_cache(maxsize=8)(lambda name, method="minmax": calibrate(base(name), pictures(name), method))


def layers_of(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


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


def small(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*(layers or (nn.Conv2d(3, 4, 1),))).eval().requires_grad_(False)


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


# -- activation ranges


def read_by(values, method):
    """Return the ranges of a layer that reads ``values``, float32 and as many as a multiple of 300."""
    values = torch.as_tensor(np.asarray(values, dtype=np.float32))
    return calibrate(small(), list(values.view(-1, 3, 10, 10).split(400)), method)


def drawn(kind, count=90_000):
    chance = np.random.default_rng(7)
    if kind == "one-sided":
        return np.maximum(chance.standard_t(4, count), 0)
    if kind == "skewed":
        return chance.gamma(2.0, size=count) - 0.5
    return {"normal": chance.normal, "laplace": chance.laplace}[kind](size=count)


KINDS = ("one-sided", "skewed", "normal", "laplace")


def test_a_moving_average_goes_image_by_image_in_order():
    images = torch.from_numpy(drawn("skewed", 3000)).float().view(10, 3, 10, 10)
    low, high = (float(value) for value in images[0].aminmax())
    for image in images[1:]:
        low += 0.01 * (float(image.min()) - low)
        high += 0.01 * (float(image.max()) - high)
    for size in (1, 4, 10):
        found = calibrate(small(), images.split(size), "moving_average")
        assert found.limits["0"] == pytest.approx((low, high), rel=1e-12)
        assert found.images == 10
    reverse = calibrate(small(), images.flip(0).split(3), "moving_average")
    assert reverse.limits["0"] != pytest.approx((low, high), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_percentiles_cut_the_same_part_off_either_end(kind):
    values = np.sort(drawn(kind).astype(np.float32))
    low, high = read_by(values, "percentile").limits["0"]
    width = float(max(values[-1], 0) - min(values[0], 0)) / 2048
    for found, share in ((low, 0.005), (high, 99.995)):
        # So far out values are sparse: definitions of a percentile differ by a neighbour.
        place = np.searchsorted(values, np.percentile(values, share))
        assert values[max(place - 2, 0)] - width <= found <= values[min(place + 2, values.size - 1)] + width
    assert values[0] <= low < high < values[-1]


def squared_error(values, limits, bits, scheme):
    grid = activation_grid(*limits, bits, scheme)
    values = torch.from_numpy(values)
    return float((InputQuantizer(grid)(values).double() - values.double()).square().sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bits", "scheme"), list(product((2, 4, 8, 12), SCHEMES)))
def test_the_range_of_least_error_is_better_than_any_other_tried(kind, bits, scheme):
    values = drawn(kind).astype(np.float32)
    low, high = read_by(values, "minmax").limits["0"]
    found = squared_error(values, read_by(values, "mse").limits_of("0", bits, scheme), bits, scheme)
    least = min(
        squared_error(values, (low * below, high * above), bits, scheme)
        for below, above in product(np.linspace(0.2, 1, 5), repeat=2)
    )
    assert found <= squared_error(values, (low, high), bits, scheme) * 1.005
    assert found <= least * 1.01


def test_exact_zeros_do_not_widen_or_narrow_the_range_of_least_error():
    values = np.abs(drawn("laplace")).astype(np.float32)
    sparse = np.concatenate([values, np.zeros(9 * values.size, dtype=np.float32)])
    for method in ("mse", "entropy"):
        dense, found = (read_by(part, method).limits_of("0", 8, "affine") for part in (values, sparse))
        assert found == pytest.approx(dense, rel=1e-9)
    assert read_by(sparse, "mse").histograms["0"].zeros == 9 * values.size
    assert int(read_by(sparse, "mse").histograms["0"].counts.sum()) == values.size


def merged_divergence(counts, half, levels):
    """Return the divergence of the middle bins merged evenly into levels, by other means than the code's."""
    middle = len(counts) // 2
    inside = counts[middle - half : middle + half].astype(float)
    reference = inside.copy()
    reference[0] += counts[: middle - half].sum()
    reference[-1] += counts[middle + half :].sum()
    coarse = np.zeros_like(inside)
    edges = [-(-level * len(inside) // levels) for level in range(levels + 1)]
    for start, end in pairwise(edges):
        filled = reference[start:end] > 0
        if filled.any():
            coarse[start:end][filled] = inside[start:end].sum() / filled.sum()
    coarse[(reference > 0) & (coarse == 0)] = 1e-4
    reference, coarse = reference / reference.sum(), coarse / coarse.sum()
    filled = reference > 0
    return float((reference[filled] * np.log(reference[filled] / coarse[filled])).sum())


@pytest.mark.parametrize(("kind", "bits"), [("normal", 4), ("laplace", 4), ("laplace", 6), ("normal", 8)])
def test_entropy_finds_the_threshold_of_least_divergence_near_onnx_runtimes(kind, bits):
    values = drawn(kind, 45_000).astype(np.float32)
    values = np.concatenate([values, -values])
    found = read_by(values, "entropy")
    low, high = found.limits_of("0", bits, "affine")
    histogram, levels = found.histograms["0"], 2**bits
    assert low == pytest.approx(-high)
    by_half = {half: merged_divergence(histogram.counts, half, levels) for half in range(1024, levels // 2, -4)}
    assert round(high / histogram.high * 1024) == min(by_half, key=by_half.get)
    # ONNX Runtime merges bins in whole numbers, puts what remains into the last level, and rounds the counts down.
    counts, edges = np.histogram(values, 2048, range=(-histogram.high, histogram.high))
    collector = HistogramCollector("entropy", False, 2048, levels, 99.99, "same")
    limits = values.min(), values.max(), np.float32(histogram.high)
    theirs = collector.get_entropy_threshold((counts, edges.astype(np.float32), *limits), levels)
    assert 0.7 < high / float(theirs[1]) < 1.4


def test_entropy_leaves_a_range_alone_whose_grid_has_a_value_for_each_bin():
    found = read_by(drawn("skewed"), "entropy")
    full = found.histograms["0"].low, found.histograms["0"].high
    assert found.limits_of("0", 11, "affine") == pytest.approx(full)
    low, high = found.limits_of("0", 4, "affine")
    assert full[0] <= low < 0 < high < full[1]


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_twelve_bits_and_more_get_headroom_whatever_sets_the_range(method):
    found = read_by(drawn("skewed"), method)
    for bits, scheme in product((8, 12, 16), SCHEMES):
        spec = QuantSpec(8, bits, act_scheme=scheme, ranges=method)
        wider = [limit * headroom(bits) for limit in found.limits_of("0", bits, scheme)]
        assert input_grid("0", spec, found, bits) == activation_grid(*wider, bits, scheme)
    assert (headroom(8), headroom(12), headroom(16)) == (1, 2, 2)


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_ranges_come_back_from_the_store_as_they_were(base, ranges, tmp_path, method):
    found, key = ranges(SQUEEZE, method), "0" * 64
    with TensorStore(tmp_path) as store:
        store.put(key, pack_ranges(found))
    with TensorStore(tmp_path) as store:
        again = unpack_ranges(store.get(key))
    assert again == found
    assert (again.method, again.images) == (method, len(PICTURES))
    assert bool(found.histograms) == (method in ("mse", "entropy"))
    for name in found.limits:
        assert again.limits_of(name, 5, "affine") == found.limits_of(name, 5, "affine")


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_a_layer_that_reads_one_value_or_was_not_reached(method):
    model, image = small(nn.Conv2d(3, 2, 1), nn.ReLU()), torch.zeros(2, 3, 4, 4)
    for value in (0.0, 3.0, -2.0, 1e-42, 3e38):
        found = calibrate(model, [image + value], method)
        low, high = found.limits_of("0", 8, "affine")
        assert min(value, 0) - 2e-3 * abs(value) <= low <= high <= max(value, 0) + 2e-3 * abs(value)
    with pytest.raises(QuantvizError, match=r"^Layer 'other' was not reached during calibration"):
        found.limits_of("other", 8, "affine")


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_values_that_are_not_finite_and_no_images_are_refused_and_leave_no_hook(method):
    model = small()
    for bad in (float("nan"), float("-inf")):
        with pytest.raises(QuantvizError, match="'0' read a value that is not finite"):
            calibrate(model, [torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), bad)], method)
    with pytest.raises(UsageError, match="no calibration image"):
        calibrate(model, lambda: iter(()), method)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_images_that_change_between_the_passes_are_refused():
    passes = iter([[torch.ones(2, 3, 2, 2)], [torch.ones(1, 3, 2, 2)]])
    with pytest.raises(QuantvizError, match="read 2 images and then 1; leave them alone"):
        calibrate(small(), lambda: next(passes), "mse")


# -- equalization

PAIRS = {
    LITE: ("conv_stem", "blocks.0.0.conv_dw"),
    MOBILE: ("features.2.conv.0.0", "features.2.conv.1.0"),
    SQUEEZE: ("features.0", "features.3.squeeze"),
    "vgg16": ("features.2", "features.5"),
    "resnet50": ("layer1.0.conv1", "layer1.0.conv2"),
    "densenet121": ("features.denseblock1.denselayer1.conv1", "features.denseblock1.denselayer1.conv2"),
    "efficientnet_b0": ("features.1.0.block.2.0", "features.2.0.block.0.0"),
}
COUNTS = {
    LITE: 34, MOBILE: 36, SQUEEZE: 1, "vgg16": 12, "resnet50": 32, "densenet121": 58, "efficientnet_b0": 2
}  # fmt: skip


@pytest.mark.parametrize("name", [LITE, MOBILE, SQUEEZE, "resnet50"])
def test_equalizing_keeps_the_networks_function_and_its_target(base, photograph, name):
    layer, image = zoo.spec(name).layer, photograph(name, "rocket")
    found = base(name, True)
    assert [name for name, _ in found.named_modules()] == [name for name, _ in base(name).named_modules()]
    outputs = {}
    for key, network in (("before", base(name)), ("after", found)):
        handle = network.get_submodule(layer).register_forward_hook(
            lambda _m, _i, output, key=key: outputs.update({key: output.clone()})
        )
        with torch.no_grad():
            outputs[f"{key} logits"] = network(image)
        handle.remove()
    for what in ("", " logits"):
        expected = outputs[f"before{what}"]
        assert not torch.equal(outputs[f"after{what}"], expected) or name == "resnet50"
        torch.testing.assert_close(outputs[f"after{what}"], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", list(COUNTS))
def test_pairs_are_convolutions_that_alone_read_each_other(base, photograph, name):
    pairs = equalizable(base(name), photograph(name), zoo.spec(name).layer)
    assert len(pairs) == COUNTS[name]
    assert PAIRS[name] in [(pair.first, pair.second) for pair in pairs]
    assert len({pair.first for pair in pairs}) == len({pair.second for pair in pairs}) == len(pairs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in base(name).modules())


def peaks(network, pair):
    """Return the greatest absolute weights that make each channel of a pair, and that read it."""
    first, second = network.get_submodule(pair.first), network.get_submodule(pair.second)
    grouped = second.weight.view(second.groups, -1, *second.weight.shape[1:])
    return first.weight.flatten(1).abs().amax(1), grouped.abs().amax((1, 3, 4)).flatten()


@pytest.mark.parametrize("name", [LITE, "resnet50"])
def test_equalized_channels_are_as_wide_on_both_sides(base, photograph, name):
    pairs = equalizable(base(name), photograph(name), zoo.spec(name).layer)
    for pair in pairs:
        made, read = peaks(base(name, True), pair)
        alive = (made > 0) & (read > 0)
        torch.testing.assert_close(made[alive], read[alive], rtol=0.01, atol=0)
    made, read = peaks(base(name), pairs[0])
    assert not torch.allclose(made, read, rtol=0.1)


def test_relu6_is_clipped_channel_by_channel_as_before(base):
    clip = base(LITE, True).blocks[0][0].bn1.act
    assert isinstance(clip, ChannelClip)
    scale = 6 / clip.limit.double()
    assert float(scale.max()) > 2 * float(scale.min())
    values = torch.linspace(-8, 20, 29).expand(1, len(scale), 29)[..., None].contiguous()
    expected = nn.functional.relu6(values * scale) / scale
    torch.testing.assert_close(clip(values).double(), expected, rtol=1e-6, atol=0)


class Wired(nn.Module):
    """Two convolutions, and something about what is between them."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        between = {
            "silu": nn.SiLU(),
            "relu6": nn.ReLU6(inplace=True),
            "leaky": nn.LeakyReLU(),
            "in place": nn.ReLU(True),
        }
        self.between = between.get(kind, nn.ReLU())
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, values):
        values = self.first(values)
        if self.kind == "before":
            values += 1
        values = self.between(values)
        if self.kind == "function":
            values = values * 1
        if self.kind == "twice":
            return self.second(self.second(values))
        if self.kind == "shared relu6":
            return self.between(self.second(values))
        found = self.second(values)
        if self.kind == "skip":
            return found + values
        if self.kind == "list":
            return torch.cat([found, values])
        if self.kind == "another reader":
            return found + self.other(values)
        return found


@pytest.mark.parametrize(
    ("kind", "found"),
    [(kind, True) for kind in ("relu", "leaky", "relu6", "in place")]
    + [(kind, False) for kind in ("silu", "before", "function", "twice", "skip", "list", "another reader")],
)
def test_what_may_lie_between_two_convolutions(kind, found):
    torch.manual_seed(0)
    model, image = Wired(kind).eval().requires_grad_(False), torch.randn(1, 3, 4, 4)
    pairs = equalizable(model, image)
    assert [(pair.first, pair.second) for pair in pairs] == [("first", "second")] * found
    for keep in ("first", "between"):
        assert equalizable(model, image, keep) == []
    assert len(equalizable(model, image, "second")) == found


def test_an_equalization_that_changes_the_output_is_refused():
    class Hidden(nn.Module):
        """Reads what is between the convolutions by a way around torch's functions."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            nn.init.constant_(self.second.weight, 9.0)

        def forward(self, values):
            between = self.first(values)
            found = self.second(between)
            with torch._C.DisableTorchFunction():
                return (found + between.mean()).flatten(1)

    torch.manual_seed(0)
    model, image = Hidden().eval().requires_grad_(False), torch.randn(1, 3, 4, 4)
    with pytest.raises(QuantvizError, match=r"^Cross-layer equalization changed the output by"):
        float_base(model, QuantSpec(equalize=True), image)


# -- other implementations


TYPES = {(4, False): TensorProto.UINT4, (4, True): TensorProto.INT4, (8, False): np.uint8, (8, True): np.int8}


@pytest.mark.parametrize(("bits", "scheme", "granularity"), list(product((4, 8), SCHEMES, GRANULARITIES)))
def test_rounding_agrees_with_onnxs_reference(bits, scheme, granularity):
    kind = (
        helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[8, scheme == "symmetric"]))
        if bits == 8
        else TYPES[4, scheme == "symmetric"]
    )
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-2, 2, 5)[:, None]
    grid = weight_grid(weight, bits, scheme, granularity)
    shape = [5] if granularity == "per_channel" else []
    scale = helper.make_tensor("scale", TensorProto.FLOAT, shape, grid.scale.tolist())
    zero = helper.make_tensor("zero", kind, shape, grid.zero_point.tolist())
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=0),
    ]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [5, 40]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "rounding", floats[:1], floats[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    expected = ReferenceEvaluator(model).run(None, {"x": weight.numpy()})[0]
    # Integer types have one value more than the narrow range, which nothing within the range is rounded to.
    assert np.array_equal(grid.round(weight).numpy(), expected)
    if granularity == "per_tensor":
        whole = Grid(float(grid.scale), int(grid.zero_point), grid.quant_min, grid.quant_max)
        assert np.array_equal(InputQuantizer(whole)(weight).numpy(), expected)


def with_rounding(model, network):
    """Return an exported float network with QuantizeLinear and DequantizeLinear where the quantized one rounds."""
    model, nodes, constants, used = copy.deepcopy(model), [], [], set()

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            layer = node.input[1].removesuffix(".weight")
            used.add(node.input[1])
            module = network.get_submodule(layer)
            if hasattr(module, "input_quantizer"):
                grid = module.input_quantizer.grid
                kind = np.int8 if grid.quant_min < 0 else np.uint8
                scale = [constant(f"{layer}.s", np.float32(grid.scale)), constant(f"{layer}.z", kind(grid.zero_point))]
                nodes.append(helper.make_node("QuantizeLinear", [node.input[0], *scale], [f"{layer}.q"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{layer}.q", *scale], [f"{layer}.x"]))
                node.input[0] = f"{layer}.x"
            grid = module.weight_grid
            kind = np.int8 if grid.quant_min < 0 else np.uint8
            parts = [grid.integers(module.weight).numpy(), grid.scale.numpy(), grid.zero_point.numpy()]
            if len(grid.scale) == 1:
                parts[1:] = [part[0] for part in parts[1:]]
            inputs = [constant(f"{layer}.w{place}", part.astype(dtype)) for place, (part, dtype) in enumerate(
                zip(parts, (kind, np.float32, kind), strict=True)
            )]  # fmt: skip
            nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{layer}.v"], axis=0))
            node.input[1] = f"{layer}.v"
        nodes.append(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept + constants)):
        del field[:]
        field.extend(values)
    assert {name.removesuffix(".weight") for name in used} == set(layers_of(network))
    return model


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(base, photograph):
    @lru_cache(maxsize=4)
    def get(name):
        file = io.BytesIO()
        with warnings.catch_warnings():  # the exporter that keeps the parameters' names is the older one
            warnings.simplefilter("ignore")
            torch.onnx.export(
                base(name), (photograph(name),), file, dynamo=False, opset_version=21, do_constant_folding=False,
                input_names=["image"], output_names=["logits"],
            )  # fmt: skip
        return onnx.load_from_string(file.getvalue())

    return get


ORACLES = (QuantSpec(), QuantSpec(8, 8, "affine", "per_tensor", "symmetric"), QuantSpec(4, 8, "affine", ranges="mse"))


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("spec", ORACLES, ids=scheme_name)
@pytest.mark.parametrize("name", [LITE, SQUEEZE])
def test_every_layer_of_a_network_agrees_with_onnx_runtime(base, ranges, exported, pictures, name, spec):
    network, image = assemble(base(name), spec, ranges(name, spec.ranges)), pictures(name)[1]
    model, reads, makes = with_rounding(exported(name), network), {}, {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            reads[node.output[0].removesuffix(".q")] = node.input[0]
        if node.op_type in ("Conv", "Gemm"):
            makes[node.input[1].removesuffix(".v")] = node.output[0]
    assert set(reads) == set(makes) == set(layers_of(network))
    rounded = {layer: f"{layer}.x" for layer in reads}
    wanted = sorted({*reads.values(), *makes.values(), *rounded.values()} - {"image", "logits"})
    model.graph.output.extend(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in wanted)
    values = session(model).run(["logits", *wanted], {"image": image.numpy()})
    theirs = dict(zip(["logits", *wanted], map(torch.from_numpy, values), strict=True)) | {"image": image}
    for layer, module in layers_of(network).items():
        # Compared on what their layer read, padding included: a value halfway between two steps, which dividing by
        # the scale and multiplying by its inverse may round apart, would move all that follows.
        expected, step = theirs[rounded[layer]], module.input_quantizer.grid.scale
        apart = (module.input_quantizer(theirs[reads[layer]]) - expected).abs() / step
        assert float(apart.max()) < 1.01
        assert int((apart > 0.01).sum()) <= max(1, 1e-4 * apart.numel())
        if isinstance(module, nn.Linear):
            made = nn.functional.linear(expected, module.weight, module.bias)
        else:
            made = module._conv_forward(expected, module.weight, module.bias)
        assert distance(made, theirs[makes[layer]]) < 1e-5
    with torch.no_grad():
        expected, found, exact = theirs["logits"], network(image), base(name)(image)
    assert distance(found, expected) < 0.5 * distance(exact, expected)


@pytest.mark.parametrize("name", [LITE, MOBILE, SQUEEZE])
def test_a_whole_network_with_rounded_weights_agrees_with_onnx_runtime(base, exported, photograph, name):
    image = photograph(name, "rocket")
    for scheme, granularity in product(SCHEMES, GRANULARITIES):
        network = assemble(base(name), QuantSpec(8, None, scheme, granularity), Ranges({}, 0))
        expected = session(with_rounding(exported(name), network)).run(None, {"image": image.numpy()})[0]
        with torch.no_grad():
            found = network(image).numpy()
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
