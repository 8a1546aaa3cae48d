"""A comparison as JSON data, as arrays and in words."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np

from quantviz.comparison.faithfulness import FaithfulnessRow
from quantviz.comparison.seen import Seen
from quantviz.scores import CONVENTIONS
from quantviz.specs import (
    DEVIATIONS,
    CamResult,
    Comparison,
    Cost,
    FloatMap,
    GivenQuant,
    ImageSample,
    MetricTable,
    NetworkMap,
    Preprocessing,
    Verdict,
    WeightsRef,
)


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON-able data; docs/reference/json.md describes every key."""
    salient = comparison.saliency
    return {
        "model": comparison.model,
        "weights": weights_data(comparison.weights),
        "preprocessing": asdict(comparison.weights.preprocessing),
        "quantization": _quantization(comparison),
        "cam": {**asdict(comparison.cam), "grid": list(comparison.reference.native.values.shape)},
        "class_rule": comparison.class_rule,
        "class_index": comparison.reference.class_index,
        "class_index_quantized": comparison.quantized.class_index,
        "image": _image(comparison.sample, comparison.weights.preprocessing),
        "saliency": None if salient is None else {"source": salient.source, "predicted": salient.predicted},
        "predictions": {
            "float": _predictions(comparison.reference),
            "quantized": _predictions(comparison.quantized),
        },
        "flipped": comparison.flipped,
        "attention": attention_data(comparison.verdict),
        "scores": {
            name: asdict(comparison.scores[name]) if name in comparison.scores else None
            for name in ("quantized_v_float", "float_v_saliency", "quantized_v_saliency")
        },
        "score_conventions": dict(CONVENTIONS),
        "score_resolution": list(comparison.reference.heatmap.values.shape[::-1]),
        "degenerate": comparison.degenerate,
        **_backend(comparison),
        "deployed": _deployed(comparison),
        "notes": list(comparison.notes),
        "seconds": round(comparison.seconds, 4),
        "cached": comparison.cached,
        "versions": dict(comparison.versions),
    }


