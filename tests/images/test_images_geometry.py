"""Crop and normalization, and where maps, masks, points and boxes land in the crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import ResizeKeepRatio
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from quantviz import images
from quantviz.specs import ImageError, Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(7)


def prep(resize=256, crop=224, interpolation="bilinear"):
    return Preprocessing(resize, crop, interpolation, MEAN, STD)


# --- geometry

SIZES = [(500, 375), (333, 500), (257, 255), (256, 256), (224, 224), (225, 231), (1023, 767)]
SIZES += [(16, 16), (17, 300), (801, 16), (97, 241)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (224, 224), (233, 181), (200, 224)])
def test_crop_equals_torchvision_bit_for_bit(size, interpolation, resize, crop):
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    reference = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(crop)])
    expected = np.asarray(reference(Image.fromarray(rgb)))
    ours = images.crop(rgb, prep(resize, crop, interpolation))
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("size", SIZES[:7])
def test_crop_that_is_not_square_equals_the_libraries(size):
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    bilinear = InterpolationMode.BILINEAR
    ways = {
        prep(256, (224, 160)): [Resize(256, bilinear), CenterCrop((224, 160))],
        prep((128, 183), (112, 160)): [ResizeKeepRatio((128, 183), interpolation="bilinear"), CenterCrop((112, 160))],
        replace(prep(1, (96, 160)), fit="stretch"): [Resize((96, 160), bilinear)],
    }
    for preprocessing, steps in ways.items():
        ours = images.crop(rgb, preprocessing)
        assert ours.shape[:2] == preprocessing.size
        assert np.array_equal(ours, np.asarray(Compose(steps)(Image.fromarray(rgb))))


def test_two_equal_sides_are_a_square():
    assert Preprocessing((256, 256), (224, 224), "bilinear", MEAN, STD) == prep()
    assert (prep().size, prep(256, (224, 160)).size) == ((224, 224), (224, 160))


def test_normalize_equals_torchvision():
    rgb = RNG.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    expected = Compose([ToTensor(), Normalize(MEAN, STD)])(Image.fromarray(rgb))[None].numpy()
    ours = images.normalize(rgb, prep())
    assert ours.shape == (1, 3, 224, 224)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.abs(ours - expected).max() <= 1e-6
    assert torch.from_numpy(ours).shape == (1, 3, 224, 224)


def test_normalize_gives_the_networks_order_and_range():
    rgb = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mean, std = (103.94, 116.78, 123.68), (57.4, 57.1, 58.4)  # of blue, green and red
    caffe = replace(prep(), mean=mean, std=std, order="BGR", range="0-255")
    expected = (rgb[..., ::-1].astype(np.float64) - mean) / std
    assert np.abs(images.normalize(rgb, caffe)[0].transpose(1, 2, 0) - expected).max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_map_lands_where_the_picture_lands(size):
    rgb = np.repeat(RNG.integers(0, 256, (*size, 1), dtype=np.uint8), 3, axis=2)
    values = images.crop_map(rgb[..., 0].astype(np.float64), size, prep())
    assert values.shape == (224, 224)
    assert values.dtype == np.float32
    assert np.abs(values - images.crop(rgb, prep())[..., 0]).max() <= 1.01  # the picture is rounded twice


def test_map_at_another_scale_covers_the_whole_picture():
    ramp = np.linspace(0, 1, 50)[None].repeat(40, axis=0)
    full = np.linspace(0, 1, 500)[None].repeat(400, axis=0)
    small, large = images.align_map(ramp, (400, 500), prep()), images.align_map(full, (400, 500), prep())
    assert np.abs(small - large).max() < 0.02


def test_map_of_the_crops_size_is_used_as_it_is():
    values = RNG.random((224, 224))
    assert np.array_equal(images.align_map(values, (375, 500), prep()), values.astype(np.float32))
    assert np.array_equal(images.align_map(values, (500, 500), prep()), values.astype(np.float32))
    of_picture = images.align_map(values, (224, 224), prep())
    assert np.array_equal(of_picture, images.crop_map(values, (224, 224), prep()))
    assert not np.array_equal(of_picture, values.astype(np.float32))


def test_map_of_another_shape_is_refused_with_both_sizes():
    with pytest.raises(ImageError, match=r"size 100 x 90 fits neither the image's 500 x 375 .* 224 x 224"):
        images.align_map(np.zeros((90, 100)), (375, 500), prep())
    images.align_map(np.zeros((300, 403)), (375, 500), prep())  # 0.75 % off
    with pytest.raises(ImageError):
        images.align_map(np.zeros((300, 405)), (375, 500), prep())


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e38, 1e300])
def test_map_of_extreme_magnitude_keeps_its_shape(scale):
    values = RNG.random((60, 80))
    got, plain = (images.crop_map(v, (60, 80), prep()) for v in (values * scale, values))
    assert np.isfinite(got).all()
    assert np.abs(got / got.max() - plain / plain.max()).max() < 1e-5


# --- masks, points and boxes in the crop

PLACES = [prep(), prep(232, 224, "bicubic"), prep(224, 224), prep(233, 181), prep(200, 224)]
PLACES += [prep((128, 183), (112, 160)), prep(256, (224, 160)), replace(prep(1, (160, 224)), fit="stretch")]
BLACK = {"fit": "pad", "mean": (0, 0, 0)}
PLACES += [replace(prep(), **BLACK), replace(prep(1, (160, 224)), **BLACK), replace(prep(), place=(0.45, 0.6))]


def painted(size, box):
    """A black picture with one white box of whole pixels."""
    x0, y0, x1, y1 = box
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[y0:y1, x0:x1] = 255
    return rgb


@pytest.mark.parametrize("size", [*SIZES[:7], (97, 241)])
@pytest.mark.parametrize("preprocessing", PLACES, ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}")
def test_point_lands_where_its_pixel_is_painted(size, preprocessing):
    height, width = size
    radius = max(3, min(size) // 40)
    for fx, fy in [(0.5, 0.5), (0.4, 0.62), (0.31, 0.33), (0.66, 0.45)]:
        x, y = (int(n / 2 + (f - 0.5) * min(size)) for n, f in ((width, fx), (height, fy)))
        rgb = painted(size, (x - radius, y - radius, x + radius + 1, y + radius + 1))
        weights = images.crop(rgb, preprocessing)[..., 0].astype(np.float64)
        rows, columns = np.indices(weights.shape)
        seen = np.array([((columns + 0.5) * weights).sum(), ((rows + 0.5) * weights).sum()]) / weights.sum()
        points, outside = images.crop_points(np.array([[x + 0.5, y + 0.5]]), size, preprocessing)
        assert outside == 0
        assert np.abs(points[0] - seen).max() < 0.1


def test_points_outside_the_crop_or_the_picture_are_counted():
    # 500 x 375 is resized to 341 x 256, from which 58 columns and 16 rows go: x 85.04 to 413.49, y 23.44 to 351.56.
    points = np.array(
        [[85.1, 100], [84.9, 100], [413.4, 100], [413.6, 100], [200, 23], [200, 351.5], [-1, 50], [499, 374]]
    )
    inside, outside = images.crop_points(points, (375, 500), prep())
    assert (len(inside), outside) == (3, 5)
    assert np.allclose(inside[0], [85.1 * 341 / 500 - 58, 100 * 256 / 375 - 16])
    assert inside.min() >= 0
    assert inside.max() < 224
    # Where the crop is larger than the picture, what lies beside the picture is not in it either.
    inside, outside = images.crop_points(np.array([[-1.0, 5.0], [5.0, 5.0], [201.0, 5.0]]), (200, 200), prep(200, 224))
    assert inside.tolist() == [[17.0, 17.0]]
    assert outside == 2
    empty, outside = images.crop_points(np.empty((0, 2)), (375, 500), prep())
    assert (empty.shape, outside) == ((0, 2), 0)


@pytest.mark.parametrize("size", [*SIZES[:7], (97, 241)])
@pytest.mark.parametrize("preprocessing", PLACES, ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}")
def test_box_and_mask_land_where_the_picture_shows_them(size, preprocessing):
    height, width = size
    for part in [(0.3, 0.35, 0.62, 0.7), (0.0, 0.2, 0.5, 0.9), (0.45, 0.0, 1.0, 0.4)]:
        box = [round(f * n) for f, n in zip(part, (width, height, width, height), strict=True)]
        rgb = painted(size, box)
        shown = images.crop(rgb, preprocessing)[..., 0] > 127
        boxes, dropped = images.crop_boxes(np.array([box], np.float64), size, preprocessing)
        assert dropped == 0
        rows, columns = shown.any(axis=1).nonzero()[0], shown.any(axis=0).nonzero()[0]
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(boxes[0] - edges).max() <= 0.55  # a pixel is shown or not, the box's edge lies within it
        mask = images.crop_mask(rgb[..., 0], size, preprocessing)
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert (mask != shown).mean() < 0.004  # single pixels along the edge, where area and filter may differ


def test_boxes_are_clipped_and_dropped():
    boxes = np.array([[0, 0, 500, 375], [0, 0, 86.4, 375], [0, 0, 88, 375], [450, 10, 490, 300], [-50, -50, 600, 600]])
    kept, dropped = images.crop_boxes(boxes, (375, 500), prep())
    assert dropped == 2  # under one pixel wide in the crop; wholly outside it
    assert kept[0].tolist() == kept[2].tolist() == [0.0, 0.0, 224.0, 224.0]
    assert np.allclose(kept[1], [0, 0, 88 * 341 / 500 - 58, 224])
    padded, dropped = images.crop_boxes(np.array([[-50.0, -50, 900, 900]]), (200, 200), prep(200, 224))
    assert padded.tolist() == [[12.0, 12.0, 212.0, 212.0]]
    assert images.crop_boxes(np.empty((0, 4)), (375, 500), prep())[0].shape == (0, 4)


def coverage(mask, preprocessing):
    """The share of each of the crop's pixels that a mask of the whole picture covers, as two matrix products."""
    (height, width), resize = mask.shape, preprocessing.resize
    if preprocessing.fit == "stretch":
        sizes = preprocessing.size
    elif preprocessing.fit == "pad":
        factor = min(side / length for side, length in zip(preprocessing.size, mask.shape, strict=True))
        sizes = tuple(max(round(factor * length), 1) for length in mask.shape)
    elif isinstance(resize, tuple):
        ratio = min(height / resize[0], width / resize[1])
        sizes = round(height / ratio), round(width / ratio)
    else:
        long = int(resize * max(mask.shape) / min(mask.shape))
        sizes = (resize, long) if height <= width else (long, resize)

    def overlaps(length, resized, side, place):
        start = round((resized - side) * place) if resized >= side else -((side - resized) // 2)
        low = (np.arange(side) + start) * (length / resized)
        high = low + length / resized
        pixel = np.arange(length)
        shared = np.minimum(high[:, None], pixel + 1.0) - np.maximum(low[:, None], pixel)
        return shared.clip(0) * (resized / length)

    down, across = preprocessing.size
    x, y = preprocessing.place
    return overlaps(height, sizes[0], down, y) @ mask @ overlaps(width, sizes[1], across, x).T


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preprocessing", PLACES, ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}")
def test_mask_is_what_covers_half_of_a_pixel(size, preprocessing):
    mask = (RNG.random(size) < 0.5).astype(np.float64)
    share = coverage(mask, preprocessing)
    clear = np.abs(share - 0.5) > 1e-4
    got = images.crop_mask(mask * 255, size, preprocessing)
    assert got.dtype == np.float32
    assert np.array_equal(got[clear], (share >= 0.5)[clear])
    assert (got[np.abs(share - 0.5) < 1e-9] == 1.0).all()


def test_mask_at_another_scale_is_a_mask_of_the_whole_picture():
    y, x = np.mgrid[:750, :1000]
    large = (x - 480) ** 2 + (y - 400) ** 2 < 200**2
    small = images.crop_mask(large[::2, ::2], (375, 500), prep())
    assert (small != images.crop_mask(large, (375, 500), prep())).mean() < 0.01
    assert images.crop_mask(np.ones((9, 12)), (375, 500), prep()).all()
    assert not images.crop_mask(np.zeros((9, 12)), (375, 500), prep()).any()


def test_supplied_mask_is_judged_by_its_size():
    mask = RNG.random((224, 224)) < 0.5
    assert np.array_equal(images.align_mask(mask * 3.0, (375, 500), prep()), mask.astype(np.float32))
    assert not np.array_equal(images.align_mask(mask, (224, 224), prep()), mask)
    whole = RNG.random((375, 500)) < 0.5
    cut = images.align_mask(whole, (375, 500), prep())
    assert np.array_equal(cut, images.crop_mask(whole, (375, 500), prep()))
    with pytest.raises(ImageError, match=r"The mask's size 100 x 90 fits neither .* resize the mask"):
        images.align_mask(np.zeros((90, 100)), (375, 500), prep())
