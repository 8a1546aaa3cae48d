"""Statistics against SciPy, statsmodels, closed forms, simulation, their own symmetries; and their words."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from quantviz.specs import UsageError
from quantviz.statistics import family, holm, in_words, paired, summary
from quantviz.statistics.sample import MOST

RNG = np.random.default_rng(3)
B = RNG.uniform(0.4, 0.9, 60)
A = B + RNG.normal(-0.02, 0.05, 60)

samples = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, (2, n), elements=st.floats(-1, 1)))
coarse = st.integers(1, 30).flatmap(lambda n: arrays(np.int8, (2, n), elements=st.integers(-2, 2)))  # ties and zeros
quick = settings(max_examples=30, deadline=None)


def ends(interval):
    return None if interval is None else (interval.low, interval.high)


def numbers(result):
    """Everything of a result that changes sign when a and b swap."""
    low, high = ends(result.interval) or (0, 0)
    return [x or 0 for x in (result.mean, result.median, low, high, result.rank_biserial, result.d_z)]


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
    assert result.interval.method == "BCa"
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


def test_student_t_beyond_the_resampled_sizes_agrees_with_bca():
    values = np.random.default_rng(0).gamma(2, size=MOST + 1)
    large, small = summary(values).interval, summary(values[:-1]).interval
    assert (large.method, small.method) == ("Student t", "BCa")
    width = small.high - small.low
    assert ends(large) == pytest.approx(ends(small), abs=0.05 * width)
    direct = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert ends(large) == pytest.approx(tuple(direct), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 13, 14, 50])
def test_signed_rank_without_ties_is_scipys_exact_test(n):
    test = paired(A[:n], B[:n], margin=0.05).signed_rank
    direct = stats.wilcoxon(A[:n] - B[:n], method="exact")
    assert (test.statistic, test.p) == (direct.statistic, pytest.approx(direct.pvalue, rel=1e-12))
    assert (test.null, test.zeros, test.zero_method) == ("exact", 0, "pratt")


def test_signed_rank_of_many_is_scipys_normal_approximation():
    a, b = RNG.integers(0, 9, (2, 400))
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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
@settings(max_examples=10, deadline=None)  # statsmodels collects garbage at every call
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
    assert (found.mean, found.median, found.q1, found.q3) == pytest.approx((2.5, 2.5, 1.75, 3.25))
    assert found.sd == pytest.approx(np.sqrt(5 / 3))
    assert found.interval is None
    assert any("2 without a value and 1 infinite" in note for note in found.notes)
    assert ends(summary([3.0] * 7).interval) == (3, 3)


# By simulation


@pytest.mark.parametrize(("draw", "mean", "least"), [("normal", 0.0, 0.91), ("exponential", 1.0, 0.88)])
def test_intervals_cover_about_as_often_as_they_say(draw, mean, least):
    rng = np.random.default_rng(5)
    runs = 300
    hits = 0
    for seed in range(runs):
        a = getattr(rng, draw)(size=40)
        interval = paired(a, np.zeros(40), margin=1, seed=seed).interval
        hits += interval.low <= mean <= interval.high
    assert least <= hits / runs <= 0.98  # binomial error 0.013; BCa runs a little narrow at n = 40


def test_tost_keeps_its_level_on_the_margin():
    rng = np.random.default_rng(6)
    claims = [paired(rng.normal(0.1, 0.2, 30), np.zeros(30), margin=0.1).equivalence for _ in range(300)]
    assert 0.01 < np.mean([claim.by_t for claim in claims]) < 0.09
    assert np.mean([claim.equivalent for claim in claims]) <= np.mean([claim.by_t for claim in claims])


# Symmetries


@given(samples | coarse)
@quick
def test_swapping_mirrors(pair):
    a, b = pair.astype(float)
    forth, back = paired(a, b, margin=0.1), paired(b, a, margin=0.1)
    assert (forth.sd, forth.signed_rank) == (back.sd, back.signed_rank)
    assert forth.equivalence.p == pytest.approx(back.equivalence.p)
    here, there = numbers(forth), [-x for x in numbers(back)]
    there[2:4] = there[3:1:-1]
    if forth.mean == 0:  # the interval then mirrors within Monte Carlo error only
        here[2:4] = there[2:4] = []
    assert here == pytest.approx(there, rel=1e-9, abs=1e-12)


@given(samples | coarse, st.randoms())
@quick
def test_shuffling_the_images_changes_nothing(pair, random):
    order = list(range(pair.shape[1]))
    random.shuffle(order)
    assert paired(*pair[:, order], margin=0.1) == paired(*pair, margin=0.1)


@given(coarse, st.floats(-100, 100))
@quick
def test_adding_one_number_to_both_changes_nothing(pair, shift):
    still, moved = (paired(*(pair + by), margin=0.1) for by in (0.0, shift))
    assert numbers(moved) == pytest.approx(numbers(still), abs=1e-9, rel=1e-9)
    assert moved.signed_rank == still.signed_rank  # rounding neither makes signs nor breaks ties
    assert moved.equivalence.equivalent == still.equivalence.equivalent


@given(coarse, st.sampled_from([2.0**-1000, 2.0**-30, 4.0, 2.0**1000]))
@quick
def test_the_unit_does_not_matter(pair, unit):
    plain, scaled = paired(*pair, margin=0.1), paired(*(pair * unit), margin=0.1 * unit)
    assert [x / unit for x in numbers(scaled)[:4]] == pytest.approx(numbers(plain)[:4])
    assert numbers(scaled)[4:] == pytest.approx(numbers(plain)[4:])
    assert scaled.signed_rank == plain.signed_rank
    assert scaled.equivalence.p == pytest.approx(plain.equivalence.p)


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 0.3, 1e200])
def test_a_unit_that_rounds_does_not_matter_either(unit):
    plain, scaled = paired(A, B, margin=0.05), paired(A * unit, B * unit, margin=0.05 * unit)
    assert [x / unit for x in numbers(scaled)[:4]] == pytest.approx(numbers(plain)[:4], abs=1e-4)
    assert scaled.signed_rank == plain.signed_rank
    assert scaled.equivalence.p == pytest.approx(plain.equivalence.p, rel=1e-6)


messy = st.lists(st.none() | st.floats(width=64), max_size=12)


@given(messy, messy, st.floats(1e-300, 1e300))
@settings(max_examples=150, deadline=None)
def test_any_numbers_give_a_result_that_is_json(a, b, margin):
    n = min(len(a), len(b))
    result = paired(a[:n], b[:n], margin=margin)
    assert result.n + result.excluded == n
    assert (result.mean is None) == (result.n == 0)
    assert (result.interval is None) == (result.n < 5)
    assert result.interval is None or result.interval.low <= result.interval.high
    assert "nan" not in in_words(result)
    if result.sd is None or np.isfinite(result.sd):
        json.dumps(asdict(result), allow_nan=False)
    about = summary(a)
    assert about.n + about.excluded == len(a)


# Degenerate samples


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_too_few_pairs_leave_the_undefined_undefined(n):
    result = paired(A[:n], B[:n], margin=0.05)
    assert (result.n, result.interval, result.equivalence.equivalent) == (n, None, None)
    assert (result.sd is None, result.d_z is None, result.equivalence.p is None) == (n < 2, n < 2, n < 2)
    assert (result.mean is None, result.signed_rank is None, result.rank_biserial is None) == (n == 0,) * 3
    assert any(f"({n})" in note for note in result.notes)


def test_equal_scores_are_no_difference():
    result = paired(B, B, margin=0.05)
    assert (result.mean, result.median, result.sd, result.rank_biserial, result.d_z) == (0, 0, 0, 0, None)
    assert (ends(result.interval), result.interval.method) == ((0, 0), "percentile")
    assert any("BCa is undefined" in note for note in result.notes)
    assert (result.signed_rank.p, result.signed_rank.null, result.signed_rank.zeros) == (1, "all zero", 60)
    assert (result.equivalence.p, result.equivalence.equivalent, result.distinguishable) == (0, True, False)


@pytest.mark.parametrize(("size", "p", "equivalent"), [(0.25, 0.0, True), (0.5, 0.5, False), (0.75, 1.0, False)])
def test_a_constant_difference_takes_tost_at_its_limit(size, p, equivalent):
    result = paired(np.zeros(20), np.full(20, size), margin=0.5)
    assert (result.mean, result.sd, result.d_z, result.rank_biserial) == (-size, 0, None, -1)
    assert (result.equivalence.p, result.equivalence.equivalent) == (p, equivalent)
    assert (result.equivalence.t_low, result.equivalence.beyond) == (None, size > 0.5)


def test_rounding_is_no_evidence():
    noisy = B + np.finfo(float).eps * RNG.choice([0, 1], 60)  # one sign only: every rank test would call it a shift
    assert paired(noisy, B, margin=0.05).signed_rank.null == "all zero"
    assert paired(B + 0.1, B, margin=0.05).sd == 0
    some = np.r_[noisy[:30], B[30:] + 0.1]  # 30 unchanged, 30 raised by one and the same amount
    test = paired(some, B, margin=0.05).signed_rank
    assert (test.zeros, test.p) == (30, pytest.approx(2 / 2**30))
    step = np.r_[B[:30] - 0.1, B[30:] + 0.1]
    assert paired(step, B, margin=0.05).rank_biserial == 0  # all tied
    assert paired(step, B, margin=0.05).signed_rank.statistic == 30 * 30.5


def test_undefined_and_infinite_pairs_are_counted_not_averaged():
    a = [np.inf, np.inf, None, np.nan, 1e308, 1.0, 3.0]
    b = [np.inf, 0.00, 1.0, np.inf, -1e308, 0.0, 0.0]
    result = paired(a, b, margin=1)
    assert (result.n, result.excluded, result.infinite, result.mean) == (2, 5, 3, 2)
    assert "Left out: 2 without a value and 3 infinite." in result.notes


def test_a_hundred_thousand_images():
    rng = np.random.default_rng(0)
    result = paired(rng.normal(0.001, 0.1, 100_000), np.zeros(100_000), margin=0.01)
    assert result.interval.method == "Student t"
    assert result.equivalence.equivalent


# Words

FLOAT = np.linspace(0.5, 0.9, 40)
WOBBLE = np.random.default_rng(0).permutation(np.linspace(-0.01, 0.01, 40))


def words(a, b, margin=0.05, **names):
    return in_words(paired(a, b, margin=margin), **names)


def test_words_for_a_clear_loss():
    text = words(FLOAT - 0.2 + WOBBLE, FLOAT)
    assert text.startswith(
        "On average over 40 images, CC is 0.2 lower for W8A8 than for float (95 % confidence interval -0.202 to "
    )
    assert "; the differences are distinguishable from zero (Wilcoxon signed-rank test, p < 0.001, not cor" in text
    assert "They are not equivalent: the mean difference lies beyond the margin of ±0.05 (TOST p = 1, 90 % con" in text
    assert "lower" not in words(FLOAT, FLOAT - 0.2 + WOBBLE)


def test_words_for_a_small_gain_name_the_correction():
    result = paired(FLOAT + 0.02 + WOBBLE, FLOAT, margin=0.05)
    text = in_words(family({"one": result, "two": result})["one"], what="SIM", a="W4A8", b="W8A8")
    assert "SIM is 0.02 higher for W4A8 than for W8A8" in text
    assert "Holm-corrected over 2 tests" in text
    assert "Even so, they are equivalent within the margin of ±0.05 (TOST p < 0.001" in text
    assert "Holm-corrected over 1 test)" in in_words(family({"one": result})["one"])


@pytest.mark.parametrize(
    ("spread", "verdict"), [(1, "They are equivalent within"), (40, "Equivalence within the margin of ±0.05 is not")]
)
def test_words_never_take_a_silent_test_for_equality(spread, verdict):
    text = words(FLOAT + spread * WOBBLE + 0.0001, FLOAT)
    assert "not distinguishable from zero" in text
    assert "which does not show that there are none" in text
    assert verdict in text


def test_words_when_mean_and_ranks_disagree():
    assert "by rank they lean the other way" in words(np.r_[np.full(50, -0.01), np.full(5, 1.0)], np.zeros(55))


def test_words_when_the_two_checks_disagree():
    d = np.r_[np.zeros(30), 0.5]
    texts = [words(d, 0 * d, margin) for margin in np.linspace(0.03, 0.08, 30)]
    assert any("is not claimed, because its two checks disagree" in text for text in texts)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([], [], "No image has a finite CC for both W8A8 and float, so nothing can be said of them."),
        ([None], [1.0], "No image has a finite CC for both W8A8 and float (1 without a value left out), so nothing"),
        ([1.0], [0.5], "On the one image that has both, CC is 0.5 higher for W8A8 than for float, and a single image"),
        ([1.0], [0.5], "Equivalence within the margin of ±0.05 cannot be judged from 1 image."),
        ([1.0, 2.0], [0.5, 2.1], "On average over 2 images, CC is 0.2 higher"),
        ([1.0, 2.0], [0.5, 2.1], "(too few images for a confidence interval); too few images differ for a test"),
        ([1.0, 2.0, np.inf], [0.5, 2.1, 0.0], "over 2 images (1 infinite left out), CC"),
        ([1.0, None, np.inf, 0.0], [0.5, 2.1, 0.0, 1.0], "(1 without a value and 1 infinite left out)"),
        ([1.0, -1.0], [0.0, 0.0], "On average over 2 images, CC is the same for W8A8 and float"),
        (FLOAT, FLOAT, "On every one of 40 images, CC is the same for W8A8 and float, so there is no difference to"),
        (FLOAT, FLOAT, "On these images they are equivalent within the margin of ±0.05: every difference lies inside"),
        (FLOAT, FLOAT + 0.1, "On every one of 40 images, CC is 0.1 lower for W8A8 than for float, by the same amount;"),
        (FLOAT, FLOAT + 0.1, "They are not equivalent within the margin of ±0.05: no difference lies inside it."),
    ],
)
def test_words_for_degenerate_samples(a, b, expected):
    assert expected in words(a, b)


@given(samples | coarse)
@quick
def test_words_are_one_or_two_sentences_and_deterministic(pair):
    result = paired(*pair, margin=0.1)
    text = in_words(result)
    assert text == in_words(replace(result))
    assert text.endswith(".")
    assert text.count(". ") <= 1


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired([1.0], [1.0, 2.0], margin=1), "a and b hold 1 and 2 values"),
        (lambda: paired(np.ones((2, 2)), np.ones((2, 2)), margin=1), r"a has shape \(2, 2\)"),
        (lambda: paired([1.0], ["x"], margin=1), "b holds <U1 values"),
        (lambda: paired([1.0, None], ["1", None], margin=1), "b holds object values"),
        (lambda: paired([1j], [1.0], margin=1), "a holds complex128 values"),
        (lambda: paired([{}], [1.0], margin=1), "a holds something that is no number"),
        (lambda: paired([10**400], [1.0], margin=1), "a holds something that is no number"),
        (lambda: paired([[1.0], [1.0, 2.0]], [1.0], margin=1), "a is a ragged nest"),
        (lambda: paired([1.0], [1.0], margin=0), "Margin 0 is not"),
        (lambda: paired([1.0], [1.0], margin=float("nan")), "Margin nan is not"),
        (lambda: paired([1.0], [1.0], margin=10**400), "Margin 1000"),
        (lambda: paired([1.0], [1.0], margin="0.1"), "Margin '0.1' is not"),
        (lambda: paired([1.0], [1.0], margin=1, confidence=0.5), "Confidence 0.5 is not"),
        (lambda: paired([1.0], [1.0], margin=1, confidence=95), "Confidence 95 is not"),
        (lambda: paired([1.0], [1.0], margin=1, seed=-1), "Seed -1 is not"),
        (lambda: summary([[1.0]]), r"values has shape \(1, 1\)"),
        (lambda: holm([0.5, 1.5]), "p-value 1.5 is outside"),
        (lambda: family({"CC": 0.5}), "'CC' holds a float"),
    ],
)
def test_refusals_say_what_was_wrong(call, message):
    with pytest.raises(UsageError, match=message):
        call()
