"""The maps of a small study, kept as their native grids, so that a gallery needs neither weights nor time."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.specs import StoreError, utf8
from quantviz.study.specs.plan import StudyPlan

GRIDS_FILE: Final = "maps.json"
"""The file of a study's folder that holds its maps; most studies have none."""

FLOAT: Final = "float"
"""Stands for the float network among the bit-widths."""

_FORMAT = 1
_MOST_SIDE = 64

Grid = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StudyGrids:
    """Native maps of a study's pictures.

    Attributes:
        plan: digest of the study's plan.
        grids: (network, label of the bit-width or ``FLOAT``, protocol) -> the map of each picture, uint8 (h, w), 255
            where it is highest; None where it carries no evidence. Float maps stand under every protocol.
    """

    plan: str
    grids: Mapping[tuple[str, str, str], tuple[Grid | None, ...]]

    def pair(self, cell: tuple[str, str, str], picture: int) -> tuple[Grid | None, Grid | None] | None:
        """Return the float and the quantized map of a picture in a cell; None where the cell was not kept."""
        before, after = self.grids.get((cell[0], FLOAT, cell[2])), self.grids.get(cell)
        return None if before is None or after is None else (before[picture], after[picture])


def read_grids(study: Path, plan: StudyPlan) -> StudyGrids | None:
    """Return the maps that a study's folder holds, or None where it holds none.

    Raises:
        StoreError: the file cannot be used, or is of another study.
    """
    path = study / GRIDS_FILE
    try:
        grids = _parsed(json.loads(path.read_bytes()), len(plan.images))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise StoreError(f"Maps {str(path)!r} cannot be used ({reason}); remove the file.") from None
    if grids.plan != plan.digest:
        raise StoreError(f"Maps {str(path)!r} are of another study; remove the file.")
    return grids


def write_grids(study: Path, grids: StudyGrids) -> None:
    """Write maps into a study's folder."""
    cells = [
        {"cell": list(cell), "maps": [None if grid is None else _packed(grid) for grid in maps]}
        for cell, maps in grids.grids.items()
    ]
    content = {"format": _FORMAT, "plan": grids.plan, "cells": cells}
    (study / GRIDS_FILE).write_bytes(utf8(json.dumps(content) + "\n"))


def grid_of(values: npt.NDArray[np.floating[Any]]) -> Grid:
    """Return a map in [0, 1], (h, w), in steps of 1/255."""
    found: Grid = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return found


def _packed(grid: Grid) -> list[Any]:
    return [*grid.shape, base64.b64encode(grid.tobytes()).decode("ascii")]


def _parsed(content: Any, pictures: int) -> StudyGrids:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']!r} is unknown")
    grids = {}
    for entry in content["cells"]:
        network, setting, protocol = map(str, entry["cell"])
        if len(entry["maps"]) != pictures:
            raise ValueError(f"{network} {setting} has not a map for each picture")
        grids[network, setting, protocol] = tuple(None if kept is None else _unpacked(kept) for kept in entry["maps"])
    return StudyGrids(str(content["plan"]), grids)


def _unpacked(kept: Sequence[Any]) -> Grid:
    height, width, data = int(kept[0]), int(kept[1]), base64.b64decode(str(kept[2]), validate=True)
    if not (0 < height <= _MOST_SIDE and 0 < width <= _MOST_SIDE and len(data) == height * width):
        raise ValueError(f"a map of {height} x {width} has {len(data)} values")
    return np.frombuffer(data, np.uint8).reshape(height, width)
