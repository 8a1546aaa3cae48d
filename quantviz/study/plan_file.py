"""A plan to and from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from quantviz.specs import CalibrationRef, CamSpec, LayerBits, Preprocessing, QuantSpec, WeightsRef
from quantviz.study.specs.plan import StudyImage, StudyModel, StudyPlan, StudyTruth, TruthFile

_FORMAT = 1


def plan_bytes(plan: StudyPlan) -> bytes:
    """Return the bytes of plan.json; the same plan gives the same bytes."""
    data = {"format": _FORMAT, "digest": plan.digest, **asdict(plan)}
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_plan(data: bytes) -> StudyPlan:
    """Return the plan that ``plan_bytes`` was given.

    Raises:
        ValueError: the bytes are no such plan, or were changed by hand.
        QuantvizError: a value in it is out of range.
    """
    found = json.loads(data)
    try:
        if found["format"] != _FORMAT:
            raise ValueError(f"its format is {found['format']}, not {_FORMAT}")
        plan = _plan(found)
        digest = found["digest"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{error} is missing or of another type") from None
    if plan.digest != digest:
        raise ValueError("its digest is another one, so that it was changed after it was written")
    return plan


def _plan(found: Mapping[str, Any]) -> StudyPlan:
    return StudyPlan(
        models=tuple(
            StudyModel(entry["name"], _weights(entry["weights"]), entry["layer"]) for entry in found["models"]
        ),
        quants=tuple(_quant(entry) for entry in found["quants"]),
        protocols=tuple(found["protocols"]),
        cam=CamSpec(**found["cam"]),
        calibration=CalibrationRef(**found["calibration"]),
        saliency=found["saliency"],
        images=tuple(StudyImage(**entry) for entry in found["images"]),
        limit=found["limit"],
        seed=found["seed"],
        batch=found["batch"],
        versions=dict(found["versions"]),
        computation=found["computation"],
        dataset=found["dataset"],
        command=found["command"],
        shard=None if found.get("shard") is None else (int(found["shard"][0]), int(found["shard"][1])),
        truth=None if found.get("truth") is None else _truth(found["truth"]),
        notes=tuple(found.get("notes", ())),
    )


def _truth(entry: Mapping[str, Any]) -> StudyTruth:
    files = tuple(None if file is None else TruthFile(**file) for file in entry["files"])
    return StudyTruth(entry["kind"], tuple(entry["metrics"]), files, entry["folder"])


def _weights(entry: Mapping[str, Any]) -> WeightsRef:
    preprocessing = dict(entry["preprocessing"])
    for name in ("mean", "std"):
        preprocessing[name] = tuple(preprocessing[name])
    return WeightsRef(**{**entry, "preprocessing": Preprocessing(**preprocessing)})


def _quant(entry: Mapping[str, Any]) -> QuantSpec:
    return QuantSpec(**{**entry, "layer_bits": tuple(LayerBits(**bits) for bits in entry["layer_bits"])})
