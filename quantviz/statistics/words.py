"""A paired comparison in one or two plain sentences."""

from __future__ import annotations

from quantviz.statistics.results import Interval, PairedResult


def in_words(result: PairedResult, *, what: str = "CC", a: str = "W8A8", b: str = "float") -> str:
    """Say direction, size, whether it differs from zero, and whether it is equivalent within the margin.

    That a test finds nothing is never taken for proof of no difference; only the equivalence test speaks for that
    (Altman and Bland, "Absence of evidence is not evidence of absence", BMJ 311, 1995, doi 10.1136/bmj.311.7003.485).

    Args:
        result: from ``paired``, after ``family`` where several comparisons are read together.
        what: name of the score.
        a: name of the first sample.
        b: name of the second.

    Returns:
        One or two sentences of plain text; the same for the same result.
    """
    left_out = _left_out(result)
    if result.n == 0:
        return f"No image has a finite {what} for both {a} and {b}{left_out}, so nothing can be said of them."
    return f"{_size(result, what, a, b, left_out)}{_test(result)} {_equivalence(result)}"


def _left_out(result: PairedResult) -> str:
    if not result.excluded:
        return ""
    undefined = result.excluded - result.infinite
    parts = [f"{undefined} without a value"] * (undefined > 0) + [f"{result.infinite} infinite"] * (result.infinite > 0)
    return f" ({' and '.join(parts)} left out)"


def _size(result: PairedResult, what: str, a: str, b: str, left_out: str) -> str:
    mean, n = result.mean or 0.0, result.n
    apart = f"{what} is {_number(abs(mean))} {'higher' if mean > 0 else 'lower'} for {a} than for {b}"
    same = f"{what} is the same for {a} and {b}"
    if n == 1:
        return f"On the one image that has both{left_out}, {apart if mean else same}"
    if result.sd == 0:
        return f"On every one of {n} images{left_out}, {apart + ', by the same amount' if mean else same}"
    text = f"On average over {n} images{left_out}, {apart if mean else same}"
    if result.interval is None:
        return f"{text} (too few images for a confidence interval)"
    return f"{text} ({_interval(result.interval)} for {a} - {b})"


def _test(result: PairedResult) -> str:
    test, p = result.signed_rank, result.p
    if result.n == 1 or test is None or p is None:
        return ", and a single image allows no test."
    if test.null == "all zero":
        return ", so there is no difference to test."
    count = result.family_size
    corrected = f"Holm-corrected over {count} test{'s' * (count != 1)}" if count else "not corrected for other tests"
    evidence = f"(Wilcoxon signed-rank test, {_p(p)}, {corrected})"
    if result.distinguishable:
        opposed = (result.rank_biserial or 0.0) * (result.mean or 0.0) < 0
        turn = ", although by rank they lean the other way: a few large ones set the mean" if opposed else ""
        return f"; the differences are distinguishable from zero {evidence}{turn}."
    fewest = 2.0 ** (1 + test.zeros - result.n)  # p when all differences other than zero have one sign
    if fewest > result.alpha:
        return f"; too few images differ for a test to distinguish that from zero {evidence}."
    return f"; the differences are not distinguishable from zero {evidence}, which does not show that there are none."


def _equivalence(result: PairedResult) -> str:
    test = result.equivalence
    within = f"the margin of ±{_number(test.margin)}"
    if test.equivalent is None or test.p is None or test.interval is None:
        return f"Equivalence within {within} cannot be judged from {result.n} image{'s' * (result.n != 1)}."
    if result.sd == 0:
        if test.equivalent:
            return f"On these images they are equivalent within {within}: every difference lies inside it."
        return f"They are not equivalent within {within}: no difference lies inside it."
    evidence = f"(TOST {_p(test.p)}, {_interval(test.interval)})"
    if test.equivalent:
        return f"{'Even so, they' if result.distinguishable else 'They'} are equivalent within {within} {evidence}."
    if test.beyond:
        return f"They are not equivalent: the mean difference lies beyond {within} {evidence}."
    if test.by_t != test.by_interval:
        return f"Equivalence within {within} is not claimed, because its two checks disagree {evidence}."
    return f"Equivalence within {within} is not shown {evidence}."


def _interval(interval: Interval) -> str:
    return f"{100 * interval.confidence:.6g} % confidence interval {_number(interval.low)} to {_number(interval.high)}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3g}"
