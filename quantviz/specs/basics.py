"""Array types, progress, digests, and what the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]


RGB = npt.NDArray[np.uint8]


class Phase(StrEnum):
    """What kind of work a progress report is about, for programs; the message beside it is for people."""

    WORKING = "working"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READING = "reading"
    CALIBRATING = "calibrating"
    LEARNING = "learning"
    QUANTIZING = "quantizing"
    EXPORTING = "exporting"
    EXPLAINING = "explaining"
    SCORING = "scoring"
    TIMING = "timing"
    SWEEPING = "sweeping"
    WRITING = "writing"


class Progress(Protocol):
    """Reports progress; what it raises ends the work that reports, and is the way to cancel it."""

    def __call__(self, message: str, fraction: float | None = None, phase: Phase = Phase.WORKING, /) -> None:
        """Report what is being done.

        Args:
            message: for people, without a full stop.
            fraction: the part done in [0, 1], or None while it is unknown.
            phase: the kind of work.
        """


COMPUTATION_VERSION = 4
"""Raised whenever a change of the code changes a map, so that older cache entries are not read."""


def no_progress(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
    """Report nothing; the default of every ``progress`` argument."""


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only, contiguous view that later writes of the caller cannot reach."""
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C", copy=True)
        array.flags.writeable = False
    return array


LATER: Final[Mapping[str, bool]] = {"later": True}
"""Metadata of a dataclass's field that came after the first digests: ``digest_of`` leaves it out at its default."""


def digest_of(value: Any) -> str:
    """Return the sha256 in hex of the canonical JSON of ``value``.

    Canonical: that of ``plain``, keys sorted, no spaces, ASCII. What was known by its digest before a field was added
    still is. NaN is refused.
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return JSON-able data: dataclasses as objects, without ``LATER`` fields that have their default."""
    if hasattr(value, "__dataclass_fields__"):
        pairs = ((entry, getattr(value, entry.name)) for entry in fields(value))
        return {
            entry.name: plain(content)
            for entry, content in pairs
            if not (entry.metadata.get("later") and content == entry.default)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, eq=False)
class StoredRecord:
    """What the store keeps under one key: arrays by name, and JSON-able metadata."""

    arrays: Mapping[str, npt.NDArray[Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
