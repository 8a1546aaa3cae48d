"""The salient object metrics against PySODMetrics on 8-bit pictures, closed forms and their own symmetries."""

import numpy as np
import py_sod_metrics
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scores_support import make_map, maps, quiet

from quantviz import scores
from quantviz.specs import UsageError

SCORES = (
    scores.f_beta_max,
    scores.f_beta_mean,
    scores.f_beta_adaptive,
    scores.weighted_f,
    scores.s_measure,
    scores.e_measure_max,
    scores.e_measure_mean,
    scores.e_measure_adaptive,
    scores.mae,
)
CLIPPED = SCORES[5:8]
SHAPES = ((3, 4), (12, 12), (17, 11), (40, 60))
EPS = np.spacing(1)


def blob(shape, seed=0):
    """Return a random rectangle as a mask that leaves the last row and column free."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.float32)
    (top, bottom), (left, right) = (np.sort(rng.choice(np.arange(side), 2, replace=False)) for side in shape)
    mask[top:bottom, left:right] = 1
    return mask


def scaled(values):
    return (values - values.min()) / np.ptp(values)


def at_thresholds(values):
    whole = np.floor(scaled(values) * 255)
    return [whole >= level for level in range(256)]


def decided(values):
    """Tell whether no value lies so near a threshold that rounding decides on which side it falls."""
    inner = scaled(values)[(values > values.min()) & (values < values.max())]
    twice = 2 * scaled(values).mean()
    off = np.abs(inner * 255 - np.round(inner * 255)) > 1e-9
    return off.all() and (np.abs(inner - twice) > 1e-9).all() and abs(twice - 1) > 1e-9


def f_beta(binary, mask):
    hits = (binary & mask).sum()
    precision, recall = hits / max(1, binary.sum()), hits / mask.sum()
    return 0.0 if hits == 0 else 1.3 * precision * recall / (0.3 * precision + recall)


def e_measure(binary, mask):
    if mask.all():
        return min(1.0, binary.sum() / (mask.size - 1))
    a, b = binary - binary.mean(), mask - mask.mean()
    return ((1 + 2 * a * b / (a**2 + b**2 + EPS)) ** 2 / 4).sum() / (mask.size - 1)


def adaptive(values):
    return scaled(values) >= min(2 * scaled(values).mean(), 1)


each = given(maps(SHAPES), st.integers(0, 10**6))


@settings(max_examples=40, deadline=None)
@each
def test_f_beta_max_f_beta_mean_and_f_beta_adaptive_closed_forms(values, seed):
    assume(decided(values))
    mask = blob(values.shape, seed) > 0
    curve = [f_beta(binary, mask) for binary in at_thresholds(values)]
    assert scores.f_beta_max(values, mask) == pytest.approx(max(curve), abs=1e-12)
    assert scores.f_beta_mean(values, mask) == pytest.approx(np.mean(curve), abs=1e-12)
    assert scores.f_beta_adaptive(values, mask) == pytest.approx(f_beta(adaptive(values), mask), abs=1e-12)


@settings(max_examples=40, deadline=None)
@each
def test_e_measure_max_e_measure_mean_and_e_measure_adaptive_closed_forms(values, seed):
    assume(decided(values))
    mask = blob(values.shape, seed) > 0
    curve = [e_measure(binary, mask) for binary in at_thresholds(values)]
    assert scores.e_measure_max(values, mask) == pytest.approx(min(1, max(curve)), abs=1e-9)
    assert scores.e_measure_mean(values, mask) == pytest.approx(min(1, np.mean(curve)), abs=1e-9)
    assert scores.e_measure_adaptive(values, mask) == pytest.approx(min(1, e_measure(adaptive(values), mask)), abs=1e-9)


@settings(max_examples=40, deadline=None)
@each
def test_mae_closed_form(values, seed):
    mask = blob(values.shape, seed)
    assert scores.mae(values, mask) == pytest.approx(np.abs(scaled(values) - mask).mean(), abs=1e-12)


def s_by_definition(p, mask):
    def of_object(x):
        return 2 * x.mean() / (x.mean() ** 2 + 1 + (x.std(ddof=1) if x.size > 1 else 0.0))

    def of_region(x, y):
        if x.size == 0:
            return 0.0
        spread = (np.square(x - x.mean()).sum() + np.square(y - y.mean()).sum()) / max(1, x.size - 1)
        shared = ((x - x.mean()) * (y - y.mean())).sum() / max(1, x.size - 1)
        above, below = 4 * x.mean() * y.mean() * shared, (x.mean() ** 2 + y.mean() ** 2) * spread
        return above / below if above else float(below == 0)

    share = mask.mean()
    objects = share * of_object(p[mask]) + (1 - share) * of_object(1 - p[~mask])
    rows, columns = np.nonzero(mask)
    row, column = round(rows.mean()) + 1, round(columns.mean()) + 1
    regions = 0.0
    for rows in (slice(0, row), slice(row, None)):
        for columns in (slice(0, column), slice(column, None)):
            part = p[rows, columns]
            regions += part.size / p.size * of_region(part, mask[rows, columns].astype(float))
    return max(0.0, (objects + regions) / 2)


@settings(max_examples=60, deadline=None)
@each
def test_s_measure_closed_form(values, seed):
    mask = blob(values.shape, seed) > 0
    assert scores.s_measure(values, mask) == pytest.approx(s_by_definition(scaled(values), mask), abs=1e-9)


@pytest.mark.parametrize("place", [np.s_[:, -1:], np.s_[-1:, :], np.s_[-1:, -1:]])
def test_s_measure_where_the_library_gives_nan(place):
    values, mask = make_map("random", (20, 30), 0), np.zeros((20, 30), bool)
    mask[place] = True
    judge = py_sod_metrics.Smeasure()
    quiet(judge.step, scaled(values), mask, normalize=False)
    assert np.isnan(judge.get_results()["sm"])  # once this fails, the repair can go
    assert scores.s_measure(values, mask) == pytest.approx(s_by_definition(scaled(values), mask), abs=1e-9)


def weighted_by_definition(p, mask):
    height, width = mask.shape
    inside = np.argwhere(mask)
    error = np.abs(p - mask)
    spread, weight = error.copy(), np.ones_like(p)
    for row, column in np.argwhere(~mask):
        distances = np.hypot(*(inside - (row, column)).T)
        spread[row, column] = error[tuple(inside[distances.argmin()])]
        weight[row, column] = 2 - 0.5 ** (distances.min() / 5)
    offsets = np.arange(-3, 4)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / 50)
    kernel /= kernel.sum()
    padded = np.pad(spread, 3)
    smooth = np.array([[(kernel * padded[i : i + 7, j : j + 7]).sum() for j in range(width)] for i in range(height)])
    error = np.where(mask, np.minimum(error, smooth), error) * weight
    recall = 1 - error[mask].mean()
    hits = mask.sum() - error[mask].sum()
    precision = hits / (hits + error[~mask].sum() + EPS)
    return 2 * recall * precision / (recall + precision + EPS)


@settings(max_examples=25, deadline=None)
@given(maps(((12, 12), (17, 11))), st.integers(0, 10**6))
def test_weighted_f_closed_form(values, seed):
    mask = blob(values.shape, seed) > 0
    assert scores.weighted_f(values, mask) == pytest.approx(weighted_by_definition(scaled(values), mask), abs=1e-9)


def library_scores(picture, mask):
    """Score 8-bit pictures as PySODMetrics's users do."""
    handler = py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)
    judges = [
        py_sod_metrics.FmeasureV2({"f": handler}),
        py_sod_metrics.WeightedFmeasure(),
        py_sod_metrics.Smeasure(),
        py_sod_metrics.Emeasure(),
        py_sod_metrics.MAE(),
    ]
    for judge in judges:
        judge.step(picture, mask)
    f, w, s, e, m = (judge.get_results() for judge in judges)
    curve = f["f"]["dynamic"]
    alignment = [e["em"]["curve"].max(), e["em"]["curve"].mean(), e["em"]["adp"]]
    return [curve.max(), curve.mean(), f["f"]["adaptive"], w["wfm"], s["sm"], *np.minimum(alignment, 1), m["mae"]]


