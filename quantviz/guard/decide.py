"""Each limit decided by its confidence bound: it holds, is broken, or cannot be decided with so many pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantviz.guard.bounds import Bounds, Levels, counts, levels_of, mean_bounds, part_bounds, rise_bounds
from quantviz.guard.specs import CONFIDENCE, Cell, Column, Limit, Measured, Outcome, Verdict

_NOTHING = np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A quantized network with what it is judged against.

    Attributes:
        now: what is measured of it.
        pair: the same and what the baseline says of it, both on the pictures that they share, in the same order; None
            without a baseline.
        names: class index -> name, for messages.
    """

    now: Measured
    pair: tuple[Measured, Measured] | None = None
    names: Sequence[str] = ()


def decide(cases: Sequence[Case], limits: Sequence[Limit], *, confidence: float = CONFIDENCE) -> tuple[Verdict, ...]:
    """Decide limits for quantized networks.

    A limit holds where the upper confidence bound of its value is at most the limit, is broken where the lower bound is
    above it, and is undecided between. Upper bounds are at ``confidence`` each: the chance that the check says that all
    limits hold, though one does not, stays within 1 - confidence (an intersection-union test). Lower bounds share
    1 - confidence among all limits and networks (Bonferroni): so does the chance of even one false failure. Sizes are
    counted, not estimated, and take no share.

    Args:
        cases: the networks.
        limits: of each of them; those against the baseline are for the cases that have one.
        confidence: in (0.5, 1).

    Returns:
        The verdicts by network, in the order of the limits.
    """
    asked = asked_of(cases, limits)
    levels = levels_of(confidence, family_of(asked))
    return tuple(_verdict(case, limit, levels) for case, limit in asked)


def asked_of(cases: Sequence[Case], limits: Sequence[Limit]) -> list[tuple[Case, Limit]]:
    """Return each network with each limit that can be judged of it."""
    return [(case, limit) for case in cases for limit in limits if limit.against == "float" or case.pair is not None]


def family_of(asked: Sequence[tuple[Case, Limit]]) -> int:
    """Return how many limits can be broken by chance, of all networks together."""
    return sum(limit.name != "size" for _, limit in asked)


