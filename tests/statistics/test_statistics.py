"""Paired comparisons against scipy, statsmodels, closed forms and simulation."""

from __future__ import annotations

import gc
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statistics_support import A, B, ends
from statsmodels.stats.weightstats import ttost_paired

from quantviz.specs import UsageError
from quantviz.statistics import LIMIT, family, holm, paired, paired_difference, summary, wilson
from quantviz.statistics.sample import MOST

RESAMPLED = "BCa bootstrap, 9,999 resamples"


# Against direct calls and closed forms
def test_mean_median_sd_and_d_z():
    result, d = paired(A, B, margin=0.05), A - B
    assert result.n == 60
    assert result.mean == pytest.approx(d.mean(), abs=1e-11)
    assert result.median == pytest.approx(np.median(d), abs=1e-11)
    assert result.sd == pytest.approx(d.std(ddof=1), abs=1e-11)
    assert result.d_z == pytest.approx(stats.ttest_rel(A, B).statistic / np.sqrt(60), rel=1e-9)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_interval_is_scipys_bca(confidence):
    result = paired(A, B, margin=0.05, confidence=confidence)
    direct = stats.bootstrap(
        (A, B), lambda x, y, axis: np.mean(x - y, axis), paired=True, confidence_level=confidence, rng=1
    ).confidence_interval
    assert result.interval.method == RESAMPLED
    assert ends(result.interval) == pytest.approx(tuple(direct), abs=0.03 * (direct.high - direct.low))
    assert result.equivalence.interval.confidence == pytest.approx(2 * confidence - 1)


def test_interval_of_skewed_values_leans_the_way_bca_must():
    values = np.random.default_rng(0).lognormal(sigma=1.2, size=40)
    found = summary(values)
    percentile = stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    assert found.interval.low > percentile.low
    assert found.interval.high > percentile.high


def test_seed_decides_the_interval():
    same, other = paired(A, B, margin=0.05), paired(A, B, margin=0.05, seed=1)
    assert paired(A, B, margin=0.05) == same
    assert ends(other.interval) != ends(same.interval)
    assert ends(other.interval) == pytest.approx(ends(same.interval), abs=1e-3)


SAMPLES = {
    "even": lambda rng, n: rng.normal(0.5, 0.1, n),
    "skewed": lambda rng, n: rng.lognormal(sigma=1.5, size=n),
    "near one": lambda rng, n: rng.beta(8, 1, n),
    "flags": lambda rng, n: (rng.random(n) < 0.3) * 1.0,
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.01, rng.random(n), 0),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_beyond_the_resampled_sizes_the_interval_is_that_of_resamples(kind):
    values = SAMPLES[kind](np.random.default_rng(0), 2 * MOST)
    found = summary(values).interval
    assert found.method == LIMIT
    many = np.array([stats.bootstrap((values,), np.mean, rng=seed, batch=100).confidence_interval for seed in range(3)])
    width = np.diff(many.mean(0)).item()
    assert ends(found) == pytest.approx(many.mean(0).tolist(), abs=0.015 * width)
    half = stats.t.ppf(0.975, values.size - 1) * stats.sem(values)
    if kind in ("skewed", "mostly zero"):  # where the mirror-symmetric interval will not do
        assert abs(found.low - (values.mean() - half)) > 0.03 * width


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_limit_of_many_resamples_serves_samples_of_every_size(kind):
    for n in (8, 40, 200):
        values = SAMPLES[kind](np.random.default_rng(n), n)
        if np.ptp(values) == 0:
            continue
        limit, many = (summary(values, resampled=resampled).interval for resampled in (False, True))
        assert (limit.method, many.method) == (LIMIT, RESAMPLED)
        assert ends(limit) == pytest.approx(ends(many), abs=0.1 * (many.high - many.low))
        shuffled = np.random.default_rng(0).permutation(values)
        assert ends(summary(shuffled, resampled=False).interval) == pytest.approx(ends(limit), rel=1e-9)


