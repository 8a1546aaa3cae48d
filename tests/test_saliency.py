"""Predicted saliency, and any map's values to a heatmap."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

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
