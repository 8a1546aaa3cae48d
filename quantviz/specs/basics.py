"""Array types, progress, digests, and what the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]


RGB = npt.NDArray[np.uint8]


Progress = Callable[[str, float | None], None]
"""Called with what is being done and the fraction done in [0, 1], or None while it is unknown."""


COMPUTATION_VERSION = 4
"""Raised whenever a change of the code changes a map, so that older cache entries are not read."""


def no_progress(message: str, fraction: float | None = None) -> None:
    """Report nothing; the default of every ``progress`` argument."""


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only, contiguous view that later writes of the caller cannot reach."""
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C", copy=True)
        array.flags.writeable = False
    return array


def digest_of(value: Any) -> str:
    """Return the sha256 in hex of the canonical JSON of ``value``.

    Canonical: keys sorted, no spaces, ASCII; dataclasses as objects. NaN is refused.
    """
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, eq=False)
class StoredRecord:
    """What the store keeps under one key: arrays by name, and JSON-able metadata."""

    arrays: Mapping[str, npt.NDArray[Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
