"""A comparison as JSON data, as arrays and in words."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np

from quantviz.comparison.faithfulness import FaithfulnessRow
from quantviz.scores import CONVENTIONS
from quantviz.specs import DEVIATIONS, CamResult, Comparison, Cost, FloatMap, GivenQuant, MetricTable, WeightsRef


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON-able data; docs/reference/json.md describes every key."""
    (height, width), salient = comparison.sample.rgb.shape[:2], comparison.saliency
    return {
        "model": comparison.model,
        "weights": weights_data(comparison.weights),
        "preprocessing": asdict(comparison.weights.preprocessing),
        "quantization": _quantization(comparison),
        "cam": {**asdict(comparison.cam), "grid": list(comparison.reference.native.values.shape)},
        "class_rule": comparison.class_rule,
        "class_index": comparison.reference.class_index,
        "class_index_quantized": comparison.quantized.class_index,
        "image": {
            "sha256": comparison.sample.id,
            "size": [width, height],
            "name": comparison.sample.name,
            "notes": list(comparison.sample.notes),
        },
        "saliency": None if salient is None else {"source": salient.source, "predicted": salient.predicted},
        "predictions": {
            "float": _predictions(comparison.reference),
            "quantized": _predictions(comparison.quantized),
        },
        "flipped": comparison.flipped,
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
    """Return what computed the float map; older readers look for it under ``engine``."""
    backend = {"name": comparison.backend, "note": comparison.backend_note}
    return {"backend": backend, "engine": backend}


def deployed_words(comparison: Comparison) -> str:
    """Say in one sentence how much the deployed network differs from the simulated one; "" where there is none."""
    deployed = comparison.deployed
    if deployed is None:
        return ""
    first, second = comparison.quantized.predictions[0], deployed.result.predictions[0]
    cc = deployed.scores["deployed_v_quantized"].cc
    maps = "the maps cannot be compared" if cc is None else f"the maps' CC is {_below_one(cc)}"
    if first.index != second.index:
        return f"Deployed and simulated differ: {maps}, and the top-1 class is {second.label}, not {first.label}."
    change = abs(first.probability - second.probability)
    return (
        f"Deployed v simulated: {maps}, and both call it {first.label}, whose probability differs by "
        f"{100 * change:.1f} percentage points."
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
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **maps)
    return buffer.getvalue()


def weights_data(weights: WeightsRef) -> dict[str, Any]:
    """Return the description of weights in a result, as JSON-able data."""
    names = ("source", "name", "sha256", "trained", "classes", "note")
    return {name: getattr(weights, name) for name in names}


def _predictions(result: CamResult) -> list[Mapping[str, Any]]:
    return [asdict(prediction) for prediction in result.predictions]