@pytest.mark.parametrize("n", [5, 20, 1000])
def test_the_limit_stays_within_the_sample_however_skewed_it_is(n):
    for values in (np.r_[np.zeros(n - 1), 1], np.r_[np.zeros(n - 2), 1, 1], np.r_[0, np.ones(n - 1)]):
        low, high = ends(summary(values, resampled=False).interval)
        assert 0 <= low < values.mean() < high <= 1


def test_the_interval_does_not_jump_where_resampling_ends():
    values = np.random.default_rng(0).gamma(2, size=MOST + 1)
    large, small = summary(values).interval, summary(values[:-1]).interval
    assert (large.method, small.method) == (LIMIT, RESAMPLED)
    assert ends(large) == pytest.approx(ends(small), abs=0.03 * (small.high - small.low))


def test_a_large_sample_that_a_few_values_decide_is_resampled():
    values = np.random.default_rng(0).normal(0, 1e-4, 2 * MOST)
    values[:3] = 0.6, 0.8, 1.0
    found = summary(values)
    assert found.interval.method == "BCa bootstrap, 5,000 resamples"
    direct = stats.bootstrap((values,), np.mean, rng=1, batch=100).confidence_interval
    assert ends(found.interval) == pytest.approx(tuple(direct), abs=0.1 * (direct.high - direct.low))


def test_the_interval_of_few_is_that_of_the_same_draws_through_scipy():
    for n in (5, 40, MOST):
        values = np.sort(np.random.default_rng(n).beta(8, 1, n))
        direct = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(0), batch=2**18 // n)
        assert ends(summary(values).interval) == pytest.approx(tuple(direct.confidence_interval), abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 5, 13, 14, 50])
def test_signed_rank_without_ties_is_scipys_exact_test(n):
    test = paired(A[:n], B[:n], margin=0.05).signed_rank
    direct = stats.wilcoxon(A[:n] - B[:n], method="exact")
    assert (test.statistic, test.p) == (direct.statistic, pytest.approx(direct.pvalue, rel=1e-12))
    assert (test.null, test.zeros, test.zero_method) == ("exact", 0, "pratt")


def test_signed_rank_of_many_is_scipys_normal_approximation():
    a, b = np.random.default_rng(4).integers(0, 9, (2, 400))
    test = paired(a, b, margin=1).signed_rank
    direct = stats.wilcoxon(a - b, zero_method="pratt", method="asymptotic")
    assert (test.statistic, test.p) == (direct.statistic, pytest.approx(direct.pvalue, rel=1e-12))
    assert test.null == "normal approximation"
    assert test.zeros == (a == b).sum()


@given(arrays(np.int8, st.integers(1, 9), elements=st.integers(-2, 2)).filter(np.any))
@settings(max_examples=60, deadline=None)
def test_exact_p_with_ties_and_zeros_is_the_share_of_all_sign_patterns(d):
    ranks = stats.rankdata(np.abs(d))
    least = min(ranks[d > 0].sum(), ranks[d < 0].sum())
    sums = [ranks[np.array(signs) * d > 0].sum() for signs in product((-1, 1), repeat=d.size)]
    expected = min(1, 2 * np.mean(np.array(sums) <= least))
    assert paired(d, 0 * d, margin=1).signed_rank.p == pytest.approx(expected, rel=1e-12)


def test_exact_p_with_ties_and_zeros_is_scipys_permutation_test():
    d = np.array([0, 0, 3, -1, 2, 2, 5, -1, 4])
    assert paired(d, 0 * d, margin=1).signed_rank.p == pytest.approx(stats.wilcoxon(d, zero_method="pratt").pvalue)


def test_few_differences_among_many_zeros_are_exact():
    d = np.r_[np.zeros(996), [1, 2, 3, 4]]
    assert paired(d, 0 * d, margin=1).signed_rank.p == pytest.approx(2 / 2**4)


