"""Fixations and masks from values, damaged ground truth, and ground truth in the crop."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from truth_support import SIZE, TABLE, annotation, big_endian, fixations, mat, salicon

from quantviz import images, scores, truth
from quantviz.specs import GroundTruth, ImageError, Preprocessing

PREP = Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)


# --- fixation maps and masks from values


def test_fixations_of_a_map():
    values = np.zeros((4, 6))
    values[1, 2] = values[3, 5] = 255
    points, notes = truth.fixations_from_map(values, (8, 12))
    assert points.tolist() == [[5.0, 3.0], [11.0, 7.0]]
    assert notes == ()
    with pytest.raises(ImageError, match="more, so that it is no fixation map"):
        truth.fixations_from_map(np.arange(24.0).reshape(4, 6), (8, 12))
    with pytest.raises(ImageError, match="no fixation"):
        truth.fixations_from_map(np.zeros((4, 6)), (8, 12))
    with pytest.raises(ImageError, match=r"m\.png is for an image of 6 x 4 pixels, but the image has 12 x 12"):
        truth.fixations_from_map(values, (12, 12), name="m.png")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (3, 4), (-1, 0), (0.2, 0.7), (-1e308, 1e308), (0, 5e-324)])
def test_mask_of_two_values_is_where_the_larger_is(low, high):
    where = np.random.default_rng(1).random((9, 7)) < 0.3
    mask, notes = truth.to_mask(np.where(where, float(high), float(low)))
    assert np.array_equal(mask, where)
    assert mask.dtype == np.float32
    assert notes == ()


def test_mask_of_more_values_is_thresholded_and_says_so():
    ramp = np.tile(np.arange(0.0, 101.0), (3, 1))
    mask, notes = truth.to_mask(ramp + 50)
    assert np.array_equal(mask, (ramp > 50).astype(np.float32))
    assert notes == ("thresholded at half of its range, 50 to 150, 78% of it being in between",)
    soft = np.zeros((100, 100))
    soft[30:, 30:], soft[30, 30] = 255, 120
    assert truth.to_mask(soft)[1][0].endswith("0% of it being in between")
    assert not truth.to_mask(np.zeros((3, 4)))[0].any()
    assert truth.to_mask(np.full((3, 4), 255.0))[0].all()


def labelled(*labels):
    """Return a mask of class numbers, a square of 8 x 8 for each, and a ring of 255 around the first."""
    values = np.zeros((40, 60))
    values[1:11, 1:11] = 255
    for place, label in enumerate(labels):
        values[2:10, 2 + 12 * place : 10 + 12 * place] = label
    return values


@pytest.mark.parametrize("labels", [(1,), (15,), (26,), (150,), (1, 2, 90)])
def test_class_numbers_above_0_are_the_object_and_255_is_left_out(labels):
    values = labelled(*labels)
    mask, notes = truth.to_mask(values)
    assert np.array_equal(mask == 1, (values > 0) & (values < 255))
    assert np.array_equal(np.isnan(mask), values == 255)
    (note,) = notes
    assert ", ".join(map(str, labels)) in note
    assert "255 (void, 1.5% of it) left out" in note
    values[values == 255] = 0  # without void every class is the object, too
    mask, notes = truth.to_mask(values)
    assert np.array_equal(mask, values > 0)
    assert (notes == ()) == (len(labels) == 1)


@pytest.mark.parametrize("void", [255, 65535, -1])
def test_void_is_left_out_in_whatever_number_it_is_written(void):
    values = np.zeros((20, 20))
    values[2:8, 2:8], values[10:16, 10:16], values[1, :] = 3, 7, void
    mask, notes = truth.to_mask(values)
    assert np.array_equal(np.isnan(mask), values == void)
    assert np.array_equal(mask == 1, (values == 3) | (values == 7))
    assert f"and {void} (void, 5.0% of it) left out" in notes[0]


@pytest.mark.parametrize(("number", "void"), [(15, 255), (1, 255), (7, 65535), (15, -1)])
def test_a_class_that_fills_what_is_known_is_the_object(number, void):
    values = np.full((20, 20), number)
    values[0] = void
    mask, notes = truth.to_mask(values)
    assert np.array_equal(np.isnan(mask), values == void)
    assert np.array_equal(mask == 1, values == number)
    assert f"label {number} taken as the object, and {void} (void, 5.0% of it) left out" in notes[0]


@pytest.mark.parametrize(("high", "middle"), [(255, 127), (255, 128), (65535, 32768), (1, 0.5)])
@pytest.mark.parametrize("band", [2, 12])
def test_what_a_matting_trimap_does_not_know_is_left_out(high, middle, band):
    values = np.zeros((20, 20))
    values[:band], values[band : band + 4] = middle, high
    mask, notes = truth.to_mask(values)
    assert np.array_equal(np.isnan(mask), values == middle)
    assert np.array_equal(mask == 1, values == high)
    assert f"{high} taken as the object, the middle ({band / 20:.1%} of it) left out" in notes[0]


def test_object_background_and_border_without_a_0_are_told_apart():
    values = np.full((20, 20), 2.0)
    values[5:15, 5:15], values[4, 5:15] = 1, 3
    mask, notes = truth.to_mask(values)
    assert np.array_equal(mask == 1, values == 1)
    assert np.array_equal(np.isnan(mask), values == 3)
    assert "1 taken as the object, 3 (2.5% of it) left out" in notes[0]


@pytest.mark.parametrize("factor", [1, 1000])
def test_many_instances_are_objects_each(factor):
    values = np.arange(101.0).repeat(9).reshape(101, 9) * factor
    mask, notes = truth.to_mask(values)
    assert np.array_equal(mask, values > 0)
    assert "class numbers" in notes[0]


def test_a_mask_with_a_few_soft_levels_is_no_mask_of_class_numbers():
    soft = np.zeros((40, 40))
    soft[10:30, 10:30] = 255
    soft[9, 10:30], soft[30, 10:30], soft[10:30, 9] = 64, 128, 191
    mask, notes = truth.to_mask(soft)
    assert np.array_equal(mask == 1, soft > 127.5)
    assert notes[0].startswith("thresholded")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12))
def test_any_values_give_a_binary_mask(values):
    mask, notes = truth.to_mask(np.array([values]))
    void = np.isnan(mask)
    assert set(np.unique(mask[~void])) <= {0.0, 1.0}
    assert void.any() == any("left out" in note for note in notes)
    if len(set(values)) > 1 and not void.any():
        assert mask[0, int(np.argmax(values))] == 1.0
        assert mask[0, int(np.argmin(values))] == 0.0


# --- nothing but the project's errors


def outcome(read, data, size):
    """Whether what was read is right, or was refused in one line; any other exception passes."""
    try:
        coordinates, notes = read(data, size, image="a.png")
    except ImageError as error:
        return " ".join(str(error).splitlines()) == str(error)
    corners = coordinates.reshape(-1, 2)
    assert len(corners)
    assert (corners >= 0).all()
    assert (corners <= np.array(size[::-1])).all()
    assert all(isinstance(note, str) for note in notes)
    return True


MAT_SEEDS = [
    mat(fixLocs=np.eye(9, 12, dtype=np.uint8)),
    mat(fixations=np.arange(20.0).reshape(10, 2)),
    mat(**salicon([[[1, 2], [3, 4]], [[5, 6]]], (480, 640))),
    mat(True, **salicon([[[1, 2]]])),
    big_endian([[2, 3], [4, 5]]),
]
TEXT_SEEDS = [
    TABLE.encode(),
    b"x;y\n1,5;2\n3;4\n",
    annotation((1, 2, 30, 40)),
    annotation((1, 1, 30, 40), database="The VOC2007 Database"),
    b"ImageId,PredictionString\na,n1 1 2 3 4\n",
    b"image\tx0\ty0\tx1\ty1\na.png\t1\t2\t3\t4\n",
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_give_coordinates_or_an_image_error(data):
    content = bytearray(data.draw(st.sampled_from(MAT_SEEDS + TEXT_SEEDS)))
    value = st.one_of(st.sampled_from([0, 1, 2, 14, 15, 127, 128, 255, *b'<>&,;\t\n"']), st.integers(0, 255))
    place = st.integers(min(100, len(content) // 2), len(content) - 1)
    for at, new in data.draw(st.lists(st.tuples(place, value), max_size=8)):
        content[at] = new
    if data.draw(st.booleans()):
        del content[data.draw(place) :]
    for read in (truth.read_fixations, truth.read_boxes):
        assert outcome(read, bytes(content), SIZE)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), st.sampled_from([b"", b"x,y\n", b"<"])
)
def test_random_bytes_give_coordinates_or_an_image_error(data, head):
    for read in (truth.read_fixations, truth.read_boxes):
        assert outcome(read, head + data, (3, 5))


# --- to the crop


def test_fixations_reach_the_crop():
    points, notes = fixations("x,y\n320,240\n2,3\n900,1\n")
    moved, outside = images.crop_points(points, SIZE, PREP)
    made = truth.to_truth("fixations", moved, (224, 224), source="f.csv", notes=notes, left_out=outside)
    assert isinstance(made, GroundTruth)
    assert np.allclose(made.points, [[320.5 * 341 / 640 - 58, 240.5 * 256 / 480 - 16]])
    assert made.notes == (
        "1 of 3 fixations outside the image left out",
        "1 of 2 fixations outside the crop left out",
    )
    assert (made.kind, made.shape, made.source, made.predicted) == ("fixations", (224, 224), "f.csv", False)
    assert not made.points.flags.writeable
    assert made.boxes is made.values is None


def test_void_is_taken_to_the_crop_and_left_out_of_the_scores():
    values = np.zeros(SIZE)
    values[100:300, 200:400], values[100:120, 200:400] = 3, 255
    mask, _ = truth.to_mask(values)
    made = truth.to_truth("mask", images.align_mask(mask, SIZE, PREP), (224, 224), source="m.png")
    void, inside = np.isnan(made.values), made.values == 1
    assert void.any()
    assert inside.any()
    perfect = inside.astype(float)
    for lit in (0.0, 1.0):  # whatever the map says of void
        found = scores.measure(np.where(void, lit, perfect), made)
        assert found["mae"].value == 0
        assert found["f_beta_max"].value == pytest.approx(1)
        assert found["energy_pointing"].value == pytest.approx(1)
        assert found["e_measure_max"].value == pytest.approx(1)
        assert "leaves pixels out" in found["s_measure"].reason
    assert scores.measure(np.where(void, 2.0, perfect), made)["pointing_game"].value == 1


def test_a_palette_of_colours_is_read_by_its_numbers_for_a_mask_alone():
    file = io.BytesIO()
    picture = Image.fromarray(labelled(15).astype(np.uint8), "L").convert("P")
    picture.putpalette([0, 0, 0, *[128, 0, 0] * 254, 224, 224, 192])
    picture.save(file, "PNG")
    values = images.read_map(file.getvalue(), name="voc.png", indexed=True)
    assert np.array_equal(values, labelled(15))
    with pytest.raises(ImageError, match="colour image"):
        images.read_map(file.getvalue(), name="voc.png")


def test_boxes_and_masks_reach_the_crop_at_the_same_place():
    boxes, notes = truth.read_boxes(b"x0,y0,x1,y1\n200,100,400,300\n0,0,40,40\n", SIZE)
    moved, outside = images.crop_boxes(boxes, SIZE, PREP)
    made = truth.to_truth("boxes", moved, (224, 224), source="b.csv", notes=notes, left_out=outside)
    assert made.notes == ("1 of 2 boxes outside the crop left out",)
    painted = np.zeros(SIZE)
    painted[100:300, 200:400] = 255
    mask, _ = truth.to_mask(painted)
    of_mask = truth.to_truth("mask", images.align_mask(mask, SIZE, PREP), (224, 224), source="m.png")
    rows, columns = np.nonzero(of_mask.values)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(made.boxes[0] - edges).max() <= 0.5
    assert of_mask.notes == ()


def test_a_truth_that_holds_nothing_says_so():
    shape = (224, 224)
    none = truth.to_truth("fixations", np.empty((0, 2)), shape, source="f", left_out=7)
    assert none.notes == ("7 of 7 fixations outside the crop left out", "no fixation lies in the crop")
    assert truth.to_truth("boxes", np.empty((0, 4)), shape, source="b").notes == ("no box lies in the crop",)
    assert truth.to_truth("mask", np.zeros(shape), shape, source="m").notes == ("the mask holds no object in the crop",)
    density = truth.to_truth("map", np.zeros(shape), shape, source="unisal", predicted=True)
    assert density.predicted
    assert density.values.dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("map", np.zeros((4, 5))),
        ("mask", np.full((5, 5), 0.5)),
        ("fixations", np.zeros((3, 4))),
        ("fixations", np.array([[5.1, 1]])),
        ("boxes", np.array([[-1.0, 0, 1, 1]])),
    ],
)
def test_callers_mistakes_are_no_user_errors(kind, array):
    with pytest.raises(ValueError, match=kind):
        truth.to_truth(kind, array, (5, 5), source="x")
