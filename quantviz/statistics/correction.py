"""Holm's correction of p-values that are judged together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from quantviz.specs import UsageError
from quantviz.statistics.results import PairedResult
from quantviz.statistics.sample import Float64, Values, column


def holm(p_values: Values) -> Float64:
    """Correct p-values so that the chance of even one false discovery stays at most alpha.

    Of the m sorted p-values p(1) <= ... <= p(m), the j-th becomes max over i <= j of min(1, (m - i + 1)·p(i)). Source:
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979,
    jstor 4615733. Holds under any dependence of the tests. Not for screening hundreds of hypotheses, where it has
    little power and a false discovery rate is the usual target.

    Args:
        p_values: (n,) in [0, 1]; NaN or None where no test was made.

    Returns:
        float64 (n,) in the same order; NaN stays NaN and does not count towards m.

    Raises:
        UsageError: a p-value is outside [0, 1], or they are not one-dimensional real numbers.
    """
    values = column(p_values, "p_values")
    tested = ~np.isnan(values)
    wrong = values[tested & ~((values >= 0) & (values <= 1))]
    if wrong.size:
        raise UsageError(f"p-value {wrong[0]:g} is outside [0, 1].")
    adjusted = np.full(values.shape, np.nan)
    # statsmodels' multipletests gives the same, but makes Python search all memory for garbage: 0.3 s beside torch.
    known = values[tested]
    order = np.argsort(known, kind="stable")
    steps = np.maximum.accumulate(known[order] * np.arange(known.size, 0, -1))
    corrected = np.empty_like(known)
    corrected[order] = np.minimum(steps, 1.0)
    adjusted[tested] = corrected
    return adjusted


def family(results: Mapping[str, PairedResult]) -> dict[str, PairedResult]:
    """Correct the signed-rank p-values of comparisons that are read together, by Holm's method.

    Put into one family everything from which a reader may pick the most striking result: all precisions, and all
    metrics, of one table. Equivalence is not corrected: that all members are equivalent may be claimed at alpha as it
    is (an intersection-union test, Berger 1982, doi 10.1080/00401706.1982.10487790); that a picked member is, may not.

    Args:
        results: comparison's name -> result.

    Returns:
        The same names in the same order, with ``p_adjusted`` and ``family_size`` set; ``p_adjusted`` is None where a
        comparison has no pairs, and such a comparison does not count.

    Raises:
        UsageError: a value is not a PairedResult.
    """
    for name, result in results.items():
        if not isinstance(result, PairedResult):
            raise UsageError(f"{name!r} holds a {type(result).__name__}; give what paired returned.")
    tests = [result.signed_rank for result in results.values()]
    adjusted = holm([None if test is None else test.p for test in tests])
    size = sum(test is not None for test in tests)
    return {
        name: replace(result, p_adjusted=None if np.isnan(p) else float(p), family_size=size)
        for (name, result), p in zip(results.items(), adjusted, strict=True)
    }
