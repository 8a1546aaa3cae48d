"""A plan to and from JSON."""

from __future__ import annotations

import json
from dataclasses import fields

from quantviz.comparison.structured import structured
from quantviz.specs import limits, plain, read_json
from quantviz.study.specs.plan import StudyPlan

_FORMAT = 1
_ADDED = ("shard", "truth", "notes", "backend", "faithful")  # later than the first plans, which lack them


def plan_bytes(plan: StudyPlan) -> bytes:
    """Return the bytes of plan.json; the same plan gives the same bytes."""
    data = {"format": _FORMAT, "digest": plan.digest, **plain(plan)}
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_plan(data: bytes) -> StudyPlan:
    """Return the plan whose ``plan_bytes`` these are.

    Raises:
        ValueError: the bytes are no such plan, or were changed by hand.
        QuantvizError: a value in it is out of range.
    """
    try:
        entries = read_json(data, most=limits.PLAN_BYTES)
    except ValueError as error:
        raise ValueError(f"it {error}") from None
    try:
        if entries["format"] != _FORMAT:
            raise ValueError(f"its format is {entries['format']}, not {_FORMAT}")
        names = [field.name for field in fields(StudyPlan)]
        settings = {name: entries[name] for name in names if name in entries or name not in _ADDED}
        digest = entries["digest"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{error} is missing or of another type") from None
    plan = structured(StudyPlan, settings)
    if plan.digest != digest:
        raise ValueError("its digest is another one, so that it was changed after it was written")
    return plan
