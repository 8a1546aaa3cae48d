"""A check file made from a study: each limit is what the study measured, with room by a stated rule."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from quantviz import statistics
from quantviz.guard.decide import Case, decide
from quantviz.guard.specs import CONFIDENCE, LIMITS, WORST_PART, Limit, Measured, Verdict
from quantviz.specs import FileVariant, UsageError, scheme_name, utf8
from quantviz.study.pictures import model_choice, weights_choice
from quantviz.study.specs.plan import StudyPlan

ROOM: Final = 2.0
"""Each limit lies so many times as far from the value measured as its confidence bound does."""

_MOST_CLASS_DROP = 0.5  # a limit above says nothing of a class
_RULE: Final = """\
# Made from a study by quantviz check --init. Each limit is the value that the study measured, with room: it lies twice
# as far from the value as the value's one-sided {confidence:.0%} confidence bound does, rounded outward to two digits.
# The size has no room. Change what your product asks for.
"""
_CHANGE: Final = """
# Against the last release, picture by picture: write its baseline by quantviz check {name} --write-baseline FILE.
# baseline = "baseline.json"
# [change]
# drift_over_baseline = 1.25          # the mean drift may be so many times the baseline's
# probability_over_baseline = 1.5     # the same of how far top-1 probabilities move
# logit_noise_over_baseline = 1.25    # the same of the logits; it needs the pictures
# flips = "5 %"                       # so many more pictures may change their class
# accuracy = "5 %"                    # the accuracy may fall by so much
# size = "5 %"                        # the file may grow by so much
"""


def draft_limits(cells: Sequence[Measured], confidence: float = CONFIDENCE) -> tuple[Limit, ...]:
    """Return limits that hold for quantized networks as they are, with room.

    Of several networks each limit is the loosest. Accuracy is limited where there are labels; the drop of the worst
    class where there are enough pictures a class that the limit is at most a half; the noise floor where it was
    measured; the size where it is known.

    Args:
        cells: what is measured of each network.
        confidence: of the bounds, in (0.5, 1).
    """
    limits: list[Limit] = []
    for name in LIMITS:
        drafted = [limit for values in cells if (limit := _draft(name, values, confidence)) is not None]
        if len(drafted) == len(cells) and drafted:
            least = LIMITS[name].least
            limits.append((min if least else max)(drafted, key=lambda limit: (limit.part, limit.value)))
    return tuple(limits)


def draft_text(
    study: Path, plan: StudyPlan, cells: Sequence[Measured], path: Path, confidence: float = CONFIDENCE
) -> bytes:
    """Return the text of a check file.

    Args:
        study: folder of a finished study.
        plan: of the study.
        cells: what is measured of the networks that are to be checked.
        path: where the file is to lie; its paths start there.
        confidence: of the limits.

    Raises:
        UsageError: there are too few pictures to draft a limit.
    """
    limits = draft_limits(cells, confidence)
    if not limits:
        raise UsageError(f"Study {str(study)!r} has too few pictures with a result to draft a limit; sweep over more.")
    every = len(cells) == len(plan.cells)
    lines = [_RULE.format(confidence=confidence), f"study = {_text(_relative(study, path))}"]
    if not every:
        lines.append(f"models = {_texts(values.cell[0] for values in cells)}")
        lines.append(f"variants = {_texts(values.cell[1] for values in cells)}")
    lines += ["", *_recipe(plan, cells, path), f"confidence = {confidence:g}", "", "[limits]"]
    measured = decide([Case(values) for values in cells], limits, confidence=confidence)
    lines += [_line(limit, measured) for limit in limits]
    return utf8("\n".join(lines) + "\n" + _CHANGE.format(name=path.name))


def _draft(name: str, values: Measured, confidence: float) -> Limit | None:
    """Return a limit on one network, or None where the study does not tell enough."""
    if name == "size":
        return None if values.size is None else Limit(name, float(values.size))
    if name == "worst_picture":
        return _draft_worst(values, confidence)
    if name == "drift_over_floor" and not values.floor:
        return None
    kind = LIMITS[name]
    start = 1.0 if name == "drift_over_floor" else 0.0
    (verdict,) = decide([Case(values)], [Limit(name, start)], confidence=confidence)
    bound = verdict.low if kind.least else verdict.high
    if verdict.estimate is None or bound is None:
        return None
    value = verdict.estimate + ROOM * (bound - verdict.estimate)
    if name == "worst_class_drop":
        value = max(value, bound)
        if value > _MOST_CLASS_DROP:
            return None
    value = _outward(value, down=kind.least)
    return Limit(name, min(max(value, 0.0), 1.0) if kind.unit == "part" else value)


def _draft_worst(values: Measured, confidence: float) -> Limit | None:
    """Return the greatest drift, and the part of the pictures that may exceed it: one that can be decided."""
    known = values.drift[values.drift == values.drift]
    if not known.size:
        return None
    least = statistics.exact_high(0, int(known.size), round(1 - confidence, 12))
    return Limit("worst_picture", _outward(float(known.max())), part=max(WORST_PART, _outward(least)))


def _outward(value: float, *, down: bool = False) -> float:
    """Round to two significant digits, up or down."""
    if value == 0 or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    whole = math.floor(value / step + 1e-9) if down else math.ceil(value / step - 1e-9)
    return float(f"{whole * step:.12g}")


def _line(limit: Limit, verdicts: Sequence[Verdict]) -> str:
    shown = [one for one in verdicts if one.limit == limit and one.estimate is not None]
    if limit.name == "worst_picture":
        value = f"{{ drift = {limit.value:g}, part = {limit.part:g} }}"
    else:
        value = f"{limit.value:.0f}" if limit.name == "size" else f"{limit.value:.6g}"
    measured = ", ".join(f"{one.estimate:.4g}" for one in shown)
    comment = f"{limit.kind.title}, at {'least' if limit.kind.least else 'most'}; measured {measured}"
    return f"{limit.name} = {value}".ljust(46) + f"  # {comment}"


def _recipe(plan: StudyPlan, cells: Sequence[Measured], path: Path) -> list[str]:
    """Return the lines by which the check runs its own study, as comments; none where the study does not say."""
    names = dict.fromkeys(values.cell[0] for values in cells)
    model = next((one for one in plan.models if one.name in names), None)
    if len(names) > 1 or model is None:
        return []
    try:
        asked = model_choice(plan, model)
        weights = weights_choice(plan, model) if not model.origin else None
    except UsageError:
        asked, weights = model.name, None
    lines = ["# To let the check make its own study of the networks as they are then, write this in place of study:"]
    lines.append(f"# photos = {_text(_relative(Path(plan.dataset), path))}")
    lines.append(f"# card = {_text(_relative(Path(asked), path))}" if model.origin else f"# model = {_text(asked)}")
    if weights is not None:
        lines.append(f"# weights = {_text(_relative(Path(weights), path) if Path(weights).is_file() else weights)}")
    labels = {values.cell[1] for values in cells}
    quants = [quant for quant in plan.quants if quant.label in labels]
    files = any(isinstance(plan.cell(values.cell)[1], FileVariant) for values in cells)
    if quants and not files:
        lines += [f"# bits = {_texts(quant.label for quant in quants)}", f"# scheme = {_text(scheme_name(quants[0]))}"]
    return [*lines, ""]


def _relative(place: Path, path: Path) -> str:
    return os.path.relpath(place.absolute(), path.absolute().parent)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join(_text(value) for value in dict.fromkeys(values)) + "]"
