"""The bootstrap of a protocol's shares against Shapley values of each sample, computed one by one."""

from itertools import chain, combinations

import numpy as np
import pytest

from quantviz.layerwise.attribution import common_shares, shapley
from quantviz.layerwise.intervals import RESAMPLES, mean_intervals, share_intervals

SWITCHES = ("a", "b", "c")
SUBSETS = [frozenset(some) for some in chain.from_iterable(combinations(SWITCHES, size) for size in range(4))]


def agreements(pictures, seed=0):
    generator = np.random.default_rng(seed)
    return {
        names: 0.9 - 0.2 * ("a" in names) - 0.05 * len(names) + 0.1 * generator.standard_normal(pictures)
        for names in SUBSETS
    }


def test_the_ends_are_percentiles_of_the_shares_of_samples():
    found = agreements(12)
    found[frozenset("a")][3] = np.nan
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), RESAMPLES)
    shares = {name: [] for name in SWITCHES}
    for often in draws:
        means = {names: float(np.nanmean(np.repeat(values, often))) for names, values in found.items()}
        for name in SWITCHES:
            shares[name].append(shapley(means, name))
    for name, ends in share_intervals(found).items():
        assert ends == pytest.approx(np.quantile(shares[name], (0.025, 0.975)), abs=1e-9)


def test_more_pictures_give_narrower_intervals_around_the_truth():
    few, many = share_intervals(agreements(20)), share_intervals(agreements(2000))
    for name in SWITCHES:
        assert many[name][1] - many[name][0] < few[name][1] - few[name][0]
    assert many["a"][0] < -0.25 < many["a"][1]


def test_too_few_pictures_or_too_little_evidence_have_none():
    assert share_intervals(agreements(9)) == {}
    found = agreements(12)
    found[frozenset("b")][:] = np.nan
    assert share_intervals(found) == {}


def test_means_have_the_percentiles_of_the_same_samples():
    found = agreements(12)
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), RESAMPLES)
    ends = mean_intervals(found)
    assert list(ends) == SUBSETS
    for names, values in found.items():
        assert ends[names] == pytest.approx(np.quantile(draws @ values / 12, (0.025, 0.975)), abs=1e-9)
    assert mean_intervals(agreements(9)) == {}


def test_common_shares_are_of_the_pictures_that_every_subset_scores():
    found = agreements(14)
    found[frozenset("a")][3] = found[frozenset("bc")][7] = np.nan
    kept = [place for place in range(14) if place not in (3, 7)]
    common = common_shares(found)
    means = {names: float(values[kept].mean()) for names, values in found.items()}
    assert common.images == 12
    assert common.share == pytest.approx({name: shapley(means, name) for name in SWITCHES})
    assert sum(common.share.values()) == pytest.approx(common.paper - common.calibrated)
    assert common.intervals == share_intervals({names: values[kept] for names, values in found.items()})
    found[frozenset()][:] = np.nan
    assert common_shares(found) is None
