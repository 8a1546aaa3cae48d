"""Predicted saliency, and any map's values to a heatmap."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import warnings

import numpy as np
import onnx
import py_sod_metrics
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy import ndimage, stats
from skimage.color import rgb2lab

from quantviz import images, saliency
from quantviz.saliency import network
from quantviz.specs import CheckpointError, Heatmap, Preprocessing, UsageError

RNG = np.random.default_rng(5)


def scene(height=300, width=400, at=(90, 260), size=24):
    """A texture of diagonal stripes with one disc that does not belong."""
    y, x = np.mgrid[:height, :width]
    grey = 120 + 40 * np.sin((x + y) / 3.0) + RNG.normal(0, 3, (height, width))
    grey[(y - at[0]) ** 2 + (x - at[1]) ** 2 < size**2] = 250
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def peak(heatmap):
    return np.unravel_index(heatmap.values.argmax(), heatmap.values.shape)


@pytest.mark.parametrize("at", [(90, 260), (200, 120)])
def test_what_does_not_belong_is_salient(at):
    heatmap = saliency.spectral_residual(scene(at=at))
    assert heatmap.values.shape == (300, 400)
    assert heatmap.values.dtype == np.float32
    assert heatmap.degenerate == ""
    assert np.hypot(*np.subtract(peak(heatmap), at)) < 40
    y, x = np.mgrid[:300, :400]
    near = np.hypot(y - at[0], x - at[1]) < 45
    assert heatmap.values[near].mean() > 3 * heatmap.values[~near].mean()


def test_equals_the_formula_written_out():
    rgb = images.bundled("astronaut").rgb
    small = Image.fromarray((rgb @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32))
    spectrum = np.fft.fft2(np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC), dtype=np.float64))
    log, phase = np.log(np.abs(spectrum)), np.angle(spectrum)
    padded = np.pad(log, 1, mode="edge")
    average = sum(padded[i : i + 64, j : j + 64] for i in range(3) for j in range(3)) / 9
    energy = np.abs(np.fft.ifft2(np.exp(log - average + 1j * phase))) ** 2
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 2.5**2))
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    smooth = ndimage.convolve(energy, kernel, mode="constant")
    large = np.asarray(Image.fromarray((smooth / smooth.max()).astype(np.float32)).resize(rgb.shape[1::-1], 2))
    expected = (large - large.min()) / (large.max() - large.min())
    assert np.abs(saliency.spectral_residual(rgb).values - expected).max() < 1e-4


@pytest.mark.parametrize("name", images.BUNDLED)
def test_photographs_have_a_map_that_spans_its_range(name):
    rgb = images.bundled(name).rgb
    heatmap = saliency.spectral_residual(rgb)
    assert heatmap.values.shape == rgb.shape[:2]
    assert (heatmap.values.min(), heatmap.values.max()) == (0.0, 1.0)
    assert heatmap.values.std() > 0.02


def test_same_picture_same_bits():
    rgb = scene()
    first = saliency.spectral_residual(rgb).values
    assert all(np.array_equal(first, saliency.spectral_residual(rgb.copy()).values) for _ in range(3))


@pytest.mark.parametrize("level", [0, 1, 128, 255])
@pytest.mark.parametrize("size", [(16, 16), (100, 333)])
def test_constant_image_is_degenerate(level, size):
    heatmap = saliency.spectral_residual(np.full((*size, 3), level, np.uint8))
    assert heatmap.degenerate == "constant image"
    assert heatmap.values.shape == size
    assert not heatmap.values.any()


@pytest.mark.parametrize(
    "rgb",
    [
        np.tile(np.array([[0], [255]], np.uint8)[..., None], (50, 64, 3)),
        np.eye(64, dtype=np.uint8)[..., None].repeat(3, axis=2) * 255,
        np.zeros((800, 16, 3), np.uint8) + np.arange(16, dtype=np.uint8)[None, :, None],
        np.zeros((16, 800, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None, None],
        np.pad(np.full((1, 1, 3), 255, np.uint8), ((40, 59), (20, 79), (0, 0))),
    ],
    ids=["stripes", "diagonal", "tall", "wide", "dot"],
)
def test_synthetic_spectra_with_zeros_stay_finite(rgb):
    heatmap = saliency.spectral_residual(rgb)
    assert heatmap.values.shape == rgb.shape[:2]
    assert np.isfinite(heatmap.values).all()
    assert heatmap.values.min() >= 0.0
    assert heatmap.values.max() <= 1.0


def test_rounding_noise_in_an_empty_spectrum_is_not_evidence():
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[:, 20:24] = 200  # all energy in one row of the spectrum; the other rows are noise
    heatmap = saliency.spectral_residual(dot)
    assert np.abs(heatmap.values - heatmap.values[32][None]).max(axis=1)[10:-10].max() < 1e-3


def test_heatmap_is_min_max_scaled():
    values = RNG.normal(5, 2, (9, 7))
    heatmap = saliency.to_heatmap(values)
    assert (heatmap.values.min(), heatmap.values.max()) == (0.0, 1.0)
    assert np.allclose(heatmap.values, (values - values.min()) / np.ptp(values), atol=1e-6)
    assert np.array_equal(saliency.to_heatmap(values > 5).values, (values > 5).astype(np.float32))


@pytest.mark.parametrize("scale", [1e-310, 1e-40, 1e40, 1e307])
def test_heatmap_does_not_depend_on_scale(scale):
    values = RNG.random((9, 7))
    assert np.allclose(saliency.to_heatmap(values * scale).values, saliency.to_heatmap(values).values, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((4, 5)), "all zero"),
        (np.full((4, 5), 3.5), "constant"),
        (np.full((4, 5), -1), "constant"),
        (1 + 1e-7 * np.eye(4, 5), "constant"),
        (np.where(np.eye(4, 5), np.nan, 1), "contains NaN or infinity"),
        (np.where(np.eye(4, 5), np.inf, 1), "contains NaN or infinity"),
    ],
)
def test_heatmap_without_evidence_is_flagged(values, reason):
    heatmap = saliency.to_heatmap(values)
    assert heatmap.degenerate == reason
    assert heatmap.values.shape == (4, 5)
    assert not heatmap.values.any()


def test_supplied_map_survives_the_way_to_a_heatmap():
    rgb = scene()
    levels = (saliency.spectral_residual(rgb).values * 65535).round().astype(np.uint16)
    preprocessing = Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    aligned = images.align_map(images.read_map(buffer.getvalue()), (300, 400), preprocessing)
    direct = images.crop_map(saliency.spectral_residual(rgb).values, (300, 400), preprocessing)
    difference = saliency.to_heatmap(aligned).values - saliency.to_heatmap(direct).values
    assert np.abs(difference).max() < 1e-4


# --- robust background detection

SIDE = 224
HORSE = ~skimage.data.horse()  # a real silhouette, True in the animal


def backgrounds(rng):
    """Yield a gradient, stripes, photographed textures and parts of photographs, float (SIDE, SIDE, 3)."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    first, second = rng.uniform(40, 215, (2, 3))
    yield first + (second - first) * (x * rng.uniform(0.3, 0.7) + y * 0.5)[..., None]
    stripes = 128 + rng.uniform(20, 45) * np.sin(SIDE * (x + y * rng.uniform(-1, 1)) / rng.uniform(2, 6))
    yield stripes[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 6, (SIDE, SIDE, 1))
    for texture in (skimage.data.brick(), skimage.data.grass(), skimage.data.gravel()):
        top, left = rng.integers(0, np.array(texture.shape) - SIDE)
        yield texture[top : top + SIDE, left : left + SIDE, None] * rng.uniform(0.5, 1, 3)
    for part in (skimage.data.rocket()[:200, 400:], skimage.data.coffee()[:60, :120]):  # sky, wooden table
        yield np.asarray(Image.fromarray(part).resize((SIDE, SIDE)), np.float64)


