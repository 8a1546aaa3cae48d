"""Limits decided by confidence bounds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from quantviz import statistics
from quantviz.guard.baseline import baseline_bytes, paired, read_baseline, taken
from quantviz.guard.bounds import Levels, levels_of, mean_bounds, part_bounds, rise_bounds
from quantviz.guard.decide import Case, decide, outcome_of
from quantviz.guard.draft import draft_limits
from quantviz.guard.specs import CHANGES, LIMITS, Limit, Measured, Outcome
from quantviz.specs import UsageError

CELL = ("net", "W8A8", "calibrated")


def sample(pictures, seed=0, *, drift=0.01, lost=0.02, classes=2):
    """Return made-up results: skewed drift, and so many pictures that only the float network gets right."""
    rng = np.random.default_rng(seed)
    right = (rng.random(pictures) < 0.8).astype(float)
    wrong_now = rng.random(pictures) < lost
    return Measured(
        cell=CELL,
        pictures=tuple(f"{seed}-{place}" for place in range(pictures)),
        drift=rng.lognormal(np.log(drift), 0.8, pictures),
        flipped=wrong_now.astype(float),
        float_correct=right,
        correct=np.where(wrong_now, 0.0, right),
        label=np.arange(pictures) % float(classes),
        probability=rng.lognormal(np.log(0.02), 0.8, pictures).clip(max=1),
        logit_noise=rng.lognormal(np.log(0.01), 0.4, pictures),
        floor={"shift": np.full(pictures, 0.004)},
        size=1_000_000,
    )


def verdict(values, limit, **settings):
    (found,) = decide([Case(values)], [limit], **settings)
    return found


def test_a_mean_is_held_by_its_upper_and_broken_by_its_lower_bound():
    values = sample(200)
    free = verdict(values, Limit("mean_drift", 1.0))
    assert free.low < free.estimate < free.high
    assert free.estimate == pytest.approx(values.drift.mean())
    assert free.outcome is Outcome.HOLDS
    assert verdict(values, Limit("mean_drift", free.high)).outcome is Outcome.HOLDS
    assert verdict(values, Limit("mean_drift", np.nextafter(free.high, 0))).outcome is Outcome.UNDECIDED
    assert verdict(values, Limit("mean_drift", free.low)).outcome is Outcome.UNDECIDED
    assert verdict(values, Limit("mean_drift", np.nextafter(free.low, 0))).outcome is Outcome.BROKEN


def test_bounds_of_parts_are_those_of_scipy():
    bounds = part_bounds(3, 50, Levels(0.05, 0.01))
    test = stats.binomtest(3, 50)
    assert bounds.high == pytest.approx(test.proportion_ci(0.90, "exact").high)
    assert bounds.low == pytest.approx(test.proportion_ci(0.98, "exact").low)
    assert statistics.exact_low(0, 50, 0.05) == 0
    assert statistics.exact_high(50, 50, 0.05) == 1


def test_bounds_of_a_rise_hold_both_directions():
    bounds = rise_bounds(5, 2, 100, Levels(0.05, 0.05))
    high = statistics.exact_high(5, 100, 0.025) - statistics.exact_low(2, 100, 0.025)
    assert (bounds.estimate, bounds.high) == (pytest.approx(0.03), pytest.approx(high))
    mirrored = rise_bounds(2, 5, 100, Levels(0.05, 0.05))
    assert (mirrored.estimate, mirrored.low) == (pytest.approx(-0.03), pytest.approx(-high))


def test_the_pictures_needed_decide_and_fewer_do_not():
    levels = levels_of(0.95, 1)
    needed = part_bounds(2, 50, levels).needed(0.06)
    assert statistics.exact_high(int(np.ceil(0.04 * needed)), needed, 0.05) <= 0.06
    fewer = int(needed * 0.9)
    assert statistics.exact_high(int(np.ceil(0.04 * fewer)), fewer, 0.05) > 0.06
    values = sample(60).drift
    bounds = mean_bounds(values, levels)
    limit = values.mean() * 1.05
    assert bounds.high > limit
    more = np.resize(values, bounds.needed(limit) * 13 // 10)
    assert mean_bounds(more, levels).high <= limit


def test_what_lies_at_its_limit_is_never_decided():
    values = replace(sample(100), flipped=np.repeat([0.0, 1.0], [90, 10]))
    found = verdict(values, Limit("flips", 0.1))
    assert (found.outcome, found.needed) == (Outcome.UNDECIDED, None)


def test_fewer_than_twenty_pictures_decide_no_mean():
    found = verdict(sample(19), Limit("mean_drift", 1.0))
    assert (found.outcome, found.low, found.high, found.needed) == (Outcome.UNDECIDED, None, None, 20)


def test_more_limits_make_it_harder_to_break_one_and_no_harder_to_hold():
    values, limits = sample(200), [Limit("mean_drift", 1.0), Limit("flips", 0.5), Limit("accuracy", 0.1)]
    alone, together = verdict(values, limits[0]), decide([Case(values)], limits)[0]
    assert together.high == alone.high
    assert together.low < alone.low


def test_accuracy_is_limited_from_below():
    values = replace(sample(100), correct=np.repeat([1.0, 0.0], [80, 20]))
    found = verdict(values, Limit("accuracy", 0.7))
    exact = stats.binomtest(80, 100).proportion_ci(0.90, "exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert found.outcome is Outcome.HOLDS
    assert verdict(values, Limit("accuracy", 0.95)).outcome is Outcome.BROKEN
    assert verdict(values, Limit("accuracy", 0.8)).outcome is Outcome.UNDECIDED


def test_the_worst_class_is_judged_by_its_own_pictures():
    correct = np.ones(300)
    correct[:60] = 0  # all of the first class
    values = replace(
        sample(300), float_correct=np.ones(300), correct=correct, label=np.repeat(np.arange(5.0), 60), pictures=()
    )
    (found,) = decide([Case(values, names=("ash", "elm"))], [Limit("worst_class_drop", 0.5)])
    assert (found.outcome, found.estimate, found.n) == (Outcome.BROKEN, 1.0, 60)
    assert found.note == "ash, of 5 classes"
    assert verdict(values, Limit("accuracy_drop", 0.5)).outcome is Outcome.HOLDS
    single = replace(values, label=np.arange(300.0))
    undecided = verdict(single, Limit("worst_class_drop", 0.5))
    assert undecided.outcome is Outcome.UNDECIDED
    assert undecided.needed > 1


def test_pictures_beyond_the_worst_are_counted():
    values = sample(100)
    values = replace(values, drift=np.where(np.arange(100) < 30, 0.9, 0.01))
    assert verdict(values, Limit("worst_picture", 0.5)).outcome is Outcome.BROKEN
    assert verdict(values, Limit("worst_picture", 0.95)).outcome is Outcome.HOLDS
    assert verdict(taken(values, np.arange(30, 60)), Limit("worst_picture", 0.95)).needed >= 59


def test_drift_over_the_floor_is_a_ratio_of_means():
    values = sample(200)
    found = verdict(values, Limit("drift_over_floor", 3.0))
    assert found.estimate == pytest.approx(values.drift.mean() / 0.004)
    assert found.low < found.estimate < found.high
    assert verdict(values, Limit("drift_over_floor", found.high + 0.01)).outcome is Outcome.HOLDS


def test_a_change_is_judged_on_the_same_pictures(tmp_path):
    before = sample(200)
    (tmp_path / "base.json").write_bytes(baseline_bytes([before]))
    (read,) = read_baseline(tmp_path / "base.json")
    assert baseline_bytes([read]) == (tmp_path / "base.json").read_bytes()
    worse = replace(taken(before, np.arange(199, 49, -1)), drift=before.drift[:49:-1] + 0.003)
    limits = [Limit(name, 0.001, "baseline") for name in CHANGES]
    found = {one.limit.name: one for one in decide([Case(worse, paired(worse, [read]))], limits)}
    assert found["mean_drift"].outcome is Outcome.BROKEN
    assert found["mean_drift"].estimate == pytest.approx(0.003)
    assert (found["flips"].estimate, found["accuracy"].estimate, found["size"].estimate) == (0, 0, 0)
    with pytest.raises(UsageError, match="none of these pictures"):
        paired(sample(20, seed=5), [read])


def test_a_ratio_to_the_baseline_is_judged_picture_by_picture():
    before = sample(100)
    worse = replace(before, logit_noise=1.3 * before.logit_noise, drift=before.drift[::-1].copy())
    limits = [Limit(f"{name}_over_baseline", 1.25, "baseline") for name in ("drift", "probability", "logit_noise")]
    drift, probability, noise = decide([Case(worse, (worse, before))], limits)
    assert (noise.estimate, noise.outcome) == (pytest.approx(1.3), Outcome.BROKEN)
    assert noise.low == pytest.approx(1.25 + 0.05 * mean_ratio(before.logit_noise, levels_of(0.95, 3).broken))
    assert (probability.estimate, probability.outcome) == (1, Outcome.HOLDS)
    assert (drift.estimate, drift.outcome) == (pytest.approx(1), Outcome.UNDECIDED)  # the same mean, of other pictures
    assert drift.low < 1 < drift.high


def mean_ratio(values, level):
    """Return the lower bound of a mean over the mean."""
    return mean_bounds(values, Levels(0.05, level)).low / values.mean()


def test_a_baseline_of_before_is_read_and_says_what_it_lacks(tmp_path):
    values = sample(100)
    content = json.loads(baseline_bytes([values]))
    for name in ("probability", "logit_noise"):
        del content["cells"][0][name]
    (tmp_path / "old.json").write_text(json.dumps(content))
    (old,) = read_baseline(tmp_path / "old.json")
    limits = [Limit("drift_over_baseline", 1.1, "baseline"), Limit("logit_noise_over_baseline", 9.0, "baseline")]
    drift, noise = decide([Case(values, paired(values, [old]))], limits)
    assert drift.outcome is Outcome.HOLDS
    assert (noise.outcome, noise.n, noise.note) == (Outcome.UNDECIDED, 0, "the baseline's is not known")


def test_size_takes_no_share_of_the_level():
    values, limits = sample(200), [Limit("mean_drift", 1.0), Limit("size", 999_999.0)]
    drift, size = decide([Case(values)], limits)
    assert (size.outcome, size.estimate) == (Outcome.BROKEN, 1_000_000)
    assert drift.low == verdict(values, limits[0]).low


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        (("holds", "holds"), "holds"),
        (("holds", "undecided"), "undecided"),
        (("undecided", "broken"), "broken"),
    ],
)
def test_the_whole_is_broken_before_it_is_undecided(outcomes, whole):
    one = verdict(sample(50), Limit("flips", 0.5))
    assert outcome_of([replace(one, outcome=Outcome(outcome)) for outcome in outcomes]) == whole


def test_drafted_limits_hold_where_they_come_from():
    cells = [sample(200, seed) for seed in range(3)]
    limits = draft_limits(cells)
    assert {limit.name for limit in limits} == set(LIMITS)
    assert outcome_of(decide([Case(one) for one in cells], limits)) is Outcome.HOLDS


def test_no_change_seldom_fails_and_a_planted_one_does():
    """A small form of docs/tools/guard_power.py, which draws from real networks."""
    rng = np.random.default_rng(0)
    population, worse = sample(400), replace(sample(400), drift=sample(400).drift * 4)
    limits = draft_limits([taken(population, rng.integers(0, 400, 100))])
    limits = tuple(limit for limit in limits if limit.name in ("mean_drift", "flips", "worst_picture"))
    drawn = [rng.integers(0, 400, 100) for _ in range(20)]
    assert [outcome_of(decide([Case(taken(population, at))], limits)) for at in drawn].count(Outcome.BROKEN) <= 1
    assert all(outcome_of(decide([Case(taken(worse, at))], limits)) is Outcome.BROKEN for at in drawn[:5])
