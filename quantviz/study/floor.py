"""The noise floor of a study: how far its float networks' own maps move under a change that nobody sees."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantviz import statistics
from quantviz.specs import StoreError, utf8
from quantviz.study.cells import estimate_of
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import Estimate

FLOOR_FILE: Final = "floor.json"
"""The file of a study's folder that holds its noise floor; a study without it has none."""

_FORMAT = 1
_DIGITS = 7  # of a drift, which is 1e-6 where two maps are the same to any eye


@dataclass(frozen=True, slots=True)
class NetworkFloor:
    """Drift of one float network's maps between twins that nobody would tell apart.

    Attributes:
        grey: 1 - CC of each picture's map after every pixel moved by at most one grey level, in the order of
            ``StudyFloor.pictures``; None where a map carries no evidence.
        shift: the same after the crop moved by one pixel.
    """

    grey: tuple[float | None, ...]
    shift: tuple[float | None, ...]

    @property
    def estimate(self) -> Estimate:
        """The mean of the twin that moves the maps more, with its 95 % interval; n is 0 where no map carries evidence.

        Its mean is ``NoiseFloor.floor`` of the same pictures.
        """
        return max(map(_estimate, (self.grey, self.shift)), key=lambda one: -1.0 if one.mean is None else one.mean)

    @property
    def pictures(self) -> tuple[float | None, ...]:
        """The greater drift of each picture's two twins; None where both are unknown."""
        pairs = zip(self.grey, self.shift, strict=True)
        return tuple(max((one for one in pair if one is not None), default=None) for pair in pairs)


@dataclass(frozen=True, slots=True)
class StudyFloor:
    """The noise floor of a study's networks.

    Attributes:
        plan: digest of the study's plan.
        pictures: places in the plan of those that were measured.
        networks: name of a network of the study -> its floor.
    """

    plan: str
    pictures: tuple[int, ...]
    networks: Mapping[str, NetworkFloor]

    def mean(self, network: str) -> float | None:
        """Return the mean drift that is noise for a network; None where it was not measured."""
        known = self.networks.get(network)
        return None if known is None else known.estimate.mean


def read_floor(study: Path, plan: StudyPlan) -> StudyFloor | None:
    """Return the noise floor that a study's folder holds, or None where it holds none.

    Args:
        study: its folder.
        plan: the study's.

    Raises:
        StoreError: the file cannot be used, or is of another study.
    """
    path = study / FLOOR_FILE
    try:
        floor = _parsed(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise StoreError(f"Noise floor {str(path)!r} cannot be used ({reason}); run quantviz floor again.") from None
    if floor.plan != plan.digest or any(place >= len(plan.images) for place in floor.pictures):
        raise StoreError(f"Noise floor {str(path)!r} is of another study; run quantviz floor again.")
    return floor


def write_floor(study: Path, floor: StudyFloor) -> None:
    """Write a study's noise floor into its folder.

    Raises:
        StoreError: the disk refuses.
    """
    networks = {
        name: {twin: [_rounded(one) for one in getattr(known, twin)] for twin in ("grey", "shift")}
        for name, known in floor.networks.items()
    }
    content = {"format": _FORMAT, "plan": floor.plan, "pictures": list(floor.pictures), "networks": networks}
    path = study / FLOOR_FILE
    try:
        path.write_bytes(utf8(json.dumps(content, allow_nan=False) + "\n"))
    except OSError as error:
        raise StoreError(f"Noise floor {str(path)!r} cannot be written ({error.strerror}).") from None


def _parsed(content: Any) -> StudyFloor:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']!r} is unknown")
    pictures = tuple(int(place) for place in content["pictures"])
    networks = {
        str(name): NetworkFloor(_drifts(twins["grey"]), _drifts(twins["shift"]))
        for name, twins in content["networks"].items()
    }
    if any(place < 0 for place in pictures):
        raise ValueError("a picture has no place in the study")
    if any(len(twin) != len(pictures) for one in networks.values() for twin in (one.grey, one.shift)):
        raise ValueError("a network has not a drift for each picture")
    return StudyFloor(str(content["plan"]), pictures, networks)


def _drifts(values: Any) -> tuple[float | None, ...]:
    drifts = tuple(None if value is None else float(value) for value in values)
    if any(one is not None and not (math.isfinite(one) and 0 <= one <= 2) for one in drifts):
        raise ValueError("a drift is not within 0 and 2")
    return drifts


def _estimate(drifts: Sequence[float | None]) -> Estimate:
    known = [one for one in drifts if one is not None]
    sample = statistics.summary(known, resampled=False)
    return estimate_of(sample.n, sample.mean, sample.sd, sample.interval)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(min(max(value, 0.0), 2.0), _DIGITS)