def silhouette(rng, at_border):
    """An ellipse, a blob or the horse, somewhere in the middle or cut off by the border, bool (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(0.3, 0.7, 2) * SIDE
    if at_border:
        centre[rng.integers(2)] = rng.choice([0.12, 0.88]) * SIDE
    radius = rng.uniform(0.14, 0.26) * SIDE
    dy, dx = (y - centre[0]) / radius, (x - centre[1]) / radius
    kind = rng.integers(3)
    if kind == 0:
        return dy**2 + (dx / rng.uniform(0.6, 1.4)) ** 2 < 1
    if kind == 1:
        bumps = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 14)
        return np.hypot(dy, dx) - 0.25 * bumps / bumps.std() < 1
    rows = ((dy / 3 + 0.5) * HORSE.shape[0]).astype(int)
    columns = ((dx / 3 + 0.5) * HORSE.shape[1]).astype(int)
    inside = (rows >= 0) & (rows < HORSE.shape[0]) & (columns >= 0) & (columns < HORSE.shape[1])
    return inside & HORSE[rows.clip(0, HORSE.shape[0] - 1), columns.clip(0, HORSE.shape[1] - 1)]


def salient_scenes(seed, rounds):
    """Yield (picture, mask, at border): an object of another colour, with a texture of its own and soft edges."""
    rng = np.random.default_rng(seed)
    for i in range(rounds):
        for background in backgrounds(rng):
            mask = silhouette(rng, at_border=i % 2 == 1)
            usual = rgb2lab(background.clip(0, 255).mean((0, 1)) / 255)
            colour = rng.uniform(20, 235, 3)
            while not 30 < np.linalg.norm(rgb2lab(colour / 255) - usual) < 60:
                colour = rng.uniform(20, 235, 3)
            grain = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 2)
            painted = colour + (grain / grain.std() * rng.uniform(4, 14))[..., None]
            share = ndimage.gaussian_filter(mask.astype(float), 0.7)[..., None]
            yield ((1 - share) * background + share * painted).clip(0, 255).astype(np.uint8), mask, i % 2 == 1


def quality(heatmap, mask):
    """AUC, largest F-measure (beta^2 = 0.3) and S-measure."""
    ranks, inside = stats.rankdata(heatmap.values.ravel()), mask.ravel()
    auc = (ranks[inside].sum() - inside.sum() * (inside.sum() + 1) / 2) / (inside.sum() * (~inside).sum())
    f_measure = py_sod_metrics.FmeasureV2(
        {"f": py_sod_metrics.FmeasureHandler(beta=0.3, with_adaptive=False, with_dynamic=True, sample_based=True)}
    )
    structure = py_sod_metrics.Smeasure()
    levels, truth = np.round(heatmap.values * 255).astype(np.uint8), mask.astype(np.uint8) * 255
    f_measure.step(levels, truth)
    structure.step(levels, truth)
    return auc, f_measure.get_results()["f"]["dynamic"].max(), structure.get_results()["sm"]


@pytest.fixture(scope="module")
def qualities():
    """(scenes, 3) for spectral residual and for robust background detection, and which objects touch the border."""
    scenes = list(salient_scenes(seed=1, rounds=4))
    methods = (saliency.spectral_residual, saliency.robust_background)
    return *(np.array([quality(m(rgb), mask) for rgb, mask, _ in scenes]) for m in methods), np.array(
        [at_border for *_, at_border in scenes]
    )


def test_robust_background_finds_objects(qualities):
    _, found, _ = qualities
    auc, f_measure, structure = found.mean(axis=0)
    assert auc > 0.98
    assert f_measure > 0.93
    assert structure > 0.88
    assert found[:, 0].min() > 0.8


def test_robust_background_is_clearly_stronger_than_spectral_residual(qualities):
    spectral, robust, at_border = qualities
    for chosen in (at_border, ~at_border):
        gain = robust[chosen].mean(axis=0) - spectral[chosen].mean(axis=0)
        assert (gain > [0.15, 0.3, 0.2]).all()
    assert (robust[:, 0] > spectral[:, 0]).mean() > 0.9


@pytest.mark.parametrize("name", ["flower", "rocket"])
def test_robust_background_finds_what_the_photograph_is_of(name):
    rgb = images.crop(images.bundled(name).rgb, Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3))
    inside = {"flower": np.s_[70:160, 60:150], "rocket": np.s_[70:190, 106:118]}[name]
    outside = {"flower": np.s_[:30], "rocket": np.s_[:, :90]}[name]
    values = saliency.robust_background(rgb).values
    assert values[inside].mean() > 0.5
    assert values[outside].mean() < 0.1


def test_robust_background_repeats_itself_in_under_a_second():
    rgb = images.crop(images.bundled("coffee").rgb, Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3))
    first = saliency.robust_background(rgb)
    start = time.perf_counter()
    assert all(np.array_equal(first.values, saliency.robust_background(rgb.copy()).values) for _ in range(2))
    assert (time.perf_counter() - start) / 2 < 1
    assert (first.values.min(), first.values.max()) == (0.0, 1.0)


def test_robust_background_does_not_depend_on_the_photographs_size():
    large = images.bundled("flower").rgb
    small = np.asarray(Image.fromarray(large).resize((large.shape[1] // 2, large.shape[0] // 2), Image.Resampling.BOX))
    of_large, of_small = saliency.robust_background(large).values, saliency.robust_background(small).values
    assert of_large.shape == large.shape[:2]
    halved = np.asarray(Image.fromarray(of_large).resize(of_small.shape[::-1], Image.Resampling.BOX))
    assert np.corrcoef(halved.ravel(), of_small.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("size", [(16, 16), (16, 800), (800, 16), (17, 300), (1, 1), (2, 3)])
def test_robust_background_of_odd_pictures_is_finite_or_flagged(size):
    ramp = np.broadcast_to(np.linspace(0, 255, size[1])[None, :, None], (*size, 3)).astype(np.uint8)
    for rgb in (RNG.integers(0, 256, (*size, 3), dtype=np.uint8), ramp):
        heatmap = saliency.robust_background(rgb)
        assert heatmap.values.shape == size
        assert np.isfinite(heatmap.values).all()
        assert heatmap.degenerate or heatmap.values.max() == 1.0
    flat = saliency.robust_background(np.full((*size, 3), 77, np.uint8))
    assert flat.degenerate == "no visible contrast"
    assert not flat.values.any()


# --- networks


class Redness(torch.nn.Module):
    """Red minus the mean of green and blue, three times: the first output is the one that counts."""

    def __init__(self, keep_channel=True):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 1)
        self.conv.weight.data = torch.tensor([0.229, -0.112, -0.1125]).reshape(1, 3, 1, 1)
        self.conv.bias.data.zero_()
        self.keep = keep_channel

    def forward(self, x):
        d0 = self.conv(x)
        return (d0 if self.keep else d0[:, 0]), -d0, d0 * 0


def exported(path, *, side=64, open_side=False, **options):
    shape = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = (torch.zeros(1, 3, side, side),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            Redness(**options).eval(),
            example,
            str(path),
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=(shape,) if open_side else None,
        )
    return path


def graph_file(path, nodes, *, inputs=None, outputs=None, weights=()):
    """An .onnx file of one graph, by default from x (1, 3, 32, 32) to y (1, 1, 32, 32)."""
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])]
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def mean_file(path, shape):
    """An .onnx file that averages the channels of an input of a given shape."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    return graph_file(path, [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])], inputs=inputs)