@settings(max_examples=40, deadline=None)
@given(maps(SHAPES[1:]), st.integers(0, 10**6))
def test_all_are_pysodmetrics_on_pictures(values, seed):
    picture, mask = np.round(scaled(values) * 255).astype(np.uint8), blob(values.shape, seed)
    expected = library_scores(picture, (mask * 255).astype(np.uint8))
    assert [score(picture, mask) for score in SCORES] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_mask_itself_is_optimal(seed):
    mask = blob((24, 30), seed)
    found = {score.__name__: score(mask, mask) for score in SCORES}
    assert found.pop("mae") == 0.0
    # Cut at 0 / 255 the map covers everything, which the means over thresholds count.
    assert found.pop("f_beta_mean") > 0.995
    assert found.pop("e_measure_mean") > 0.99
    assert list(found.values()) == pytest.approx([1.0] * 6, abs=1e-9)
    assert [score(1 - mask, mask) < 0.6 for score in SCORES[:-1]] == [True] * 8
    assert scores.mae(1 - mask, mask) == 1.0


@pytest.mark.parametrize("score", SCORES)
def test_e_measure_stays_within_its_range_and_full_masks_score(score):
    values = make_map("random", (5, 5), 0)
    assert 0.0 <= score(values, np.ones((5, 5))) <= 1.0
    assert 0.0 <= score(blob((5, 5), 1), blob((5, 5), 1)) <= 1.0


