"""A comparison of two files as bytes: how it comes back from a process that ran a stranger's network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from quantviz.comparison.loaded import versions
from quantviz.comparison.records import pack_comparison, unpack_comparison
from quantviz.comparison.structured import structured
from quantviz.specs import (
    CamSpec,
    Comparison,
    GivenQuant,
    Heatmap,
    ImageSample,
    Saliency,
    Scores,
    StoredRecord,
    WeightsRef,
)
from quantviz.store import Refused, decode, encode

LARGEST: Final = 128 << 20
"""Most bytes of a comparison with what is known of its files."""

_LARGEST_SIDE = 2048


@dataclass(frozen=True, slots=True, eq=False)
class FilesResult:
    """What comparing a float and a quantized file gave.

    Attributes:
        comparison: the maps, predictions and scores.
        files: name of each file -> what is known of it, as ``networks.onnx_files.describe`` gives it.
        pair: which tensors are the same and what differs, as ``describe_pair`` gives it.
    """

    comparison: Comparison
    files: Mapping[str, Mapping[str, Any]]
    pair: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a comparison holds beside arrays, as JSON has it."""

    model: str
    weights: WeightsRef
    label: str
    details: dict[str, Any]
    cam: CamSpec
    class_rule: str
    backend: str
    notes: tuple[str, ...]
    seconds: float
    saliency: str
    predicted: bool
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    pair: dict[str, Any] = field(default_factory=dict)


def packed(result: FilesResult, key: str) -> bytes:
    """Return a result as bytes that ``unpacked`` reads: arrays and JSON, no pickle.

    Args:
        result: of two ONNX files.
        key: sha256 in hex that the reader has to name again.
    """
    comparison = result.comparison
    salient, quant = comparison.saliency, comparison.quant
    assert isinstance(quant, GivenQuant)
    facts = _Facts(
        model=comparison.model,
        weights=comparison.weights,
        label=quant.label,
        details=dict(quant.details),
        cam=comparison.cam,
        class_rule=str(comparison.class_rule),
        backend=comparison.backend,
        notes=comparison.notes,
        seconds=comparison.seconds,
        saliency="" if salient is None else salient.source,
        predicted=salient is not None and salient.predicted,
        files={name: dict(known) for name, known in result.files.items()},
        pair=dict(result.pair),
    )
    record = pack_comparison(
        comparison.reference,
        comparison.quantized,
        None if salient is None else salient.heatmap,
        comparison.scores,
        {},
    )
    metadata = {**record.metadata, "facts": json.loads(json.dumps(asdict(facts)))}
    return encode(key, StoredRecord({**record.arrays, "crop": comparison.crop}, metadata))


def unpacked(blob: bytes, key: str, sample: ImageSample) -> FilesResult:
    """Return the result that ``packed`` was given under the same key.

    Args:
        blob: the bytes; nothing in them is trusted.
        key: as ``packed`` was given it.
        sample: the picture that was compared.

    Raises:
        ValueError: they are anything else.
    """
    try:
        record = decode(key, blob)
        facts = structured(_Facts, record.metadata["facts"])
        first, second, heatmap, scores, _ = unpack_comparison(record)
        crop = record.arrays["crop"]
        _check(crop, [first.heatmap, second.heatmap, *([heatmap] if heatmap is not None else [])], scores)
    except (Refused, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no comparison: {error}") from None
    comparison = Comparison(
        model=facts.model,
        weights=facts.weights,
        quant=GivenQuant(facts.label, facts.details),
        calibration=None,
        cam=facts.cam,
        class_rule=facts.class_rule if facts.class_rule in ("float", "own") else int(facts.class_rule),
        sample=sample,
        crop=crop,
        reference=first,
        quantized=second,
        saliency=None if heatmap is None else Saliency(heatmap, facts.saliency, facts.predicted),
        scores=scores,
        seconds=facts.seconds,
        cached=False,
        versions=versions(),
        key="",
        backend=facts.backend,
        notes=facts.notes,
    )
    return FilesResult(comparison, facts.files, facts.pair)


def _check(crop: Any, heatmaps: list[Heatmap], scores: Mapping[str, Scores]) -> None:
    """Refuse arrays that no comparison has; the native maps lie on grids of their own."""
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or max(crop.shape) > _LARGEST_SIDE:
        raise ValueError(f"a crop of shape {crop.shape}")
    for heatmap in heatmaps:
        values = heatmap.values
        if values.shape != crop.shape[:2] or not (values.min() >= 0 and values.max() <= 1):  # NaN is neither
            raise ValueError(f"a map of shape {values.shape}")
    for triple in scores.values():
        if any(type(value) not in (float, int, type(None)) for value in asdict(triple).values()):
            raise ValueError("scores that are no numbers")