def red_square(height=90, width=120):
    rgb = np.full((height, width, 3), 120, np.uint8)
    rgb[30:60, 40:80] = (250, 20, 30)
    return rgb


@pytest.fixture(scope="module")
def redness(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("networks") / "redness.onnx")


def test_network_finds_what_it_was_made_for(redness):
    rgb = red_square()
    heatmap = saliency.onnx_saliency(redness, rgb)
    assert heatmap.values.shape == (90, 120)
    assert (heatmap.values.min(), heatmap.values.max()) == (0.0, 1.0)
    assert heatmap.values[35:55, 48:72].min() > 0.95
    assert heatmap.values[:20].max() < 0.05
    assert np.array_equal(heatmap.values, saliency.OnnxSaliency(redness)(rgb).values)


def test_network_gets_u2nets_preprocessing_written_out(redness):
    rgb = images.bundled("chelsea").rgb // 2  # so that its largest value is not 255
    small = np.asarray(Image.fromarray(rgb).resize((64, 64), Image.Resampling.BILINEAR), np.float64)
    pixels = (small / small.max() - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    output = pixels @ [0.229, -0.112, -0.1125]
    output = (output - output.min()) / np.ptp(output)
    large = np.asarray(Image.fromarray(output.astype(np.float32)).resize(rgb.shape[1::-1], Image.Resampling.BILINEAR))
    expected = (large - large.min()) / np.ptp(large)
    assert np.abs(saliency.onnx_saliency(redness, rgb).values - expected).max() < 1e-4


def test_network_with_open_sides_gets_320_and_may_return_three_dimensions(tmp_path):
    path = exported(tmp_path / "open.onnx", open_side=True, keep_channel=False)
    opened = saliency.OnnxSaliency(path)
    assert (opened.name, opened.side) == ("open.onnx", 320)
    assert opened(red_square()).values[35:55, 45:75].min() > 0.95
    assert saliency.OnnxSaliency(mean_file(tmp_path / "named.onnx", ["n", "c", "h", "w"])).side == 320
    assert saliency.OnnxSaliency(mean_file(tmp_path / "fixed.onnx", [1, 3, 48, 48])).side == 48


def test_network_is_opened_again_only_when_the_file_has_changed(tmp_path):
    path = mean_file(tmp_path / "n.onnx", [1, 3, 32, 32])
    first = network.open_network(path)
    assert network.open_network(tmp_path / "." / "n.onnx") is first
    mean_file(path, [1, 3, 48, 48])
    os.utime(path, ns=(1, 1))
    second = network.open_network(path)
    assert (first.side, second.side) == (32, 48)
    assert first.sha256 != second.sha256


def test_network_without_evidence_is_flagged(tmp_path):
    picture = red_square()
    nothing = graph_file(tmp_path / "nothing.onnx", [helper.make_node("Sub", ["x", "x"], ["d"]), mean_node("d")])
    assert saliency.onnx_saliency(nothing, picture).degenerate == "all zero"
    infinite = graph_file(tmp_path / "nan.onnx", [helper.make_node("Log", ["x"], ["d"]), mean_node("d")])
    flagged = saliency.onnx_saliency(infinite, picture)
    assert flagged.degenerate == "contains NaN or infinity"
    assert flagged.values.shape == (90, 120)
    plain = saliency.onnx_saliency(mean_file(tmp_path / "m.onnx", [1, 3, 32, 32]), np.full((20, 30, 3), 9, np.uint8))
    assert plain.degenerate == "constant image"
    black = saliency.onnx_saliency(tmp_path / "m.onnx", np.zeros((20, 30, 3), np.uint8))
    assert black.degenerate == "constant image"


def mean_node(name):
    return helper.make_node("ReduceMean", [name], ["y"], axes=[1])


def network_refused(path, rgb=None):
    with pytest.raises(CheckpointError) as caught:
        saliency.onnx_saliency(path, red_square() if rgb is None else rgb)
    message = str(caught.value)
    assert "\n" not in message
    assert "ONNXRuntimeError" not in message
    assert message.endswith(".")
    return message


def test_files_that_are_no_network_are_refused(tmp_path, redness):
    assert "does not exist" in network_refused(tmp_path / "gone.onnx")
    assert "not a regular file" in network_refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in network_refused(tmp_path / "pipe.onnx")
    assert "cannot be read" in network_refused(tmp_path / "a\0.onnx")
    bad = tmp_path / "bad.onnx"
    for content in (b"", b"hello, world" * 40, redness.read_bytes()[:200], b"\x80\x04K\x01."):
        bad.write_bytes(content)
        assert "bad.onnx" in network_refused(bad)
    with open(tmp_path / "huge.onnx", "wb") as file:
        file.truncate(network.MAX_BYTES + 1)
    assert "give an .onnx file of up to 512 MiB" in network_refused(tmp_path / "huge.onnx")


def test_networks_of_another_kind_are_refused(tmp_path):
    for shape in ([1, 1, 32, 32], [2, 3, 32, 32], [1, 3, 32, 48], [1, 3, 8, 8], [1, 3, 4096, 4096], [1, 3, 32]):
        message = network_refused(mean_file(tmp_path / "shape.onnx", shape))
        assert "takes tensor(float) of shape" in message
        assert str(shape[-1]) in message
    double = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 3, 32, 32])]
    message = network_refused(graph_file(tmp_path / "double.onnx", [mean_node("x")], inputs=double))
    assert "tensor(double)" in message
    two = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in "xz"]
    add = [helper.make_node("Add", ["x", "z"], ["d"]), mean_node("d")]
    assert "has 2 inputs" in network_refused(graph_file(tmp_path / "two.onnx", add, inputs=two))
    same = graph_file(tmp_path / "three.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    assert "shape (1, 3, 32, 32)" in network_refused(same)
    classes = graph_file(tmp_path / "classes.onnx", [helper.make_node("Flatten", ["x"], ["y"])])
    assert "shape (1, 3072)" in network_refused(classes)
    unknown = graph_file(tmp_path / "unknown.onnx", [helper.make_node("Attend", ["x"], ["y"])])
    assert "Attend" in network_refused(unknown)


def test_network_that_fails_as_it_runs_is_refused(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 1, 7, 7], np.int64), "shape")
    path = graph_file(tmp_path / "fails.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"])], weights=[shape])
    assert "fails.onnx" in network_refused(path)


