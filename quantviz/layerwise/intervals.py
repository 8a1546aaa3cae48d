"""How sure the shares of a protocol's switches and the mean CCs are: the bootstrap over the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from math import factorial
from typing import Final

import numpy as np
import numpy.typing as npt

RESAMPLES: Final = 2000
"""Bootstrap samples of the pictures."""

SEED: Final = 0
"""Of the draws, where no other one is given."""

Agreement = Mapping[frozenset[str], npt.NDArray[np.float64]]
"""Switches that are on -> CC of quantized v float map of each image, NaN where a map carries no evidence."""

_LEAST_PICTURES: Final = 10  # of fewer, no sample is like another


def share_intervals(agreement: Agreement, seed: int = SEED) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each switch's Shapley value, over other pictures of the kind.

    The pictures are drawn anew with replacement, the same ones for every subset, and the shares computed from each
    sample's means; the ends are the 2.5 and 97.5 percentiles (percentile bootstrap, Efron 1979). As in the shares
    themselves, a subset's mean leaves out pictures of which a map carries no evidence.

    Args:
        agreement: every subset of the switches -> CC of each picture, NaN where it has none.
        seed: of the draws.

    Returns:
        Switch -> (low, high); {} with fewer than 10 pictures, or where a subset has no picture in most samples.
    """
    means = _resampled_means(agreement, seed)
    if means is None:
        return {}
    subsets = list(agreement)
    switches = sorted(frozenset(chain.from_iterable(subsets)))
    return dict(zip(switches, _ends(means @ _weights(subsets, switches).T), strict=True))


def mean_intervals(agreement: Agreement, seed: int = SEED) -> dict[frozenset[str], tuple[float, float]]:
    """Return the 95 % interval of each subset's mean CC, by the samples of ``share_intervals``.

    Args:
        agreement: as in ``share_intervals``.
        seed: of the draws.

    Returns:
        Subset -> (low, high); {} where ``share_intervals`` is.
    """
    means = _resampled_means(agreement, seed)
    return {} if means is None else dict(zip(agreement, _ends(means), strict=True))


def _resampled_means(agreement: Agreement, seed: int) -> npt.NDArray[np.float64] | None:
    """Return the mean CC of each subset in each sample of the pictures, (samples, subsets); None where too few are."""
    values = np.array(list(agreement.values()))  # (subsets, pictures)
    count = values.shape[1]
    if count < _LEAST_PICTURES:
        return None
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    known = ~np.isnan(values)
    scored = draws @ known.T  # (samples, subsets)
    whole = (scored > 0).all(axis=1)
    if whole.mean() < 0.5:
        return None
    means: npt.NDArray[np.float64] = (draws @ np.where(known, values, 0.0).T)[whole] / scored[whole]
    return means


def _ends(columns: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    low, high = np.quantile(columns, (0.025, 0.975), axis=0)
    return [(float(first), float(last)) for first, last in zip(low, high, strict=True)]


def _weights(subsets: list[frozenset[str]], switches: list[str]) -> npt.NDArray[np.float64]:
    """Return what each subset's mean counts in each switch's Shapley value, (switches, subsets)."""
    count = len(switches)
    weights = np.zeros((count, len(subsets)))
    for column, names in enumerate(subsets):
        for row, switch in enumerate(switches):
            others = len(names - {switch})
            weight = factorial(others) * factorial(count - others - 1) / factorial(count)
            weights[row, column] = weight if switch in names else -weight
    return weights
