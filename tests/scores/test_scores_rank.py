"""Spearman, top-k IoU and SSIM against SciPy, scikit-image, closed forms and their own symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from scipy.ndimage import gaussian_filter
from scores_support import make_map, pairs
from skimage.metrics import structural_similarity

from quantviz import scores
from quantviz.specs import UsageError

SCORES = (scores.spearman, scores.top_k_iou, scores.ssim)
LARGE = ((12, 12), (17, 11), (40, 60))
P, Q = make_map("random", (20, 20), 1), make_map("smooth", (20, 20), 2)


def averaged_ranks(values):
    flat = values.ravel()
    return np.array([(flat < value).sum() + (np.count_nonzero(flat == value) + 1) / 2 for value in flat])


def test_spearman_closed_form():
    p, q = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[1.0, 4.0, 2.0, 3.0]])
    assert scores.spearman(p, q) == pytest.approx(1 - 6 * (0 + 4 + 1 + 1) / (4 * 15))
    assert scores.spearman(p, -p) == -1.0


@settings(max_examples=80, deadline=None)
@given(pairs())
def test_spearman_is_scipy_s_and_the_closed_form(case):
    p, q = case
    found = scores.spearman(p, q)
    assert found == pytest.approx(stats.spearmanr(p, q, axis=None).statistic, abs=1e-12)
    assert found == pytest.approx(np.corrcoef(averaged_ranks(p), averaged_ranks(q))[0, 1], abs=1e-12)


def test_top_k_iou_closed_forms():
    p = np.arange(10.0).reshape(2, 5)
    assert scores.top_k_iou(p, p) == 1.0
    assert scores.top_k_iou(p, -p) == 0.0
    assert scores.top_k_iou(p, np.where(p == 8, -1.0, p)) == 1 / 3  # {9, 8} and {9, 7}
    assert scores.top_k_iou(p, p, fraction=1.0) == 1.0
    assert scores.top_k_iou(p, np.roll(p, 1), fraction=0.01) == 0.0  # one place at least


def test_top_k_iou_shares_places_among_ties():
    p = np.array([[9.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    q = np.arange(10.0)[None, ::-1]
    # p's memberships are 1, 1/2, 1/2 and q's 1, 1, 0.
    assert scores.top_k_iou(p, q) == pytest.approx(1.5 / 2.5)
    flat = np.ones((1, 10))
    assert scores.top_k_iou(flat, q) == pytest.approx((2 * 0.2) / (2 + 8 * 0.2))
    assert scores.top_k_iou(flat, flat) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(pairs(kinds=("random",)))
def test_top_k_iou_is_that_of_sets_where_nothing_ties(case):
    p, q = case
    places = max(1, int(0.2 * p.size + 0.5))
    a, b = (set(np.argsort(-values, axis=None)[:places].tolist()) for values in (p, q))
    assert scores.top_k_iou(p, q) == pytest.approx(len(a & b) / len(a | b))


def test_top_k_iou_of_unrelated_maps_is_chance():
    found = [scores.top_k_iou(make_map("random", (40, 60), i), make_map("random", (40, 60), 99 + i)) for i in range(30)]
    assert np.mean(found) == pytest.approx(0.2 / 1.8, abs=0.005)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_top_k_iou_refuses_a_bad_fraction(fraction):
    with pytest.raises(UsageError, match="fraction"):
        scores.top_k_iou(P, Q, fraction=fraction)


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_increasing_transforms_leave_rank_metrics(case):
    p, q = case
    other = stats.rankdata(p, method="dense").reshape(p.shape) ** 3 - 7
    assert scores.spearman(other, q) == pytest.approx(scores.spearman(p, q), abs=1e-12)
    assert scores.top_k_iou(other, q) == scores.top_k_iou(p, q)


def ssim_window_by_window(p, q):
    offsets = np.arange(-5, 6)
    weights = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets[None, :] ** 2) / 1.5**2)
    weights /= weights.sum()
    found = []
    for row in range(p.shape[0] - 10):
        for column in range(p.shape[1] - 10):
            a, b = (values[row : row + 11, column : column + 11] for values in (p, q))
            (mean_a, mean_b) = (weights * a).sum(), (weights * b).sum()
            spread = (weights * ((a - mean_a) ** 2 + (b - mean_b) ** 2)).sum()
            shared = (weights * (a - mean_a) * (b - mean_b)).sum()
            level = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            found.append(level * (2 * shared + 0.03**2) / (spread + 0.03**2))
    return np.mean(found)


@settings(max_examples=25, deadline=None)
@given(pairs(((12, 12), (17, 11)), ("random", "smooth", "sparse", "levels")))
def test_ssim_is_the_closed_form_over_11x11_windows(case):
    p, q = ((values - values.min()) / np.ptp(values) for values in case)
    assert scores.ssim(*case) == pytest.approx(ssim_window_by_window(p, q), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(pairs(LARGE))
def test_ssim_is_scikit_image_s_on_scaled_maps(case):
    p, q = ((values - values.min()) / np.ptp(values) for values in case)
    found = structural_similarity(
        p, q, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, K1=0.01, K2=0.03
    )
    assert scores.ssim(*case) == pytest.approx(found, abs=1e-9)


def test_ssim_ignores_scale_and_shift_of_either_map():
    assert scores.ssim(P * 9 - 4, Q) == pytest.approx(scores.ssim(P, Q), abs=1e-9)
    assert scores.ssim(P, Q * 1e-200) == pytest.approx(scores.ssim(P, Q), abs=1e-9)


@pytest.mark.parametrize("shape", [(10, 11), (11, 10), (1, 200)])
def test_ssim_refuses_maps_smaller_than_its_window(shape):
    values = make_map("random", shape, 0)
    with pytest.raises(UsageError, match="at least 11x11"):
        scores.ssim(values, values)


@pytest.mark.parametrize("score", SCORES)
def test_identity_symmetry_and_flips(score):
    assert score(P, P) == pytest.approx(1.0)
    assert score(P, Q) == pytest.approx(score(Q, P), abs=1e-12)
    for change in (np.fliplr, np.flipud, np.transpose, np.rot90):
        assert score(change(P), change(Q)) == pytest.approx(score(P, Q), abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_noise_and_shift_cost_on_average(score):
    def mean(change):
        truths = [gaussian_filter(np.random.default_rng(seed).random((24, 24)), 3.0) for seed in range(10)]
        return np.mean([score(change(truth), truth) for truth in truths])

    rng = np.random.default_rng(0)
    noisy = [mean(lambda q, s=s: q + s * q.std() * rng.normal(size=q.shape)) for s in (0.0, 0.3, 1.0, 4.0)]
    assert noisy == sorted(noisy, reverse=True)
    shifted = [mean(lambda q, d=d: np.roll(q, d, axis=1)) for d in (0, 1, 3, 6)]
    assert shifted == sorted(shifted, reverse=True)


@pytest.mark.parametrize("score", SCORES)
def test_shapes_that_differ_are_refused(score):
    with pytest.raises(UsageError, match=r"shapes \(20, 20\) and \(12, 12\) differ"):
        score(P, P[:12, :12])


@pytest.mark.parametrize("score", [scores.spearman, scores.ssim])
@pytest.mark.parametrize("values", [np.zeros((20, 20)), np.ones((20, 20)), np.full((20, 20), np.nan)])
def test_degenerate_maps_have_no_rank_correlation_or_ssim(score, values):
    for case in ((values, P), (P, values)):
        with pytest.raises(UsageError, match="undefined"):
            score(*case)
