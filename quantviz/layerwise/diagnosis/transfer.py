"""A diagnosis of two files as bytes: how it comes back from a process that ran a stranger's network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from quantviz.comparison.structured import structured
from quantviz.layerwise.diagnosis.asked import Answer
from quantviz.layerwise.diagnosis.remedies import Trial
from quantviz.layerwise.diagnosis.specs import ChannelFigures, Diagnosis
from quantviz.specs import StoredRecord
from quantviz.store import Refused, decode, encode


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an answer holds beside the mended file, as JSON has it."""

    diagnosis: Diagnosis
    trial: Trial | None


def packed(answer: Answer, key: str) -> bytes:
    """Return an answer on one quantized file as bytes that ``unpacked`` reads: arrays and JSON, no pickle.

    Single channels are left out: their figures need not be finite, and no page shows them.

    Args:
        answer: of ``ask_files``.
        key: sha256 in hex that the reader has to name again.
    """
    (found,) = answer.diagnoses
    none = ChannelFigures(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))
    found = replace(found, tensors=tuple(replace(entry, by_channel=none) for entry in found.tensors))
    mended = np.frombuffer(answer.mended or b"", np.uint8)
    return encode(key, StoredRecord({"mended": mended}, {"facts": _listed(asdict(_Facts(found, answer.trial)))}))


def unpacked(blob: bytes, key: str) -> Answer:
    """Return the answer that ``packed`` was given under the same key.

    Args:
        blob: the bytes; nothing in them is trusted.
        key: as ``packed`` was given it.

    Raises:
        ValueError: they are anything else.
    """
    try:
        record = decode(key, blob)
        facts = structured(_Facts, record.metadata["facts"])
        mended = record.arrays["mended"]
        _check(facts.diagnosis)
        if mended.dtype != np.uint8:
            raise TypeError(f"a file of {mended.dtype}")
    except (Refused, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no diagnosis: {error}") from None
    return Answer((facts.diagnosis,), facts.trial, mended.tobytes() or None)


def _check(found: Diagnosis) -> None:
    """Refuse arrays that no diagnosis has; figures are drawn from them."""
    if not found.tensors:
        raise ValueError("a diagnosis without a tensor")
    for entry in found.tensors:
        site, histogram = entry.site, entry.histogram
        same = len(site.scale) == len(site.zero_point)
        bins = (len(histogram.edges) - 1, len(histogram.reference), len(histogram.quantized))
        if not same or len(set(bins)) != 1 or (site.bits is not None and not len(site.scale)):
            raise ValueError(f"tensor {entry.name!r} of {len(site.scale)} scales and {bins} bins")


def _listed(value: Any) -> Any:
    """Return data with lists for arrays and tuples."""
    if isinstance(value, dict):
        return {name: _listed(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_listed(one) for one in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return value