def result_data(
    comparison: Comparison,
    tables: Sequence[MetricTable] = (),
    faithfulness: Sequence[FaithfulnessRow] = (),
    cost: Cost | None = None,
    others: Mapping[str, Comparison] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return a comparison with what was measured beside it as JSON-able data: what `quantviz compare --json` writes.

    Args:
        comparison: the comparison.
        tables: from ``measure``; without any there is no key ``metrics``.
        faithfulness: from ``faithfulness``; without any there is no such key.
        cost: size and operations of the quantized network, or None where they are not known.
        others: comparisons of the same float network with further quantized ones, by name; without any there is no
            key ``others``.
    """
    more: dict[str, Any] = {"metrics": tables_data(tables)} if tables else {}
    more |= {"faithfulness": [asdict(row) for row in faithfulness]} if faithfulness else {}
    more |= {"others": {name: comparison_data(other) for name, other in others.items()}} if others else {}
    return comparison_data(comparison) | more | {"cost": asdict(cost) if cost else None}


def attention_data(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON-able data: the word that programs read, what decided it, and a reader's words."""
    return {
        "verdict": verdict.attention.value,
        "drift": verdict.drift,
        "floor": verdict.floor,
        "ratio": verdict.ratio,
        "words": verdict.words,
    }


def _quantization(comparison: Comparison) -> dict[str, Any]:
    """Return how the network was quantized; of one that came quantized, what is known."""
    quant, calibration = comparison.quant, comparison.calibration
    if isinstance(quant, GivenQuant):
        return {"label": quant.label, **quant.details, "deviations": {}, "calibration": None}
    online = "online_ranges" in quant.deviations
    return {
        "label": quant.label,
        **asdict(quant),
        "deviations": {name: DEVIATIONS[name] for name in DEVIATIONS if name in quant.deviations},
        "headroom": 1.0 if online else quant.headroom,
        "calibration": None if online or calibration is None else asdict(calibration),
    }


def _backend(comparison: Comparison) -> dict[str, Any]:
    """Return what computed the two maps; older readers look for it under ``engine``."""
    backend = {
        "name": comparison.backend,
        "quantized": comparison.quantized_backend,
        "note": comparison.backend_note,
    }
    return {"backend": backend, "engine": backend}


def deployed_words(comparison: Comparison) -> str:
    """Say in one sentence how much the deployed network differs from the simulated one; "" where there is none."""
    deployed = comparison.deployed
    if deployed is None:
        return ""
    first, second = comparison.quantized.predictions[0], deployed.result.predictions[0]
    cc = deployed.scores["deployed_v_quantized"].cc
    maps = "the maps cannot be compared" if cc is None else f"the maps' CC is {_below_one(cc)}"
    raised = deployed.raised_channels
    note = (
        f" In {raised} channel{'s' * (raised > 1)} the weight's scale was raised, so that the bias fits into int32."
        if raised
        else ""
    )
    if first.index != second.index:
        told = f"Deployed and simulated differ: {maps}, and the top-1 class is {second.label}, not {first.label}."
        return told + note
    change = abs(first.probability - second.probability)
    return (
        f"Deployed v simulated: {maps}, and both call it {first.label}, whose probability differs by "
        f"{100 * change:.1f} percentage points.{note}"
    )


def _below_one(cc: float) -> str:
    """Return a correlation with four decimals, never rounded to a claim of perfect agreement."""
    return ">0.9999" if 0.99995 <= cc < 1 else f"{cc:.4f}"


def _deployed(comparison: Comparison) -> dict[str, Any] | None:
    deployed = comparison.deployed
    if deployed is None:
        return None
    own = deployed.result.predictions[0].index
    return {
        "predictions": _predictions(deployed.result),
        "class_index": deployed.result.class_index,
        "flipped_from_float": own != comparison.reference.predictions[0].index,
        "flipped_from_quantized": own != comparison.quantized.predictions[0].index,
        "scores": {name: asdict(values) for name, values in deployed.scores.items()},
        "milliseconds_on_this_machine": dict(deployed.milliseconds),
        "raised_channels": deployed.raised_channels,
        "difference": deployed_words(comparison),
    }


def tables_data(tables: Sequence[MetricTable]) -> list[dict[str, Any]]:
    """Return tables of metrics as JSON-able data."""
    return [asdict(table) | {"notes": list(table.notes)} for table in tables]


def arrays(comparison: Comparison) -> dict[str, FloatMap]:
    """Return the maps by name: float32 in [0, 1].

    ``float``, ``quantized`` and, where there are any, ``deployed`` and ``saliency`` are (H, W) at the input's
    resolution; ``float_native``, ``quantized_native`` and ``deployed_native`` are (h, w) on the target layer's grid.
    """
    maps = {
        "float": comparison.reference.heatmap.values,
        "quantized": comparison.quantized.heatmap.values,
        "float_native": comparison.reference.native.values,
        "quantized_native": comparison.quantized.native.values,
    }
    if comparison.deployed is not None:
        maps["deployed"] = comparison.deployed.result.heatmap.values
        maps["deployed_native"] = comparison.deployed.result.native.values
    if comparison.saliency is not None:
        maps["saliency"] = comparison.saliency.heatmap.values
    return maps


def npz_bytes(comparison: Comparison, others: Mapping[str, Comparison] = MappingProxyType({})) -> bytes:
    """Return ``arrays`` as the bytes of a compressed .npz file; the same maps give the same bytes.

    Args:
        comparison: whose maps they are.
        others: comparisons of the same float network with further quantized ones; their maps are called by their
            names, NAME and NAME_native.
    """
    maps = dict(arrays(comparison))
    for name, other in others.items():
        maps |= {name: other.quantized.heatmap.values, f"{name}_native": other.quantized.native.values}
    return npz_of(maps)


def npz_of(maps: Mapping[str, FloatMap]) -> bytes:
    """Return maps by name as the bytes of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **maps)
    return buffer.getvalue()


def map_data(shown: NetworkMap) -> dict[str, Any]:
    """Return one network's map as JSON-able data, without the map; the keys are those of ``comparison_data``."""
    salient = shown.saliency
    return {
        "model": shown.model,
        "weights": weights_data(shown.weights),
        "preprocessing": asdict(shown.weights.preprocessing),
        "cam": {**asdict(shown.cam), "grid": list(shown.result.native.values.shape)},
        "class_rule": shown.class_rule,
        "class_index": shown.result.class_index,
        "image": _image(shown.sample, shown.weights.preprocessing),
        "saliency": None if salient is None else {"source": salient.source, "predicted": salient.predicted},
        "predictions": _predictions(shown.result),
        "scores": {name: asdict(marks) for name, marks in shown.scores.items()},
        "score_conventions": dict(CONVENTIONS),
        "score_resolution": list(shown.result.heatmap.values.shape[::-1]),
        "degenerate": shown.degenerate,
        "notes": list(shown.notes),
        "seconds": round(shown.seconds, 4),
        "versions": dict(shown.versions),
    }


def map_arrays(shown: NetworkMap) -> dict[str, FloatMap]:
    """Return the maps by name: float32 in [0, 1].

    ``map`` and, where there is one, ``saliency`` are (H, W) at the input's resolution; ``map_native`` is (h, w) on the
    target layer's grid.
    """
    maps = {"map": shown.result.heatmap.values, "map_native": shown.result.native.values}
    return maps if shown.saliency is None else maps | {"saliency": shown.saliency.heatmap.values}


def weights_data(weights: WeightsRef) -> dict[str, Any]:
    """Return the description of weights in a result, as JSON-able data."""
    names = ("source", "name", "sha256", "trained", "classes", "note")
    return {name: getattr(weights, name) for name in names}


def _image(sample: ImageSample, preprocessing: Preprocessing) -> dict[str, Any]:
    height, width = sample.rgb.shape[:2]
    return {
        "sha256": sample.id,
        "size": [width, height],
        "name": sample.name,
        "notes": list(sample.notes),
        "seen": list(Seen.of(sample, preprocessing).box),
    }


def _predictions(result: CamResult) -> list[Mapping[str, Any]]:
    return [asdict(prediction) for prediction in result.predictions]
