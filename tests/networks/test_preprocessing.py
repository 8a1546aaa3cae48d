"""Preprocessing as users write it."""

import pytest

from quantviz.networks.preprocessing import IMAGENET, of_words, preprocessing_of, words_of
from quantviz.specs import UsageError


def test_order_and_range_are_read_and_told():
    found = of_words("order=BGR, range=0-255, mean=104/117/124, std=1", IMAGENET)
    assert (found.order, found.range, found.mean, found.std) == ("BGR", "0-255", (104, 117, 124), (1, 1, 1))
    assert words_of(found).endswith("mean 104/117/124, std 1/1/1, BGR, 0-255")
    assert words_of(IMAGENET).endswith("std 0.229/0.224/0.225")
    for wrong in ("order=bgr", "range=255"):
        with pytest.raises(UsageError, match=f"Input {wrong} is unknown; use "):
            of_words(wrong, IMAGENET)


def test_height_and_width_are_read_and_told():
    found = of_words("crop=224x320,resize=256x366", IMAGENET)
    assert (found.crop, found.resize, found.size) == ((224, 320), (256, 366), (224, 320))
    assert "scaled to cover 256x366 (bilinear), centre crop of 224x320 (height x width)" in words_of(found)
    assert of_words("crop=224x320", IMAGENET).resize == (256, 366)  # in the usual ratio
    assert of_words("crop=224x224", IMAGENET) == IMAGENET
    assert "stretched to 96x160 (bilinear) (height x width)" in words_of(of_words("crop=96x160,fit=stretch", IMAGENET))
    for wrong in (
        "crop=224x320,resize=256",
        "crop=224x320x3",
        "crop=224x9",
        "crop=x224",
        "crop=224x320,resize=256x300",
    ):
        with pytest.raises(UsageError, match="Input"):
            of_words(wrong, IMAGENET)


def test_timm_s_settings_of_a_picture_that_is_not_square():
    settings = {"input_size": (3, 224, 160), "mean": IMAGENET.mean, "std": IMAGENET.std, "crop_pct": 0.875}
    found, note = preprocessing_of(settings)
    assert (found.crop, found.resize, found.fit, note) == ((224, 160), (256, 182), "crop", "")
    squashed, _ = preprocessing_of({**settings, "crop_pct": 1.0, "crop_mode": "squash"})
    assert (squashed.size, squashed.fit) == ((224, 160), "stretch")
