"""Saliency by the spectral residual and by robust background detection."""

from __future__ import annotations

import io

import numpy as np
import py_sod_metrics
import pytest
import skimage.data
from PIL import Image
from scipy import ndimage, stats
from skimage.color import rgb2lab

from quantviz import images, saliency
from quantviz.specs import Preprocessing

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


def test_robust_background_repeats_itself_in_little_time(effort):
    rgb = images.crop(images.bundled("coffee").rgb, Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3))
    first = saliency.robust_background(rgb)
    again = []
    assert effort(lambda: again.append(saliency.robust_background(rgb.copy()))) < 30
    assert np.array_equal(again[0].values, first.values)
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