def test_rank_biserial_closed_forms():
    assert paired([1, 2, 3], [0, 0, 0], margin=1).rank_biserial == 1
    assert paired([1, 2, -3], [0, 0, 0], margin=1).rank_biserial == 0
    assert paired([1, -2, -3], [0, 0, 0], margin=1).rank_biserial == pytest.approx(-4 / 6)
    assert paired([0, 0, 3], [0, 0, 0], margin=1).rank_biserial == pytest.approx(3 / 6)  # zeros hold ranks 1 and 2


def test_tost_by_hand():
    found = paired([1, 2, 3, 4, 5], [0, 2, 2, 4, 4], margin=2).equivalence  # d = 1, 0, 1, 0, 1: mean 0.6, s² = 0.3
    error = np.sqrt(0.3 / 5)
    assert found.t_low == pytest.approx((0.6 + 2) / error)
    assert found.t_high == pytest.approx((0.6 - 2) / error)
    assert found.p == pytest.approx(stats.t.cdf((0.6 - 2) / error, 4))
    assert (found.df, found.by_t, found.by_interval, found.equivalent, found.beyond) == (4, True, True, True, False)


@pytest.mark.parametrize("margin", [1e-6, 0.01, 0.02, 0.035, 3])
def test_tost_is_statsmodels_and_the_t_interval(margin):
    found = paired(A, B, margin=margin).equivalence
    p, low, high = ttost_paired(A, B, -margin, margin)
    assert (found.p, found.t_low, found.t_high) == pytest.approx((p, low[0], high[0]), rel=1e-8)
    inside = stats.ttest_rel(A, B).confidence_interval(0.9)
    assert found.by_t == (-margin < inside.low and inside.high < margin)


def test_the_two_checks_of_equivalence_can_disagree():
    d = np.r_[np.zeros(30), 0.5]
    between = [paired(d, 0 * d, margin=margin).equivalence for margin in np.linspace(0.03, 0.08, 30)]
    split = [found for found in between if found.by_t != found.by_interval]
    assert split
    assert not any(found.equivalent for found in split)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; the last is raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_passes_over_what_was_not_tested_and_stops_at_one():
    assert holm([0.01, np.nan, 0.03, None]) == pytest.approx([0.02, np.nan, 0.03, np.nan], nan_ok=True)
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).size == 0
    assert np.isnan(holm([None])).all()


