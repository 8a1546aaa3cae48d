"""Results to and from what the store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import CamResult, Heatmap, Prediction, Scores, StoredRecord

_MAPS = ("heatmap", "native")


def pack_result(result: CamResult) -> StoredRecord:
    """Return the record of one model's result."""
    metadata = {
        "degenerate": result.heatmap.degenerate,
        "class_index": result.class_index,
        "predictions": [asdict(prediction) for prediction in result.predictions],
    }
    return StoredRecord({name: getattr(result, name).values for name in _MAPS}, metadata)


def unpack_result(record: StoredRecord) -> CamResult:
    """Return one model's result from its record."""
    metadata = record.metadata
    maps = {name: Heatmap(record.arrays[name], metadata["degenerate"]) for name in _MAPS}
    predictions = tuple(Prediction(**prediction) for prediction in metadata["predictions"])
    return CamResult(class_index=metadata["class_index"], predictions=predictions, **maps)


def pack_comparison(
    reference: CamResult,
    quantized: CamResult,
    saliency: Heatmap | None,
    scores: Mapping[str, Scores],
    weights: Mapping[str, Any],
) -> StoredRecord:
    """Return the record of a whole comparison; ``weights`` is what loading found out about them."""
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    metadata: dict[str, Any] = {"weights": dict(weights)}
    for name, result in (("reference", reference), ("quantized", quantized)):
        record = pack_result(result)
        arrays |= {f"{name}.{key}": values for key, values in record.arrays.items()}
        metadata[name] = dict(record.metadata)
    if saliency is not None:
        arrays["saliency"] = saliency.values
        metadata["saliency"] = saliency.degenerate
    metadata["scores"] = {name: asdict(marks) for name, marks in scores.items()}
    return StoredRecord(arrays, metadata)


def unpack_comparison(
    record: StoredRecord,
) -> tuple[CamResult, CamResult, Heatmap | None, dict[str, Scores], dict[str, Any]]:
    """Return what ``pack_comparison`` was given."""
    results = []
    for name in ("reference", "quantized"):
        arrays = {key: record.arrays[f"{name}.{key}"] for key in _MAPS}
        results.append(unpack_result(StoredRecord(arrays, record.metadata[name])))
    saliency = None
    if "saliency" in record.arrays:
        saliency = Heatmap(record.arrays["saliency"], record.metadata["saliency"])
    scores = {name: Scores(**marks) for name, marks in record.metadata["scores"].items()}
    return results[0], results[1], saliency, scores, dict(record.metadata["weights"])
