"""Paired comparisons of shifted, shuffled, tiny, equal, constant and very large samples."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistics_support import A, B, coarse, ends, quick, samples

from quantviz.statistics import ALL_EQUAL, LIMIT, in_words, paired, summary


def numbers(result):
    """Everything of a result that changes sign when a and b swap."""
    low, high = ends(result.interval) or (0, 0)
    return [x or 0 for x in (result.mean, result.median, low, high, result.rank_biserial, result.d_z)]


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
    assert (ends(result.interval), result.interval.method) == ((0, 0), ALL_EQUAL)
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
    noise = np.random.default_rng(4).choice([0, 1], 60)  # one sign only: every rank test would call it a shift
    noisy = B + np.finfo(float).eps * noise
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
    assert result.interval.method == LIMIT
    assert result.equivalence.equivalent
