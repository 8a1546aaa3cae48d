"""Masks in lossy files: one object's are read, class numbers are refused."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from quantviz import images
from quantviz.comparison.references import read_truth
from quantviz.specs import ImageError

ROWS, COLUMNS = np.mgrid[:300, :400]
RADIUS = np.hypot(COLUMNS - 150, ROWS - 120)
OBJECT = np.where(RADIUS < 60, 255, 0).astype(np.uint8)


def labelled(*numbers):
    values = np.zeros((300, 400), np.uint8)
    for place, number in enumerate(numbers):
        values[40:140, 90 * place + 20 : 90 * place + 100] = number
    return values


def blurred(radius, of=OBJECT):
    return np.asarray(Image.fromarray(of).filter(ImageFilter.GaussianBlur(radius)))


LABELS = {
    "a number and void": np.where(abs(RADIUS - 60) < 2, 255, np.where(RADIUS < 60, 15, 0)).astype(np.uint8),
    "two numbers": labelled(1, 2),
    "numbers and void": labelled(7, 15, 26, 255),
    "a trimap": np.where(abs(RADIUS - 60) < 12, 128, OBJECT).astype(np.uint8),
    "many numbers": np.random.default_rng(0).integers(0, 19, (9, 12)).repeat(32, 0).repeat(32, 1).astype(np.uint8) * 10,
}
MASKS = {
    "an object": OBJECT,
    "soft edges": blurred(3),
    "a smooth map": blurred(30),
    "a grid": np.where((ROWS % 9 == 0) | (COLUMNS % 13 == 0), 255, 0).astype(np.uint8),
    "all of it": np.full((300, 400), 255, np.uint8),
}


def saved(values, form, quality):
    held = io.BytesIO()
    Image.fromarray(values).save(held, form, quality=quality)
    return held.getvalue()


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_class_numbers_in_lossy_files_are_refused_and_masks_read(quality):
    for values in LABELS.values():
        with pytest.raises(
            ImageError, match=r"mask\.jpg is a lossy file with areas of several levels .* as PNG or \.npy"
        ):
            read_truth(saved(values, "JPEG", quality), "mask.jpg", "mask", (300, 400))
    for values in MASKS.values():
        found, _ = read_truth(saved(values, "JPEG", quality), "mask.jpg", "mask", (300, 400))
        expected = values > 127 if values.max() == 255 else values > values.max() / 2
        assert (found != expected).mean() < 0.02


def test_which_files_are_lossy():
    assert images.is_lossy(saved(OBJECT, "JPEG", 90))
    assert images.is_lossy(saved(OBJECT, "WEBP", 90))
    held = io.BytesIO()
    Image.fromarray(OBJECT).save(held, "WEBP", lossless=True)
    assert not images.is_lossy(held.getvalue())
    assert not images.is_lossy(saved(OBJECT, "PNG", 90))
    for values in LABELS.values():  # of which nothing is lost
        read_truth(saved(values, "PNG", 90), "mask.png", "mask", (300, 400))
