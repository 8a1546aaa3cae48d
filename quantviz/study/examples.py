"""Results of single networks that come with quantviz, for pages that have none of one's own yet."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np

from quantviz.comparison.structured import structured
from quantviz.layerwise.diagnosis.specs import ChannelFigures, Diagnosis, TensorFigures, TensorHistogram
from quantviz.layerwise.specs import SearchResult, Sensitivity
from quantviz.specs import QuantvizError, StoreError, limits, read_json
from quantviz.study.shipped import SHIPPED

T = TypeVar("T", Diagnosis, Sensitivity, SearchResult)

_NAMES: Final[dict[type, str]] = {Diagnosis: "diagnosis", Sensitivity: "sensitivity", SearchResult: "search"}
_DIGITS: Final = 6


@lru_cache(maxsize=3)
def shipped_example(kind: type[T]) -> T:
    """Return the diagnosis, the sensitivity or the search that comes with quantviz.

    Raises:
        StoreError: its file is missing or cannot be used.
    """
    file = SHIPPED / f"example-{_NAMES[kind]}.json"
    try:
        return structured(kind, read_json(file.read_bytes(), most=limits.ATTRIBUTION_BYTES))
    except (OSError, ValueError, QuantvizError) as error:
        raise StoreError(
            f"Example {file.name!r} cannot be used ({error}); install quantviz again, or write it by "
            "docs/tools/write_examples.py."
        ) from None


def example_bytes(result: Diagnosis | Sensitivity | SearchResult) -> bytes:
    """Return the file of an example: JSON with numbers of six digits.

    A diagnosis is without single channels, scales and histograms, which are nine tenths of it and are not shown.
    """
    if isinstance(result, Diagnosis):
        result = replace(result, details={}, tensors=tuple(map(_bare, result.tensors)))
    return json.dumps(_short(asdict(result)), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _bare(entry: TensorFigures) -> TensorFigures:
    none, whole = np.zeros(0), np.zeros(0, np.int64)
    return replace(
        entry,
        site=replace(entry.site, scale=none, zero_point=whole),
        histogram=TensorHistogram(none, whole, whole, 0),
        by_channel=ChannelFigures(none, none, none, np.zeros(0, np.bool_)),
    )


def _short(value: Any) -> Any:
    """Return data with lists for arrays and tuples, and floats of a few digits."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_short(one) for one in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
