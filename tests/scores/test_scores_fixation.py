"""NSS, the AUCs and information gain against pysaliency, SciPy, closed forms and their own symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scores_support import (
    make_map,
    maps,
    pixels,
    pysaliency_case,
    pysaliency_information_gain,
    pysaliency_metrics,
    quiet,
)

from quantviz import scores
from quantviz.specs import UsageError

SCORES = (scores.nss, scores.auc_judd, scores.auc_borji, scores.information_gain)
AUCS = (scores.auc_judd, scores.auc_borji)
SPIKE = np.array([[1.0, 0.0], [0.0, 0.0]])
ON, OFF = np.array([[0.5, 0.5]]), np.array([[1.5, 1.5]])
LARGE = ((1, 7), (12, 12), (17, 11), (40, 60))

each = given(maps(LARGE), st.integers(1, 6), st.integers(0, 10**6))


def fixation_mask(values, points):
    mask = np.zeros(values.shape, bool)
    mask[points[:, 1].astype(int), points[:, 0].astype(int)] = True
    return mask


def test_nss_closed_form():
    assert scores.nss(SPIKE, ON) == pytest.approx(np.sqrt(3))
    assert scores.nss(SPIKE, OFF) == pytest.approx(-1 / np.sqrt(3))
    assert scores.nss(SPIKE, np.concatenate([ON, OFF])) == pytest.approx((np.sqrt(3) - 1 / np.sqrt(3)) / 2)


@settings(max_examples=80, deadline=None)
@each
def test_nss_is_pysaliency_s(values, count, seed):
    points = pixels(values.shape, count, seed)
    found = quiet(pysaliency_metrics.NSS, values, *points.T).mean()
    assert scores.nss(values, points) == pytest.approx(found, abs=1e-9)


def test_nss_s_standard_deviation_is_the_population_s():
    values, points = make_map("random", (6, 5), 0), pixels((6, 5), 4, 0)
    matlab = stats.zscore(values, axis=None, ddof=1)[fixation_mask(values, points)].mean()
    assert scores.nss(values, points) * np.sqrt(29 / 30) == pytest.approx(matlab)


def test_auc_judd_closed_form():
    values = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert scores.auc_judd(values, np.array([[0.5, 0.5]])) == 1.0
    # Thresholds 4 and 2: the points (0, 1/2) and (1/2, 1), joined by straight lines.
    assert scores.auc_judd(values, np.array([[0.5, 0.5], [2.5, 0.5]])) == pytest.approx(0.5 * 0.75 + 0.5)
    assert scores.auc_judd(values, np.array([[3.5, 0.5]])) == pytest.approx(0.5)


@settings(max_examples=80, deadline=None)
@each
def test_auc_judd_is_pysaliency_s(values, count, seed):
    points = pixels(values.shape, count, seed)
    model, stimuli, fixations = pysaliency_case(values, points)
    found = quiet(model.AUC_Judd, stimuli, fixations, jitter=False)
    assert scores.auc_judd(values, points) == pytest.approx(found, abs=1e-12)


def test_auc_judd_with_jitter_differs_only_where_there_are_ties():
    points = pixels((40, 60), 6, 1)
    for kind, same in (("smooth", True), ("levels", False)):
        values = make_map(kind, (40, 60), 1)
        model, stimuli, fixations = pysaliency_case(values, points)
        gap = scores.auc_judd(values, points) - quiet(model.AUC_Judd, stimuli, fixations, jitter=True)
        assert bool(abs(gap) < 1e-3) is same


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_auc_judd_exceeds_the_exact_area_by_little(seed, count):
    values, points = make_map("random", (12, 12), seed), pixels((12, 12), count, seed)
    mask = fixation_mask(values, points)
    exact = stats.mannwhitneyu(values[mask], values[~mask]).statistic / (mask.sum() * (~mask).sum())
    assert -1e-12 <= scores.auc_judd(values, points) - exact <= 1 / (2 * count) + 1e-12


def test_auc_borji_closed_form():
    values = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert scores.auc_borji(values, np.array([[0.5, 0.5]])) == 3.5 / 4
    assert scores.auc_borji(values, np.array([[3.5, 0.5]])) == 0.5 / 4
    assert scores.auc_borji(SPIKE, OFF) == (0 + 0.5 * 3) / 4


@settings(max_examples=80, deadline=None)
@each
def test_auc_borji_is_pysaliency_s_and_scipy_s(values, count, seed):
    points = pixels(values.shape, count, seed)
    model, stimuli, fixations = pysaliency_case(values, points)
    found = scores.auc_borji(values, points)
    assert found == pytest.approx(quiet(model.AUC, stimuli, fixations, nonfixations="uniform"), abs=1e-12)
    positives = values[fixation_mask(values, points)]
    statistic = stats.mannwhitneyu(positives, values.ravel()).statistic
    assert found == pytest.approx(statistic / (positives.size * values.size), abs=1e-12)


def test_auc_borji_is_what_its_random_splits_estimate():
    rng = np.random.default_rng(0)
    values, points = make_map("smooth", (20, 20), 4), pixels((20, 20), 15, 4)
    positives = values[fixation_mask(values, points)]
    splits = []
    for _ in range(400):
        negatives = rng.choice(values.ravel(), positives.size)
        levels = np.sort(np.concatenate([positives, negatives]))[::-1]
        hits, alarms = ([0.0, *[(group >= level).mean() for level in levels]] for group in (positives, negatives))
        splits.append(np.trapezoid(hits, alarms))
    error = np.std(splits) / np.sqrt(len(splits))
    assert abs(np.mean(splits) - scores.auc_borji(values, points)) < 4 * error


def test_auc_shuffled_closed_form():
    values = np.array([[4.0, 3.0, 2.0, 1.0]])
    others = np.array([[0.5, 0.5], [1.5, 0.5], [1.5, 0.5], [3.5, 0.5]])
    assert scores.auc_shuffled(values, np.array([[1.5, 0.5]]), others) == (0 + 0.5 + 0.5 + 1) / 4
    assert scores.auc_shuffled(values, others, others[:1]) < 0.5


@settings(max_examples=60, deadline=None)
@given(maps(LARGE), st.integers(1, 6), st.integers(1, 50), st.integers(0, 10**6))
def test_auc_shuffled_is_pysaliency_s(values, count, other_count, seed):
    points, rng = pixels(values.shape, count, seed), np.random.default_rng(seed)
    others = rng.random((other_count, 2)) * values.shape[::-1]
    model, stimuli, fixations = pysaliency_case(values, points, others)
    found = quiet(model.AUC_per_image, stimuli, fixations, nonfixations="shuffled")[0]
    assert scores.auc_shuffled(values, points, others) == pytest.approx(found, abs=1e-12)


def test_auc_shuffled_needs_fixations_of_other_images():
    with pytest.raises(UsageError, match="fixations of other images"):
        scores.auc_shuffled(SPIKE, ON)


def test_auc_shuffled_discounts_the_centre():
    rng = np.random.default_rng(5)
    blob = scores.centre_gaussian((64, 64))
    here, elsewhere = (np.clip(rng.normal(32, 8, (400, 2)), 0, 63.9) for _ in range(2))
    assert scores.auc_borji(blob, here) > 0.8
    assert scores.auc_shuffled(blob, here, elsewhere) == pytest.approx(0.5, abs=0.05)


def test_information_gain_closed_form():
    ones = np.ones((2, 2))
    assert scores.information_gain(SPIKE, ON, ones) == pytest.approx(2.0)
    assert scores.information_gain(SPIKE, OFF, ones) == pytest.approx(np.log2(2.2204e-16) + 2.0)
    assert scores.information_gain(ones, ON, ones) == 0.0
    centre = np.exp(-0.5 * 2 * (0.25 / 0.25) ** 2)
    assert scores.information_gain(SPIKE, ON) == pytest.approx(2.0)  # by symmetry the centre Gaussian of 2x2 is flat
    assert scores.centre_gaussian((2, 2)) == pytest.approx(np.full((2, 2), centre))


@settings(max_examples=60, deadline=None)
@given(maps(LARGE, ("random", "smooth")), st.integers(1, 6), st.integers(0, 10**6))
def test_information_gain_is_pysaliency_s(values, count, seed):
    values, points = values + 1e-3, pixels(values.shape, count, seed)
    baseline = scores.centre_gaussian(values.shape).astype(np.float64)
    found = pysaliency_information_gain(values, baseline, points)
    assert scores.information_gain(values, points) == pytest.approx(found, abs=1e-6)
    assert scores.information_gain(values, points, baseline) == scores.information_gain(values, points)


@settings(max_examples=40, deadline=None)
@each
def test_increasing_transforms_leave_the_aucs(values, count, seed):
    ranks, points = stats.rankdata(values, method="dense").reshape(values.shape), pixels(values.shape, count, seed)
    for auc in AUCS:
        assert auc(ranks**3 - 5, points) == auc(values, points)
    assert scores.auc_shuffled(ranks**3 - 5, points, points) == scores.auc_shuffled(values, points, points)


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 7.0, 1e300])
def test_positive_scaling_changes_nothing(scale):
    values, points = make_map("smooth", (9, 9), 2), pixels((9, 9), 5, 2)
    for score in SCORES:
        assert score(values * scale, points) == pytest.approx(score(values, points), rel=1e-9)
    assert scores.nss(values * 3 - 100, points) == pytest.approx(scores.nss(values, points), rel=1e-9)


@pytest.mark.parametrize("score", [scores.nss, *AUCS])
def test_reversed_maps_are_as_far_below_chance(score):
    values, points = make_map("random", (9, 9), 2), pixels((9, 9), 5, 2)
    if score is scores.nss:
        assert score(-values, points) == pytest.approx(-score(values, points))
    elif score is scores.auc_borji:
        assert score(-values, points) == pytest.approx(1 - score(values, points))
    else:
        assert score(-values, points) == pytest.approx(1 - score(values, points), abs=1 / 5)


@pytest.mark.parametrize("score", SCORES)
def test_the_best_map_is_the_fixations_themselves(score):
    points = pixels((9, 9), 5, 2)
    best = score(fixation_mask(np.zeros((9, 9)), points), points)
    assert best == max(best, *(score(make_map("random", (9, 9), seed), points) for seed in range(50)))
    assert best == pytest.approx(
        {
            "nss": np.sqrt(76 / 5),
            "auc_judd": 1.0,
            "auc_borji": 1 - 2.5 / 81,
            "information_gain": np.mean(
                np.log2(1 / 5)
                - np.log2(scores.centre_gaussian((9, 9)) / scores.centre_gaussian((9, 9)).sum())[
                    fixation_mask(np.zeros((9, 9)), points)
                ]
            ),
        }[score.__name__],
        abs=1e-5,
    )


@pytest.mark.parametrize("score", SCORES)
def test_noise_and_shift_cost_on_average(score):
    rng = np.random.default_rng(8)
    clean, noisy, shifted = [], [], []
    for seed in range(12):
        density = ndimage.gaussian_filter(np.random.default_rng(seed).random((32, 32)), 4.0, mode="constant")
        density = (density - density.min()) ** 4
        drawn = rng.choice(density.size, 40, p=(density / density.sum()).ravel())
        points = np.stack([drawn % 32 + 0.5, drawn // 32 + 0.5], axis=1)
        clean.append(score(density, points))
        noisy.append(score(density + density.max() * rng.random((32, 32)), points))
        shifted.append(score(np.roll(density, 11, axis=1) + 1e-9, points))
    assert np.mean(clean) > np.mean(noisy)
    assert np.mean(clean) > np.mean(shifted)


@settings(max_examples=40, deadline=None)
@given(maps(LARGE[1:], ("random", "levels")), st.integers(0, 10**6))
def test_every_fixation_counts_however_many_share_a_pixel(values, seed):
    points = np.random.default_rng(seed).choice(pixels(values.shape, 3, seed), 7)
    model, stimuli, fixations = pysaliency_case(values, points)
    aucs = quiet(model.AUC_Judd, stimuli, fixations, jitter=False), quiet(model.AUC, stimuli, fixations)
    assert [auc(values, points) for auc in AUCS] == pytest.approx(aucs, abs=1e-12)
    found = quiet(pysaliency_metrics.NSS, values, *points.T).mean()
    assert scores.nss(values, points) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("score", SCORES)
def test_points_are_x_before_y_with_pixel_centres_at_halves(score):
    values = make_map("random", (3, 8), 2)
    corner = score(values, np.array([[7.999, 2.999]]))
    assert corner == score(values, np.array([[7.0, 2.0]])) == score(values, np.array([[7.5, 2.5]]))
    assert corner != score(values, np.array([[6.999, 2.999]]))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("point", [(8.0, 1.0), (1.0, 3.0), (-0.1, 1.0), (np.nan, 1.0), (1.0, np.inf)])
def test_points_outside_are_refused_with_their_place(score, point):
    with pytest.raises(UsageError, match=r"fixation at x = .* is not in the map of width 8 and height 3"):
        score(make_map("random", (3, 8), 2), np.array([[0.0, 0.0], point]))


@pytest.mark.parametrize("score", SCORES)
def test_what_are_no_points_is_refused(score):
    with pytest.raises(UsageError, match="no fixations"):
        score(SPIKE, np.zeros((0, 2)))
    for points in (np.zeros(2), np.zeros((3, 3)), np.array([["a", "b"]])):
        with pytest.raises(UsageError, match=r"are not \(n, 2\)"):
            score(SPIKE, points)


def test_auc_judd_needs_a_pixel_that_is_not_fixated():
    with pytest.raises(UsageError, match="every pixel is fixated"):
        scores.auc_judd(SPIKE, pixels((2, 2), 4, 0))


@pytest.mark.parametrize("values", [np.zeros((4, 4)), np.full((4, 4), 3.0), 1.0 + 1e-8 * np.eye(4)])
def test_constant_maps_have_the_chance_auc_and_no_nss(values):
    points = np.array([[0.5, 0.5], [1.5, 0.5]])
    assert [auc(values, points) for auc in AUCS] == [0.5, 0.5]
    assert scores.auc_shuffled(values, points, points + 1) == 0.5
    with pytest.raises(UsageError, match="NSS is undefined"):
        scores.nss(values, points)


@pytest.mark.parametrize("baseline", [np.ones((3, 3)), np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_bad_baseline_is_refused(baseline):
    with pytest.raises(UsageError):
        scores.information_gain(np.eye(4), np.array([[0.5, 0.5]]), baseline)