@pytest.mark.parametrize("score", SCORES)
def test_scale_and_shift_change_nothing(score):
    values, mask = make_map("smooth", (24, 30), 1), blob((24, 30), 1)
    # Not a power of two: rounding may move a pixel across one of the 256 levels.
    assert score(values * 4 - 2, mask) == pytest.approx(score(values, mask), abs=1e-4)
    assert score(values * 2.0**-900, mask) == pytest.approx(score(values, mask), abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_flips_change_nothing(score):
    values, mask = make_map("smooth", (24, 30), 1), blob((24, 30), 1)
    # The S-measure's regions meet beside the centroid, not in it, so that they differ a little once flipped.
    close = 0.02 if score is scores.s_measure else 1e-12
    for change in (np.fliplr, np.flipud, np.transpose):
        assert score(change(values), change(mask)) == pytest.approx(score(values, mask), abs=close)


@pytest.mark.parametrize("score", SCORES)
def test_noise_and_shift_cost_on_average(score):
    sign = 1 if score is scores.mae else -1
    rng = np.random.default_rng(0)

    def mean(change):
        return np.mean([sign * score(change(mask), mask) for mask in (blob((32, 40), seed) for seed in range(10))])

    noisy = [mean(lambda m, s=s: m + s * rng.normal(size=m.shape)) for s in (0.0, 0.3, 1.0, 5.0)]
    shifted = [mean(lambda m, d=d: np.roll(m, d, axis=1)) for d in (0, 2, 8)]
    assert noisy == sorted(noisy)
    assert shifted == sorted(shifted)
    assert len(set(noisy)) == 4
    assert len(set(shifted)) == 3


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("values", [np.zeros((5, 5)), np.ones((5, 5)), np.full((5, 5), np.nan)])
def test_degenerate_maps_have_no_value(score, values):
    with pytest.raises(UsageError, match="undefined where the map"):
        score(values, blob((5, 5), 1))


@pytest.mark.parametrize("score", SCORES)
def test_bad_masks_are_refused(score):
    values = make_map("random", (5, 5), 0)
    with pytest.raises(UsageError, match="mask is empty"):
        score(values, np.zeros((5, 5)))
    with pytest.raises(UsageError, match=r"The mask holds 0\.5"):
        score(values, np.full((5, 5), 0.5))
    with pytest.raises(UsageError, match=r"mask's shape \(4, 5\) differs"):
        score(values, np.ones((4, 5)))
