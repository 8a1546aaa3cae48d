"""Box IoU, energy pointing and the pointing game against scikit-image, closed forms and their own symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores_support import make_map, maps
from skimage.measure import label, regionprops

from quantviz import scores
from quantviz.specs import UsageError

SHAPES = ((3, 4), (12, 12), (17, 11), (40, 60))
RECTANGLE = np.array([[2.0, 1.0, 6.0, 4.0]])


def rectangle(shape=(8, 10), x0=2, y0=1, x1=6, y1=4):
    values = np.zeros(shape)
    values[y0:y1, x0:x1] = 1
    return values


def pixel_iou(a, b):
    return (a & b).sum() / (a | b).sum()


def random_box(shape, rng):
    (y0, y1), (x0, x1) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in shape)
    return np.array([[x0, y0, x1, y1]], float)


def test_box_iou_closed_forms():
    assert scores.box_iou(rectangle(), RECTANGLE) == 1.0
    assert scores.box_iou(rectangle(), np.array([[4.0, 1.0, 8.0, 4.0]])) == pytest.approx(6 / 18)
    assert scores.box_iou(rectangle(), np.array([[6.0, 1.0, 8.0, 4.0]])) == 0.0
    assert scores.box_iou(rectangle(), np.array([[2.5, 1.5, 5.5, 3.5]])) == pytest.approx(6 / 12)
    assert scores.box_iou(rectangle(), np.array([[-2.0, 1.0, 2.0, 4.0], [2.0, 1.0, 6.0, 5.0]])) == 12 / 16


@settings(max_examples=80, deadline=None)
@given(maps(SHAPES), st.floats(0.05, 1.0), st.integers(0, 10**6))
def test_box_iou_is_that_of_scikit_image_s_largest_region(values, threshold, seed):
    box = random_box(values.shape, np.random.default_rng(seed))
    scaled = (values - values.min()) / np.ptp(values)
    regions = regionprops(label(scaled >= threshold, connectivity=2), scaled)
    largest = max(regions, key=lambda region: (region.area, region.image_intensity.sum(), -region.label))
    y0, x0, y1, x1 = largest.bbox
    inside = scores.covered(box, values.shape), scores.covered(np.array([[x0, y0, x1, y1]]), values.shape)
    assert scores.box_iou(values, box, threshold=threshold) == pytest.approx(pixel_iou(*inside), abs=1e-12)


def test_box_iou_counts_the_largest_component_and_diagonal_neighbours():
    values = rectangle()
    values[6:8, 8:10] = 5.0  # hotter but smaller
    assert scores.box_iou(values, RECTANGLE, threshold=0.2) == 1.0
    assert scores.box_iou(values, RECTANGLE, threshold=0.5) == 0.0
    steps = np.eye(4)
    assert scores.box_iou(steps, np.array([[0.0, 0.0, 4.0, 4.0]])) == 1.0


def test_box_iou_of_two_components_of_one_size_takes_the_hotter():
    values = np.zeros((3, 9))
    values[0, :2], values[2, 6:8] = 0.8, 1.0
    assert scores.box_iou(values, np.array([[6.0, 2.0, 8.0, 3.0]])) == 1.0
    values[0, :2] = 1.0
    assert scores.box_iou(values, np.array([[0.0, 0.0, 2.0, 1.0]])) == 1.0  # and then the first


@settings(max_examples=30, deadline=None)
@given(maps(SHAPES), st.integers(0, 10**6))
def test_box_iou_max_is_the_best_over_the_thresholds(values, seed):
    box = random_box(values.shape, np.random.default_rng(seed))
    found = [scores.box_iou(values, box, threshold=step / 20) for step in range(1, 20)]
    assert scores.box_iou_max(values, box) == pytest.approx(max(found), abs=1e-12)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_bad_threshold_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold"):
        scores.box_iou(rectangle(), RECTANGLE, threshold=threshold)


def test_energy_pointing_closed_forms():
    assert scores.energy_pointing(rectangle(), rectangle()) == 1.0
    assert scores.energy_pointing(rectangle() + 1, rectangle()) == pytest.approx(24 / 92)
    assert scores.energy_pointing(np.ones((8, 10)), rectangle()) == pytest.approx(12 / 80)
    assert scores.energy_pointing(np.array([[-1.0, 0.0, 1.0]]), np.array([[0, 0, 1]])) == pytest.approx(2 / 3)


@settings(max_examples=60, deadline=None)
@given(maps(SHAPES, ("random", "sparse", "levels", "spike")), st.integers(0, 10**6))
def test_energy_pointing_is_the_share_of_the_sum(values, seed):
    inside = scores.covered(random_box(values.shape, np.random.default_rng(seed)), values.shape)
    assert scores.energy_pointing(values, inside) == pytest.approx((values * inside).sum() / values.sum(), abs=1e-12)
    assert scores.energy_pointing(values * 1e-300, inside) == pytest.approx(scores.energy_pointing(values, inside))
    if not inside.all():
        whole = scores.energy_pointing(values, inside) + scores.energy_pointing(values, ~inside)
        assert whole == pytest.approx(1.0)


def test_pointing_game_closed_forms():
    inside = np.zeros((40, 40))
    inside[:, :10] = 1
    values = np.zeros((40, 40))
    for column, hit in ((9, 1.0), (24, 1.0), (25, 0.0)):
        values[:] = 0
        values[20, column] = 1
        assert scores.pointing_game(values, inside) == hit
    assert scores.pointing_game(values, inside, tolerance=16) == 1.0
    assert scores.pointing_game(values, inside, tolerance=0) == 0.0
    values[20, 0] = values[21, 0] = 1.0
    assert scores.pointing_game(values, inside, tolerance=0) == pytest.approx(2 / 3)


@settings(max_examples=60, deadline=None)
@given(maps(SHAPES), st.floats(0, 20), st.integers(0, 10**6))
def test_pointing_game_is_the_share_of_maxima_near_the_object(values, tolerance, seed):
    inside = scores.covered(random_box(values.shape, np.random.default_rng(seed)), values.shape)
    objects = np.argwhere(inside)
    hits = [
        np.sqrt(np.square(objects - place).sum(axis=1).min()) <= tolerance
        for place in np.argwhere(values == values.max())
    ]
    assert scores.pointing_game(values, inside, tolerance=tolerance) == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_bad_tolerance_is_refused(tolerance):
    with pytest.raises(UsageError, match="tolerance"):
        scores.pointing_game(rectangle(), rectangle(), tolerance=tolerance)


def test_constant_maps_have_chance_pointing_and_no_box():
    flat, inside = np.ones((8, 10)), rectangle()
    assert (
        scores.pointing_game(flat, inside, tolerance=0) == scores.pointing_game(0 * flat, inside, tolerance=0) == 0.15
    )
    assert scores.energy_pointing(flat, inside) == pytest.approx(0.15)
    for score in (scores.box_iou, scores.box_iou_max):
        with pytest.raises(UsageError, match="constant"):
            score(flat, RECTANGLE)
    with pytest.raises(UsageError, match="without positive mass"):
        scores.energy_pointing(0 * flat, inside)


def test_covered_takes_the_pixels_whose_centres_lie_in_a_box():
    found = scores.covered(np.array([[0.5, 0.0, 2.5, 1.0], [3.6, 1.2, 9.0, 7.0]]), (2, 4))
    assert found.tolist() == [[True, True, False, False], [False, False, False, False]]
    assert scores.covered(np.array([[0.0, 0.5, 1.0, 2.5]]), (3, 1)).tolist() == [[True], [True], [False]]
    assert scores.covered(RECTANGLE, (8, 10)).tolist() == (rectangle() > 0).tolist()
    assert scores.covered(np.array([[-5.0, -5.0, 50.0, 50.0]]), (8, 10)).all()


@pytest.mark.parametrize("box", [(2, 1, 2, 4), (6, 1, 2, 4), (2, 4, 6, 1), (2, 1, np.inf, 4), (np.nan, 1, 6, 4)])
def test_bad_boxes_are_refused_with_their_numbers(box):
    for score in (scores.box_iou, scores.box_iou_max):
        with pytest.raises(UsageError, match=r"The box \(.*\) is not x0 < x1 and y0 < y1"):
            score(rectangle(), np.array([RECTANGLE[0], box]))
    with pytest.raises(UsageError, match=r"The box \(.*\) is not x0 < x1 and y0 < y1"):
        scores.covered(np.array([box]), (8, 10))


def test_what_are_no_boxes_is_refused():
    with pytest.raises(UsageError, match=r"are not \(n, 4\)"):
        scores.box_iou(rectangle(), RECTANGLE[0])
    with pytest.raises(UsageError, match="no boxes"):
        scores.box_iou(rectangle(), np.zeros((0, 4)))
    with pytest.raises(UsageError, match="cover no pixel"):
        scores.covered(np.array([[0.6, 0.6, 0.9, 0.9]]), (8, 10))


def mirrored(box, shape):
    return np.stack([shape[1] - box[:, 2], box[:, 1], shape[1] - box[:, 0], box[:, 3]], axis=1)


@pytest.mark.parametrize("seed", range(6))
def test_flips_transposes_and_scaling_change_nothing(seed):
    values, box = make_map("smooth", (17, 11), seed), random_box((17, 11), np.random.default_rng(seed))
    inside = scores.covered(box, values.shape)
    for score in (scores.box_iou, scores.box_iou_max):
        expected = pytest.approx(score(values, box), abs=1e-12)
        assert score(np.fliplr(values), mirrored(box, values.shape)) == expected
        assert score(values.T, box[:, [1, 0, 3, 2]]) == expected
        assert score(8 * values, box) == expected
    for score in (scores.energy_pointing, scores.pointing_game):
        expected = pytest.approx(score(values, inside), abs=1e-12)
        assert score(np.fliplr(values), np.fliplr(inside)) == expected
        assert score(values.T, inside.T) == expected
        assert score(8 * values, inside) == expected
    assert scores.pointing_game(values**3, inside) == scores.pointing_game(values, inside)


@pytest.mark.parametrize("name", ["box_iou", "box_iou_max", "energy_pointing", "pointing_game"])
def test_noise_and_shift_cost_on_average(name):
    score, rng = getattr(scores, name), np.random.default_rng(0)
    boxes = [np.array([[x, y, x + 25.0, y + 20.0]]) for x, y in rng.integers(0, 30, (12, 2))]

    def mean(change):
        found = []
        for box in boxes:
            inside = scores.covered(box, (60, 90))
            found.append(score(change(inside.astype(float)), box if name.startswith("box") else inside))
        return np.mean(found)

    assert mean(lambda m: m) == 1.0
    assert mean(lambda m: m + 5 * rng.normal(size=m.shape)) < 1.0
    assert mean(lambda m: np.roll(m, 12, axis=1)) < 1.0 or name == "pointing_game"
    assert mean(lambda m: np.roll(m, 45, axis=1)) < 0.2