@pytest.fixture(scope="module")
def little_garbage():
    """Set aside what other tests have made: statsmodels collects garbage at every call."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little_garbage")
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
@settings(max_examples=50, deadline=None)
def test_holm_keeps_order_and_never_lowers(p_values, random):
    order = list(range(len(p_values)))
    random.shuffle(order)
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values) + 1e-12)).all()
    assert holm([p_values[i] for i in order]) == pytest.approx(adjusted[order])


def test_family_corrects_and_keeps_order():
    given_results = {
        "W8A8": paired(A, B, margin=0.05),
        "none": paired([], [], margin=0.05),
        "W4A8": paired(A - 0.3, B, margin=0.05),
    }
    found = family(given_results)
    assert list(found) == list(given_results)
    assert [found[name].family_size for name in found] == [2, 2, 2]
    assert found["none"].p_adjusted is None
    assert found["none"].distinguishable is None
    raw = [given_results[name].signed_rank.p for name in ("W8A8", "W4A8")]
    assert [found[name].p for name in ("W8A8", "W4A8")] == pytest.approx(holm(raw).tolist())
    assert found["W8A8"].signed_rank == given_results["W8A8"].signed_rank
    assert family({}) == {}


def test_correction_can_change_the_verdict():
    weak = paired(np.arange(1, 7), np.zeros(6), margin=1)  # p = 2/2^6
    assert weak.distinguishable
    assert not family({"one": weak, "two": weak})["one"].distinguishable


def test_summary_closed_forms():
    found = summary([1, 2, 3, 4, np.nan, np.inf, None])
    assert (found.n, found.excluded, found.infinite) == (4, 3, 1)
    assert found.mean == 2.5
    assert found.sd == pytest.approx(np.sqrt(5 / 3))
    assert found.interval is None
    assert any("2 without a value and 1 infinite" in note for note in found.notes)
    assert ends(summary([3.0] * 7).interval) == (3, 3)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=100, deadline=None)
def test_a_proportion_has_wilsons_interval_by_its_formula(pair):
    count, n = pair
    part, square = count / n, 1.959963984540054**2
    half = math.sqrt(square * part * (1 - part) / n + square**2 / (4 * n * n))
    ends = ((part + square / (2 * n) + side * half) / (1 + square / n) for side in (-1, 1))
    assert [end.item() for end in wilson([count], [n])] == pytest.approx([min(max(x, 0), 1) for x in ends], abs=1e-12)


def test_proportions_are_taken_together_and_of_nothing_there_is_no_interval():
    low, high = wilson([0, 10, 0, 3], [10, 10, 0, 10])
    assert (low[0], high[1]) == pytest.approx((0, 1), abs=1e-12)
    assert np.isnan([low[2], high[2]]).all()
    assert (low[3], high[3]) == pytest.approx(tuple(stats.binomtest(3, 10).proportion_ci(method="wilson")), abs=1e-12)
    with pytest.raises(UsageError, match="Count 3 is not within 0 and its total, 2"):
        wilson([1, 3], [2, 2])


# By simulation
@pytest.mark.parametrize(("draw", "mean", "least"), [("normal", 0.0, 0.91), ("exponential", 1.0, 0.88)])
def test_intervals_cover_about_as_often_as_they_say(draw, mean, least):
    rng = np.random.default_rng(5)
    runs = 300
    hits = 0
    for _ in range(runs):
        a = getattr(rng, draw)(size=40)
        interval = paired(a, np.zeros(40), margin=1).interval
        hits += interval.low <= mean <= interval.high
    assert least <= hits / runs <= 0.98  # binomial error 0.013; BCa runs a little narrow at n = 40


def test_tost_keeps_its_level_on_the_margin():
    rng = np.random.default_rng(6)
    claims = [paired(rng.normal(0.1, 0.2, 30), np.zeros(30), margin=0.1).equivalence for _ in range(300)]
    assert 0.01 < np.mean([claim.by_t for claim in claims]) < 0.09
    assert np.mean([claim.equivalent for claim in claims]) <= np.mean([claim.by_t for claim in claims])


def test_the_difference_of_paired_parts_is_newcombes():
    drop, low, high = paired_difference(36, 12, 2, 0)
    assert drop == pytest.approx(0.2)
    # By the formula of the paper, term by term.
    (l1, l2), (u1, u2) = wilson([48, 38], [50, 50])
    phi = (36 * 0 - 12 * 2) / math.sqrt(48 * 2 * 38 * 12)
    down = math.sqrt((0.96 - l1) ** 2 - 2 * phi * (0.96 - l1) * (u2 - 0.76) + (u2 - 0.76) ** 2)
    up = math.sqrt((u1 - 0.96) ** 2 - 2 * phi * (u1 - 0.96) * (0.76 - l2) + (0.76 - l2) ** 2)
    assert (low, high) == pytest.approx((0.2 - down, 0.2 + up))
    assert paired_difference(5, 0, 0, 5)[0] == 0
    assert paired_difference(0, 3, 0, 0)[:2] == (1.0, pytest.approx(paired_difference(0, 0, 3, 0)[2] * -1))
    with pytest.raises(UsageError, match="one pair at least"):
        paired_difference(0, 0, 0, 0)


def test_the_interval_of_paired_parts_holds_the_difference_as_often_as_it_says():
    generator = np.random.default_rng(0)
    chances = np.array([0.5, 0.25, 0.1, 0.15])
    held = 0
    for four in generator.multinomial(40, chances, 400).tolist():
        _, low, high = paired_difference(*four)
        held += low <= 0.15 <= high
    assert 0.92 <= held / 400 <= 0.985