@pytest.mark.parametrize("location", ["weights.data", "../weights.data", "/etc/passwd"])
def test_weights_in_another_file_are_never_read(tmp_path, monkeypatch, location):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.data").write_bytes(np.ones(3, np.float32).tobytes())
    kernel = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value=location)
    path = graph_file(tmp_path / "split.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], weights=[kernel])
    assert "keeps weights in another file" in network_refused(path)
    loaded = onnx.load(path, load_external_data=False)  # the file itself is sound
    loaded.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w"))
    path.write_bytes(loaded.SerializeToString())
    assert not saliency.onnx_saliency(path, red_square()).degenerate


def test_refused_networks_print_nothing_else(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"hello, world")
    graph_file(tmp_path / "unknown.onnx", [helper.make_node("Attend", ["x"], ["y"])])
    code = (
        "import sys; from quantviz import saliency\n"
        "assert not {'onnxruntime', 'skimage.segmentation'} & set(sys.modules)\n"
        "for path in sys.argv[1:]:\n"
        "    try: saliency.predictor(path)\n"
        "    except Exception as error: print(error)\n"
    )
    no_text = (tmp_path / "unknown.onnx").read_bytes().replace(b"Attend", b"\xff\xfeend\xff")
    (tmp_path / "no_text.onnx").write_bytes(no_text)  # an error that ONNX Runtime cannot even tell
    paths = [str(tmp_path / name) for name in ("bad.onnx", "unknown.onnx", "no_text.onnx")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.count("is no ONNX network that can be run here") == len(done.stdout.splitlines()) == 3
    assert done.stderr == ""


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_networks_give_a_map_or_a_checkpoint_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("mutated")
    path = mean_file(folder / "m.onnx", [1, 3, 32, 32])
    content = bytearray(path.read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)):
        content[at] = value
    path.write_bytes(content)
    try:
        outcome = saliency.OnnxSaliency(path)(red_square())
    except CheckpointError as error:
        outcome = str(error)
    assert isinstance(outcome, Heatmap) or (isinstance(outcome, str) and "\n" not in outcome)


# --- choosing


def test_predictors_are_told_by_name_title_and_source():
    assert list(saliency.PREDICTORS) == ["spectral_residual", "robust_background"]
    for name, method in saliency.PREDICTORS.items():
        assert method.name == name
        assert method is saliency.predictor(name)
        assert "doi 10.1109/CVPR" in method.source
        assert method.predict is getattr(saliency, name)
    assert len({method.key for method in saliency.PREDICTORS.values()}) == 2


def test_predictor_of_a_file(redness):
    method = saliency.predictor(str(redness))
    assert method.title == "redness.onnx (ONNX network)"
    digest = network.open_network(redness).sha256
    assert digest in method.key
    assert digest in method.source
    assert np.array_equal(method.predict(red_square()).values, saliency.onnx_saliency(redness, red_square()).values)


@pytest.mark.parametrize("choice", ["deepgaze", "map.png", ""])
def test_unknown_predictor_is_refused_with_the_names(choice):
    with pytest.raises(UsageError, match=r"is unknown; use spectral_residual, robust_background or the path of an"):
        saliency.predictor(choice)
