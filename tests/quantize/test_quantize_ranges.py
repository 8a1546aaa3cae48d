"""How activation ranges are set: against formulas, brute force and ONNX Runtime."""

from itertools import pairwise, product

import numpy as np
import pytest
import quantize_support
import torch
from onnxruntime.quantization.calibrate import HistogramCollector
from quantize_support import PICTURES, SCHEMES, SQUEEZE, small
from torch import nn

from quantviz.comparison.records import pack_ranges, unpack_ranges
from quantviz.quantize import InputQuantizer, activation_grid, calibrate, input_grid
from quantviz.specs import RANGE_METHODS, QuantSpec, QuantvizError, UsageError, headroom
from quantviz.store import TensorStore

pictures, base, ranges = quantize_support.pictures, quantize_support.base, quantize_support.ranges


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
