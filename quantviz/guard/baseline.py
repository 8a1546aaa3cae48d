"""A release's own numbers, picture by picture, in a file: what a change is judged against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.guard.specs import Cell, Measured
from quantviz.specs import UsageError, utf8

_FORMAT: Final = 1
_KIND: Final = "quantviz check baseline"
_MOST_BYTES = 1 << 30
_COLUMNS = tuple(entry.name for entry in fields(Measured) if entry.name not in ("cell", "pictures", "floor", "size"))
_LATER: Final = ("probability", "logit_noise")
"""Columns that files of before do not have."""


def baseline_bytes(cells: Sequence[Measured]) -> bytes:
    """Return the bytes of a baseline file, JSON; the same numbers give the same bytes.

    Args:
        cells: what is measured of each quantized network.
    """
    entries = [
        {
            **dict(zip(("model", "variant", "protocol"), values.cell, strict=True)),
            "size": values.size,
            "pictures": list(values.pictures),
            **{name: _listed(getattr(values, name)) for name in _COLUMNS},
        }
        for values in cells
    ]
    return utf8(json.dumps({"kind": _KIND, "format": _FORMAT, "cells": entries}, allow_nan=False) + "\n")


def read_baseline(path: Path) -> tuple[Measured, ...]:
    """Return what a baseline file holds.

    Raises:
        UsageError: there is no such file, or it is no baseline.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"Baseline {path.name!r} has more than {_MOST_BYTES >> 20} MiB; give a smaller file.")
        content = json.loads(path.read_bytes())
        if (content["kind"], content["format"]) != (_KIND, _FORMAT):
            raise ValueError(f"it says {content['kind']!r}, format {content['format']!r}")
        return tuple(_measured(entry) for entry in content["cells"])
    except OSError as error:
        raise UsageError(
            f"Baseline {str(path)!r} cannot be read ({error.strerror}); write one by quantviz check --write-baseline."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"Baseline {path.name!r} cannot be used ({error}); write it anew by quantviz check --write-baseline."
        ) from None


def paired(now: Measured, baseline: Sequence[Measured]) -> tuple[Measured, Measured]:
    """Return a network and its baseline on the pictures that both have, in the same order.

    The baseline's network is the one of the same model, variant and protocol; where there is none, the only one.

    Raises:
        UsageError: the baseline has no such network, or no picture is in both.
    """
    before = next((one for one in baseline if one.cell == now.cell), baseline[0] if len(baseline) == 1 else None)
    if before is None:
        known = ", ".join(_name(one.cell) for one in baseline)
        raise UsageError(f"The baseline has no {_name(now.cell)} but {known}; write it anew, or name the variant.")
    places = {sha256: place for place, sha256 in enumerate(before.pictures)}
    both = [(here, places[sha256]) for here, sha256 in enumerate(now.pictures) if sha256 in places]
    if not both:
        raise UsageError(f"The baseline of {_name(now.cell)} has none of these pictures; check the same pictures.")
    ours, theirs = (np.array(column, dtype=np.intp) for column in zip(*both, strict=True))
    return taken(now, ours), taken(before, theirs)


def taken(values: Measured, places: npt.NDArray[np.intp]) -> Measured:
    """Return what is measured of some of the pictures, by their places (k,); one may come several times."""
    return replace(
        values,
        pictures=tuple(values.pictures[at] for at in places),
        floor={name: column[places] for name, column in values.floor.items()},
        **{name: getattr(values, name)[places] for name in _COLUMNS},
    )


def _measured(entry: Any) -> Measured:
    cell: Cell = (str(entry["model"]), str(entry["variant"]), str(entry["protocol"]))
    pictures, size = tuple(map(str, entry["pictures"])), entry["size"]
    unknown = [None] * len(pictures)  # of a column that files of before have not
    columns: dict[str, Any] = {
        name: np.array(entry.get(name, unknown) if name in _LATER else entry[name], dtype=np.float64)
        for name in _COLUMNS
    }
    for name, column in columns.items():
        if column.shape != (len(pictures),):
            raise ValueError(f"{name} has {column.size} values for {len(pictures)} pictures")
    return Measured(cell=cell, pictures=pictures, size=None if size is None else int(size), **columns)


def _listed(column: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in column]


def _name(cell: Cell) -> str:
    return " ".join(cell)
