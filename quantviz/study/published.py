"""Table 1 of arXiv 2403.09939 beside a study, the rule that its SIM must obey, and attributions that are shipped."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from quantviz import networks, scores
from quantviz.layerwise.specs import Attribution, CommonShares
from quantviz.specs import (
    DEVIATIONS,
    CamSpec,
    LayerBits,
    QuantSpec,
    QuantvizError,
    StoreError,
    WeightsRef,
    limits,
    read_json,
)
from quantviz.study.shipped import SHIPPED
from quantviz.study.specs.plan import COMPARISONS
from quantviz.study.specs.published import PRECISIONS, PUBLISHED_IMAGES, PublishedCell, Reproduction, TriangleCheck
from quantviz.study.specs.summary import Estimate, StudySummary
from quantviz.study.specs.table import StudyTable

SOURCE: Final = "arXiv 2403.09939v1, Table 1"
PUBLISHED: Final = "published"

TRIANGLE_COLUMNS: Final = tuple(f"{comparison}_sim" for comparison in COMPARISONS)
"""Columns that ``study_triangles`` reads of a ``StudyTable``."""

_TABLE = Path(__file__).parents[1] / "published" / "table1.csv"
_MODELS = {"squeezenet": "squeezenet1_1"}  # the table says SqueezeNet-1.0, the published code loads 1.1
_ROUNDED = 0.0005  # half a unit of the published third decimal
_FLOAT_ROUNDING = 1e-6


@lru_cache(maxsize=1)
def published_cells() -> tuple[PublishedCell, ...]:
    """Return the 90 published cells in the table's order."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return tuple(
        PublishedCell(
            line["precision"],
            _comparison(line["precision"], line["reference"]),
            line["metric"].lower(),
            _MODELS.get(line["model"], line["model"]),
            float(line["mean"]),
            float(line["sd"]),
        )
        for line in lines
    )


def reproductions(summary: StudySummary | None = None) -> tuple[Reproduction, ...]:
    """Return every published number with a study's beside it, then those of models that the paper does not have.

    int16 is W16A16 and int8 is W8A8, each under every protocol of the study.

    Args:
        summary: the study; without one, nothing is reproduced.
    """
    rows = [
        Reproduction(cell.precision, cell.comparison, cell.metric, cell.model, cell, _of_study(summary, cell))
        for cell in published_cells()
    ]
    known = {row.model for row in rows}
    others = [] if summary is None else [model.name for model in summary.plan.models if model.name not in known]
    places = list(dict.fromkeys((row.precision, row.comparison, row.metric) for row in rows))
    for model in others:
        for precision, comparison, metric in places:
            numbers = _of_study(summary, PublishedCell(precision, comparison, metric, model, 0.0, 0.0))
            rows.append(Reproduction(precision, comparison, metric, model, None, numbers))
    return tuple(rows)


def published_triangles() -> tuple[TriangleCheck, ...]:
    """Check each published model and precision: its SIM with the ground truth against the two SIMs that bound it.

    With x the part of the pictures scored exactly 1.0 and the others as the float maps (mean m, standard deviation s),
    the mean is x + (1 - x) m and, by the law of total variance, the standard deviation
    sqrt((1 - x) s² + x (1 - x) (1 - m)²), provided that which pictures these are does not depend on their float maps.
    """
    cells = {(cell.precision, cell.comparison, cell.model): cell for cell in published_cells() if cell.metric == "sim"}
    checks = []
    for precision, comparison, model in cells:
        if comparison != "quantized_v_saliency":
            continue
        truth, value = cells["f32", "float_v_saliency", model], cells[precision, comparison, model]
        share = min(max((value.mean - truth.mean) / (1 - truth.mean), 0.0), 1.0)
        spread = math.sqrt((1 - share) * truth.sd**2 + share * (1 - share) * (1 - truth.mean) ** 2)
        means = truth.mean, cells[precision, "quantized_v_float", model].mean, value.mean
        check = _check((PUBLISHED, model, precision), PUBLISHED_IMAGES, means, 3 * _ROUNDED)
        checks.append(replace(check, share=share, share_sd=spread, sd=value.sd))
    return tuple(checks)


def study_triangles(table: StudyTable) -> tuple[TriangleCheck, ...]:
    """Check each cell of a study, its means and every single picture.

    Args:
        table: of the study, with ``TRIANGLE_COLUMNS``. A picture that lacks one of the three similarities is left
            out; a cell without any picture too.
    """
    checks = []
    for row, (model, setting, protocol) in enumerate(table.cells):
        truth, value, float_map = (table.columns[name][row] for name in TRIANGLE_COLUMNS)
        known = ~np.isnan(truth + value + float_map)
        if not known.any():
            continue
        single = zip(truth[known], float_map[known], value[known], strict=True)
        means = float(truth[known].mean()), float(float_map[known].mean()), float(value[known].mean())
        check = _check((protocol, model, setting), int(known.sum()), means, _FLOAT_ROUNDING)
        outside = sum(_excess(*map(float, three)) > _FLOAT_ROUNDING for three in single)
        checks.append(replace(check, pictures_outside=outside))
    return tuple(checks)


def report_published(rows: Sequence[Reproduction], checks: Sequence[TriangleCheck]) -> dict[str, Any]:
    """Return the table and the checks as JSON-able data."""
    return {
        "source": SOURCE,
        "published_images": PUBLISHED_IMAGES,
        "cells": [{**asdict(row), "published": _json(row.published)} for row in rows],
        "triangle": [{**asdict(check), "holds": check.holds} for check in checks],
    }


