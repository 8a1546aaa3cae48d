"""Ground truth of pictures that are stored lying, upside down or mirrored."""

import io

import numpy as np
import pytest
from PIL import Image

from quantviz import images
from quantviz.comparison.references import TruthSource, saliency_source
from quantviz.specs import Preprocessing

PREP = Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)
STORED = (300, 400)
BOX = (80, 60, 200, 150)  # x0, y0, x1, y1 in the stored picture
LYING = (5, 6, 7, 8)


def picture(orientation):
    """Return a picture that is stored with an orientation, its box white."""
    pixels = np.zeros((*STORED, 3), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    return images.load(file.getvalue(), name="a.png")


def annotation(size, box):
    (height, width), (x0, y0, x1, y1) = size, box
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height></size><object><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1 - 1}</xmax><ymax>{y1 - 1}</ymax></bndbox></object></annotation>"
    ).encode()


def white(sample):
    """Return the box of the white pixels of the upright picture."""
    rows, columns = np.nonzero(sample.rgb[..., 0] > 127)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_boxes_and_maps_turn_as_the_picture_does(orientation):
    sample = picture(orientation)
    assert sample.orientation == orientation
    turned = images.turned_boxes(np.array([BOX], float), STORED, orientation)
    assert tuple(turned[0]) == white(sample)
    stored = np.zeros(STORED)
    stored[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    assert np.array_equal(images.turned_map(stored, orientation), sample.rgb[..., 0] > 127)


@pytest.mark.parametrize("orientation", LYING)
def test_ground_truth_of_the_stored_picture_is_turned_with_it(orientation):
    sample, stored = picture(orientation), np.zeros(STORED)
    stored[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    upright = TruthSource(annotation(sample.rgb.shape[:2], white(sample)), "a.xml", "boxes").read(sample, PREP)
    assert "taken as of the upright picture" in upright.notes[-1]
    lying = TruthSource(annotation(STORED, BOX), "a.xml", "boxes").read(sample, PREP)
    assert np.allclose(lying.boxes, upright.boxes)
    assert any("turned upright with the picture" in note for note in lying.notes)
    masks = [
        TruthSource(npy(values), "a.npy", "mask").read(sample, PREP).values
        for values in (stored, images.turned_map(stored, orientation))
    ]
    assert np.array_equal(*masks)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_what_the_size_cannot_tell_is_said(orientation):
    truth = TruthSource(annotation(STORED, BOX), "a.xml", "boxes").read(picture(orientation), PREP)
    assert "taken as of the upright picture" in truth.notes[-1]
    assert not TruthSource(annotation(STORED, BOX), "a.xml", "boxes").read(picture(1), PREP).notes


@pytest.mark.parametrize("orientation", LYING)
def test_a_saliency_map_of_the_stored_picture_is_turned_with_it(orientation):
    sample = picture(orientation)
    stored = np.zeros(STORED)
    stored[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    sources = [saliency_source(npy(values), "a.npy") for values in (stored, images.turned_map(stored, orientation))]
    maps = [source.heatmap(sample, images.crop(sample.rgb, PREP), PREP).values for source in sources]
    assert maps[0].max() == 1
    assert np.array_equal(*maps)
    (turned,), (upright,) = (source.notes(sample, PREP) for source in sources)
    assert "turned upright with the picture" in turned
    assert "taken as of the upright picture" in upright
    of_the_input = saliency_source(npy(np.eye(224)), "a.npy")
    assert of_the_input.notes(sample, PREP) == ()
    assert np.array_equal(of_the_input.heatmap(sample, sample.rgb, PREP).values, np.eye(224))


def test_a_saliency_map_says_nothing_of_a_picture_that_was_not_turned():
    for source in (saliency_source(npy(np.eye(300, 400)), "a.npy"), saliency_source("spectral_residual")):
        assert source.notes(picture(1), PREP) == ()
