"""Results to and from the store's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import CamResult, Deployed, Heatmap, Prediction, Scores, StoredRecord

if TYPE_CHECKING:
    from quantviz.quantize import LearnedLayer, Ranges

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
    """Return the record of a comparison; ``weights`` is what is known of them only after loading."""
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    metadata: dict[str, Any] = {"weights": dict(weights)}
    for name, result in (("reference", reference), ("quantized", quantized)):
        record = pack_result(result)
        arrays |= {f"{name}.{key}": values for key, values in record.arrays.items()}
        metadata[name] = dict(record.metadata)
    if saliency is not None:
        arrays["saliency"] = saliency.values
        metadata["saliency"] = saliency.degenerate
    metadata["scores"] = {name: asdict(values) for name, values in scores.items()}
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
    scores = {name: Scores(**values) for name, values in record.metadata["scores"].items()}
    return results[0], results[1], saliency, scores, dict(record.metadata["weights"])


def with_deployed(record: StoredRecord, deployed: Deployed) -> StoredRecord:
    """Return a comparison's record with its third result."""
    own = pack_result(deployed.result)
    note = {
        "result": dict(own.metadata),
        "scores": {name: asdict(values) for name, values in deployed.scores.items()},
        "milliseconds": dict(deployed.milliseconds),
        "raised_channels": deployed.raised_channels,
    }
    arrays = {f"deployed.{name}": values for name, values in own.arrays.items()}
    return StoredRecord({**record.arrays, **arrays}, {**record.metadata, "deployed": note})


def deployed_of(record: StoredRecord) -> Deployed | None:
    """Return the third result of a comparison's record, or None where it has none."""
    note = record.metadata.get("deployed")
    if note is None:
        return None
    arrays = {name: record.arrays[f"deployed.{name}"] for name in _MAPS}
    scores = {name: Scores(**values) for name, values in note["scores"].items()}
    result = unpack_result(StoredRecord(arrays, note["result"]))
    return Deployed(result, scores, dict(note["milliseconds"]), note["raised_channels"])


def pack_ranges(ranges: Ranges) -> StoredRecord:
    """Return the record of calibrated ranges."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    arrays["limits"] = np.array(list(ranges.limits.values()), dtype=np.float64).reshape(-1, 2)
    metadata = {"layers": list(ranges.limits), "images": ranges.images, "method": ranges.method}
    if ranges.histograms:
        histograms = list(ranges.histograms.values())
        arrays["edges"] = np.array([(histogram.low, histogram.high) for histogram in histograms])
        arrays["counts"] = np.stack([histogram.counts for histogram in histograms])
        arrays["zeros"] = np.array([histogram.zeros for histogram in histograms], dtype=np.int64)
        metadata["histograms"] = list(ranges.histograms)
    return StoredRecord(arrays, metadata)


def unpack_ranges(record: StoredRecord) -> Ranges:
    """Return calibrated ranges from their record."""
    from quantviz.quantize import Histogram, Ranges

    arrays, metadata = record.arrays, record.metadata
    limits = dict(zip(metadata["layers"], map(tuple, arrays["limits"].tolist()), strict=True))
    histograms = {}
    for place, name in enumerate(metadata.get("histograms", [])):
        low, high = arrays["edges"][place].tolist()
        histograms[name] = Histogram(low, high, arrays["counts"][place], int(arrays["zeros"][place]))
    return Ranges(limits, metadata["images"], metadata.get("method", "minmax"), histograms)


def pack_learned(learned: Mapping[str, LearnedLayer]) -> StoredRecord:
    """Return the record of learned weights: integers, their grids, and biases."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    layers: dict[str, Any] = {}
    for name, layer in learned.items():
        most = max(-layer.grid.quant_min - 1, layer.grid.quant_max)
        arrays[f"{name}|integers"] = layer.integers.numpy().astype(np.min_scalar_type(-most - 1))
        arrays[f"{name}|scale"] = layer.grid.scale.numpy()
        arrays[f"{name}|zero_point"] = layer.grid.zero_point.numpy()
        if layer.bias is not None:
            arrays[f"{name}|bias"] = layer.bias.numpy()
        layers[name] = [layer.grid.quant_min, layer.grid.quant_max]
    return StoredRecord(arrays, {"layers": layers})


def unpack_learned(record: StoredRecord) -> dict[str, LearnedLayer]:
    """Return learned weights from their record."""
    import torch

    from quantviz.quantize import LearnedLayer, WeightGrid

    layers = {}
    for name, (low, high) in record.metadata["layers"].items():
        parts = {
            part: torch.tensor(record.arrays[f"{name}|{part}"])
            for part in ("integers", "scale", "zero_point", "bias")
            if f"{name}|{part}" in record.arrays
        }
        grid = WeightGrid(parts["scale"], parts["zero_point"], low, high)
        layers[name] = LearnedLayer(grid, parts["integers"].to(torch.int32), parts.get("bias"))
    return layers