def outcome_of(verdicts: Sequence[Verdict]) -> Outcome:
    """Return what verdicts come to together: broken where one is; else undecided where one is; else it holds."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return next((one for one in (Outcome.BROKEN, Outcome.UNDECIDED) if one in outcomes), Outcome.HOLDS)


def _verdict(case: Case, limit: Limit, levels: Levels) -> Verdict:
    judge = (_CHANGES if limit.against == "baseline" else _LIMITS)[limit.name]
    return judge(case, limit, levels)


def _judged(cell: Cell, limit: Limit, bounds: Bounds, note: str = "") -> Verdict:
    """Return the verdict on a value that may not exceed the limit."""
    high, low, bound = bounds.high, bounds.low, limit.bound
    if high is not None and high <= bound:
        outcome = Outcome.HOLDS
    elif low is not None and low > bound:
        outcome = Outcome.BROKEN
    else:
        outcome = Outcome.UNDECIDED
    needed = bounds.needed(bound) if outcome is Outcome.UNDECIDED and bounds.n else None
    if needed is not None:
        needed = max(needed, bounds.n + 1)
    return Verdict(cell, limit, outcome, bounds.estimate, low, high, bounds.n, needed, bounds.method, note)


def _mean_drift(case: Case, limit: Limit, levels: Levels) -> Verdict:
    return _judged(case.now.cell, limit, mean_bounds(_known(case.now.drift), levels))


def _over_floor(case: Case, limit: Limit, levels: Levels) -> Verdict:
    """Judge mean drift against a multiple of the noise floor, of the change that makes the greater one."""
    name, floor = max(case.now.floor.items(), key=lambda entry: float(np.nan_to_num(entry[1]).mean()))
    return _over(case.now, limit, levels, case.now.drift, floor, f"the floor ({name})")


def _over(now: Measured, limit: Limit, levels: Levels, values: Column, base: Column, what: str) -> Verdict:
    """Judge the mean of values (n,) against so many times the mean of a base (n,), paired by picture.

    A picture's value minus the limit times its base has a mean of at most 0 where the ratio of the means is at most the
    limit: no ratio has to be bounded (Fieller's way, 1954, doi 10.1111/j.2517-6161.1954.tb00159.x), and what the two
    have in common cancels.
    """
    both = ~np.isnan(values) & ~np.isnan(base)
    values, base = values[both], base[both]
    zero = _judged(now.cell, replace(limit, value=0.0), mean_bounds(values - limit.value * base, levels))
    mean = float(base.mean()) if base.size else 0.0
    if mean <= 0:
        why = f"{what} is 0" if base.size else f"{what} is not known"
        return replace(zero, limit=limit, estimate=None, low=None, high=None, note=why)
    ends = [None if end is None else limit.value + end / mean for end in (zero.low, zero.high)]
    note = f"{values.mean():.4g} over {mean:.4g}, {what}"
    return replace(zero, limit=limit, estimate=float(values.mean()) / mean, low=ends[0], high=ends[1], note=note)


def _probability(case: Case, limit: Limit, levels: Levels) -> Verdict:
    return _judged(case.now.cell, limit, mean_bounds(_known(case.now.probability), levels))


def _logit_noise(case: Case, limit: Limit, levels: Levels) -> Verdict:
    return _judged(case.now.cell, limit, mean_bounds(_known(case.now.logit_noise), levels))


def _flips(case: Case, limit: Limit, levels: Levels) -> Verdict:
    flipped = _known(case.now.flipped)
    return _judged(case.now.cell, limit, part_bounds(int(flipped.sum()), len(flipped), levels))


def _accuracy(case: Case, limit: Limit, levels: Levels) -> Verdict:
    """Judge the part of wrong pictures against 1 - limit, and show it as accuracy again."""
    correct = _known(case.now.correct)
    bounds = part_bounds(int((correct == 0).sum()), len(correct), levels)
    wrong = _judged(case.now.cell, replace(limit, value=1 - limit.value), bounds)
    estimate, high, low = (None if one is None else 1 - one for one in (wrong.estimate, wrong.low, wrong.high))
    return replace(wrong, limit=limit, estimate=estimate, low=low, high=high)


def _accuracy_drop(case: Case, limit: Limit, levels: Levels) -> Verdict:
    return _judged(case.now.cell, limit, rise_bounds(*counts(case.now.float_correct, case.now.correct), levels))


def _worst_class_drop(case: Case, limit: Limit, levels: Levels) -> Verdict:
    return _worst_class(case, limit, levels, case.now.float_correct)


def _worst_class(case: Case, limit: Limit, levels: Levels, before: Column) -> Verdict:
    """Judge the drop of every class; the limit is broken where one class breaks it, and holds where all do."""
    labels = case.now.label
    classes = np.unique(labels[~np.isnan(labels) & ~np.isnan(case.now.correct)])
    shared = levels.shared(len(classes))
    of_class: dict[int, Verdict] = {}
    for index in classes.astype(int).tolist():
        place = labels == index
        bounds = rise_bounds(*counts(before[place], case.now.correct[place]), shared)
        of_class[index] = _judged(case.now.cell, limit, bounds)
    if not of_class:
        return _judged(case.now.cell, limit, rise_bounds(0, 0, 0, levels))
    order = [Outcome.BROKEN, Outcome.UNDECIDED, Outcome.HOLDS]
    decisive = min(order.index(one.outcome) for one in of_class.values())
    alike = {index: one for index, one in of_class.items() if order.index(one.outcome) == decisive}
    worst = max(alike, key=lambda index: (alike[index].estimate or 0.0, alike[index].high or 0.0))
    name = case.names[worst] if worst < len(case.names) else f"class {worst}"
    note = f"{name}, of {len(classes)} classes"
    unsure = [one.needed for one in alike.values() if one.needed is not None]
    if alike[worst].outcome is Outcome.UNDECIDED and unsure:
        note += f"; pictures of it, and {len(alike)} classes are undecided"
    return replace(alike[worst], needed=max(unsure, default=None), note=note)


def _worst_picture(case: Case, limit: Limit, levels: Levels) -> Verdict:
    """Judge the part of all pictures that drift more than the limit, from those that do here.

    Distribution-free, as tolerance limits are (Wilks 1941, doi 10.1214/aoms/1177731788).
    """
    drift = _known(case.now.drift)
    beyond = int((drift > limit.value).sum())
    note = f"{beyond} of {len(drift)} drift more than {limit.value:g}"
    if len(drift):
        note += f"; the worst {drift.max():.4g}"
    return _judged(case.now.cell, limit, part_bounds(beyond, len(drift), levels), note)


def _size(case: Case, limit: Limit, levels: Levels) -> Verdict:
    return _counted(case, limit, None if case.now.size is None else float(case.now.size))


def _counted(case: Case, limit: Limit, value: float | None, note: str = "") -> Verdict:
    """Return the verdict on a value that is counted and not estimated."""
    outcome = Outcome.UNDECIDED if value is None else Outcome.HOLDS if value <= limit.value else Outcome.BROKEN
    return Verdict(case.now.cell, limit, outcome, value, value, value, 0, None, "counted", note)


def _mean_drift_rise(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    rise = now.drift - before.drift
    return _judged(case.now.cell, limit, mean_bounds(_known(rise), levels))


def _over_baseline(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    return _over(now, limit, levels, now.drift, before.drift, "the baseline's")


def _probability_over_baseline(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    return _over(now, limit, levels, now.probability, before.probability, "the baseline's")


def _logit_noise_over_baseline(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    return _over(now, limit, levels, now.logit_noise, before.logit_noise, "the baseline's")


def _flips_rise(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    return _judged(now.cell, limit, rise_bounds(*counts(now.flipped, before.flipped), levels))


def _accuracy_fall(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    return _judged(now.cell, limit, rise_bounds(*counts(before.correct, now.correct), levels))


def _class_fall(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = _pair(case)
    return _worst_class(replace(case, now=now), limit, levels, before.correct)


def _growth(case: Case, limit: Limit, levels: Levels) -> Verdict:
    now, before = (one.size for one in _pair(case))
    if now is None or not before:
        return _counted(case, limit, None, "the baseline has no size")
    return _counted(case, limit, now / before - 1, f"{now:,} bytes, {before:,} before")


def _pair(case: Case) -> tuple[Measured, Measured]:
    assert case.pair is not None
    return case.pair


def _known(values: Column) -> Column:
    return values[~np.isnan(values)] if values.size else _NOTHING


_Judge = Callable[[Case, Limit, Levels], Verdict]
_LIMITS: Mapping[str, _Judge] = {
    "mean_drift": _mean_drift,
    "drift_over_floor": _over_floor,
    "probability": _probability,
    "logit_noise": _logit_noise,
    "flips": _flips,
    "accuracy": _accuracy,
    "accuracy_drop": _accuracy_drop,
    "worst_class_drop": _worst_class_drop,
    "worst_picture": _worst_picture,
    "size": _size,
}
_CHANGES: Mapping[str, _Judge] = {
    "mean_drift": _mean_drift_rise,
    "drift_over_baseline": _over_baseline,
    "probability_over_baseline": _probability_over_baseline,
    "logit_noise_over_baseline": _logit_noise_over_baseline,
    "flips": _flips_rise,
    "accuracy": _accuracy_fall,
    "worst_class_drop": _class_fall,
    "size": _growth,
}
