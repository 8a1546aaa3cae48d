"""One operation of an ONNX graph as a plain value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    Attributes:
        op: operator's name, ``"Conv"``.
        inputs: names of tensors, "" where an optional one is left out.
        outputs: names of tensors.
        attributes: by name, as Python values; graphs and tensors as ONNX's own.
        origin: the operator that stands in the file, where that is another one.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
