"""Which part of a picture is seen: the centre, a place of one's own, or all of it with the rest filled."""

from dataclasses import replace

import numpy as np
import pytest

from quantviz import images
from quantviz.networks.preprocessing import IMAGENET, of_words, words_of
from quantviz.specs import Crop, UsageError, digest_of, plain

WIDE = np.random.default_rng(3).integers(0, 256, (300, 500, 3), dtype=np.uint8)


def test_the_words_of_a_crop_are_read_and_told():
    for text in ("centre", "fit", "0.2,0.5", "0,1"):
        assert Crop.of_words(text).words == text
    assert Crop.of_words("0.5,0.5") == Crop.of_words("center") == Crop()
    for wrong in ("middle", "0.2", "0.2,0.5,0.1", "1.2,0.5", "nan,0", ""):
        with pytest.raises(UsageError, match="Crop"):
            Crop.of_words(wrong)
    with pytest.raises(UsageError, match="fitted"):
        Crop(fit=True, x=0.2)


def test_the_default_leaves_pixels_and_keys_as_they_were():
    assert IMAGENET.at(Crop()) is IMAGENET
    assert "place" not in plain(IMAGENET)
    assert digest_of(IMAGENET) == "56c3469dbfc4457dd4a7084a74428f4cf5d29234ece2f50611dceb736e5d0c9c"
    assert np.array_equal(images.crop(WIDE, replace(IMAGENET, place=(0.5, 0.5))), images.crop(WIDE, IMAGENET))


def test_a_place_cuts_from_edge_to_edge():
    resized = images.crop(WIDE, replace(IMAGENET, crop=(256, 426)))  # all of the picture, as it is cut from
    for (x, y), (left, top) in {(0, 0): (0, 0), (1, 1): (202, 32), (1, 0): (202, 0), (0.25, 0.5): (50, 16)}.items():
        cut = images.crop(WIDE, IMAGENET.at(Crop(x=x, y=y)))
        assert np.array_equal(cut, resized[top : top + 224, left : left + 224])
    box = images.seen((300, 500), IMAGENET.at(Crop(x=1, y=0)))
    assert box == pytest.approx((202 / 426, 0, 224 / 426, 224 / 256))


@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_that_is_fitted_is_seen_whole_and_the_rest_is_the_mean(turned):
    rgb = WIDE.transpose(1, 0, 2) if turned else WIDE
    fitted = images.crop(np.ascontiguousarray(rgb), IMAGENET.at(Crop(fit=True)))
    fitted = fitted.transpose(1, 0, 2) if turned else fitted
    mean = np.array([124, 116, 104], np.uint8)
    assert fitted.shape == (224, 224, 3)
    assert (fitted[:45] == mean).all()
    assert (fitted[179:] == mean).all()
    alone = images.crop(WIDE, replace(IMAGENET, crop=(134, 224), fit="stretch"))
    assert np.abs(fitted[45:179].astype(int) - alone).max() <= turned  # columns are resized first, and rounded
    values = images.normalize(fitted, IMAGENET)
    assert np.abs(values[..., :45, :]).max() < 0.011  # half a grey level, over the deviation
    left, top, width, height = images.seen((300, 500), IMAGENET.at(Crop(fit=True)))
    assert (left, width) == (0, 1)
    assert (top, height) == pytest.approx((-45 / 134, 224 / 134))


def test_the_mean_is_that_of_the_networks_own_channels():
    own = replace(IMAGENET, fit="pad", order="BGR", range="0-255", mean=(104.0, 117.0, 124.0))
    assert images.crop(WIDE, own)[0, 0].tolist() == [124, 117, 104]


def test_a_map_goes_with_its_picture_and_nothing_is_beside_it():
    values = WIDE[..., 0].astype(np.float32)
    for crop in (Crop(fit=True), Crop(x=0.1, y=0.9)):
        preprocessing = replace(IMAGENET.at(crop))
        cut = images.crop_map(values, (300, 500), preprocessing)
        seen = images.crop(WIDE, preprocessing)[..., 0].astype(np.float32)
        inside = slice(45, 179) if crop.fit else slice(None)
        assert np.abs(cut[inside] - seen[inside]).max() <= 1.01  # the picture is rounded twice
        if crop.fit:
            assert not cut[:45].any()
            assert not cut[179:].any()


def test_a_shift_moves_the_window_by_whole_pixels():
    for crop in (Crop(x=0.3, y=0.3), Crop(fit=True)):
        preprocessing = IMAGENET.at(crop)
        still, moved = (images.crop(WIDE, preprocessing, shift=shift) for shift in ((0, 0), (1, 0)))
        assert np.array_equal(still[:, 1:], moved[:, :-1])


def test_input_words_pad_and_place():
    assert of_words("fit=pad", IMAGENET).fit == "pad"
    assert words_of(of_words("fit=pad", IMAGENET)).startswith("fitted into 224 (bilinear), the rest filled with")
    placed = of_words("place=0.25/1", IMAGENET)
    assert placed == IMAGENET.at(Crop(x=0.25, y=1))
    assert "crop at 0.25/1 of 224" in words_of(placed)
    for wrong in ("place=0.5", "place=2/0", "place=a/b", "fit=whole"):
        with pytest.raises(UsageError, match="Input"):
            of_words(wrong, IMAGENET)