@lru_cache(maxsize=1)
def shipped_attributions() -> tuple[Attribution, ...]:
    """Return the attributions that come with the package, by model: files ``attribution-MODEL.json`` of ``SHIPPED``.

    Raises:
        StoreError: one of them cannot be used.
    """
    files = sorted(SHIPPED.glob("attribution-*.json"))
    return tuple(read_attribution(file.read_bytes(), file.name) for file in files)


def read_attribution(data: bytes, name: str = "attribution") -> Attribution:
    """Return what ``quantviz attribute --json`` wrote.

    The JSON does not have the weights' preprocessing; it is that of the model's published weights of the same name,
    else of its first ones.

    Args:
        data: the file's bytes.
        name: what the file is called in the message.

    Raises:
        StoreError: the data is no such JSON, a number is missing or not finite, or the shares do not add up.
    """
    try:
        attribution = _attribution(read_json(data, most=limits.ATTRIBUTION_BYTES))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, QuantvizError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise StoreError(
            f"Attribution {name!r} cannot be used ({reason}); write it anew by quantviz attribute --json."
        ) from None
    return attribution


def _json(cell: PublishedCell | None) -> dict[str, Any] | None:
    return None if cell is None else asdict(cell.estimate)


def _attribution(entries: Mapping[str, Any]) -> Attribution:
    share = {name: _number(entries["share"][name]) for name in DEVIATIONS}
    calibrated, paper = _number(entries["calibrated"]), _number(entries["paper"])
    if abs(math.fsum(share.values()) - (paper - calibrated)) > _FLOAT_ROUNDING:
        raise ValueError("its shares do not add up to the gap")
    quant = {key: value for key, value in entries["quantization"].items() if key not in ("label", "protocol")}
    layers = tuple(LayerBits(**entry) for entry in quant.pop("layer_bits", ()))
    weights, spec = entries["weights"], networks.spec(entries["model"])
    named = [entry for entry in spec.weights if entry.name == weights["name"]]
    kept = {key: weights[key] for key in ("source", "name", "sha256", "classes", "note")}
    return Attribution(
        model=spec.name,
        weights=WeightsRef(**kept, preprocessing=(named or list(spec.weights))[0].preprocessing),
        quant=QuantSpec(**quant, layer_bits=layers),
        cam=CamSpec(**entries["cam"]),
        images=tuple((str(image["sha256"]), str(image["name"])) for image in entries["images"]),
        calibrated=calibrated,
        paper=paper,
        share=share,
        alone={name: _number(entries["alone"][name]) for name in DEVIATIONS if name in entries["alone"]},
        subsets={str(names): _number(value) for names, value in entries["subsets"].items()},
        unscored={str(names): tuple(map(str, left)) for names, left in entries["unscored"].items()},
        # Files of before have none of these.
        intervals=_intervals(entries.get("share_intervals", {}), set(DEVIATIONS), "switch"),
        mean_intervals=_intervals(entries.get("mean_intervals", {}), set(entries["subsets"]), "subset"),
        common=_common(entries.get("common")),
    )


def _common(entries: Mapping[str, Any] | None) -> CommonShares | None:
    if entries is None:
        return None
    share = {name: _number(entries["share"][name]) for name in DEVIATIONS}
    calibrated, paper = _number(entries["calibrated"]), _number(entries["paper"])
    if abs(math.fsum(share.values()) - (paper - calibrated)) > _FLOAT_ROUNDING:
        raise ValueError("its shares over common pictures do not add up to their gap")
    intervals = _intervals(entries["share_intervals"], set(DEVIATIONS), "switch")
    return CommonShares(int(entries["images"]), calibrated, paper, share, intervals)


def _intervals(entries: Mapping[str, Any], known: set[str], what: str) -> dict[str, tuple[float, float]]:
    """Return the ends of intervals by name; ``known`` are the names that there are."""
    if not set(entries) <= known:
        raise ValueError(f"{sorted(set(entries) - known)[0]!r} is no {what}")
    return {name: (_number(low), _number(high)) for name, (low, high) in entries.items()}


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _comparison(precision: str, reference: str) -> str:
    if reference == "f32":
        return "quantized_v_float"
    return "float_v_saliency" if precision == "f32" else "quantized_v_saliency"


def _of_study(summary: StudySummary | None, wanted: PublishedCell) -> dict[str, Estimate]:
    """Return the study's means of one published cell, by protocol; every bit-width's cell has the float network's."""
    numbers: dict[str, Estimate] = {}
    setting = PRECISIONS[wanted.precision]
    for cell in () if summary is None else summary.cells:
        if cell.model == wanted.model and setting in ("", cell.setting):
            numbers.setdefault(cell.protocol, cell.scores[wanted.comparison][wanted.metric])
    return numbers


def _check(names: tuple[str, str, str], n: int, means: tuple[float, float, float], tolerance: float) -> TriangleCheck:
    """Return the check of (source, model, setting) and its means in the order of ``TriangleCheck``."""
    float_v_truth, quantized_v_float, quantized_v_truth = means
    first, second = 1 - float_v_truth, 1 - quantized_v_float
    return TriangleCheck(
        *names,
        n=n,
        float_v_truth=float_v_truth,
        quantized_v_float=quantized_v_float,
        quantized_v_truth=quantized_v_truth,
        low=max(1 - (first + second), 0.0),
        high=1 - abs(first - second),
        excess=_excess(*means),
        tolerance=tolerance,
    )


def _excess(float_v_truth: float, quantized_v_float: float, quantized_v_truth: float) -> float:
    three = (min(max(value, 0.0), 1.0) for value in (quantized_v_float, float_v_truth, quantized_v_truth))
    return scores.triangle_violation(*three)
