"""Activation ranges that come with the package: of the default network on the bundled photographs.

Calibrating takes as long as ten comparisons, and these two never change. ``docs/tools/write_ranges.py`` makes the file;
where a network, its weights, its input, the pictures or the computation is another one, ranges are computed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

from quantviz.specs import COMPUTATION_VERSION, CalibrationRef, Preprocessing, WeightsRef, digest_of

FILE: Final = "ranges.json"


@dataclass(frozen=True, slots=True)
class ShippedRanges:
    """Ranges by ``minmax`` of one network's layers.

    Attributes:
        digest: sha256 in hex of what they are of and of the numbers.
        images: how many network inputs were seen.
        limits: layer's dotted name -> (low, high), in the units of that layer's input.
    """

    digest: str
    images: int
    limits: dict[str, tuple[float, float]]


def shipped_ranges(model: str, weights: WeightsRef, calibration: CalibrationRef) -> ShippedRanges | None:
    """Return the ranges that the package holds, or None.

    Args:
        model: name of the network.
        weights: its weights, and the input that they expect.
        calibration: the pictures.
    """
    return _all().get(identity(model, weights.sha256, weights.preprocessing, calibration.sha256))


def identity(model: str, weights: str, preprocessing: Preprocessing, calibration: str) -> str:
    """Return the digest of everything that decides ranges by ``minmax``, but for the processor's rounding.

    Args:
        model: name of the network.
        weights: sha256 in hex.
        preprocessing: how a picture becomes an input.
        calibration: sha256 in hex of the pictures.
    """
    return digest_of([COMPUTATION_VERSION, model, weights, preprocessing, calibration])


@lru_cache(maxsize=1)
def _all() -> dict[str, ShippedRanges]:
    found = {}
    for entry in json.loads(files("quantviz.comparison").joinpath(FILE).read_text(encoding="utf-8")):
        limits = {name: (low, high) for name, (low, high) in entry["limits"].items()}
        key = entry["identity"]
        found[key] = ShippedRanges(digest_of([key, limits]), entry["images"], limits)
    return found
