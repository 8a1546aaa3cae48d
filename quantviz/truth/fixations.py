"""Untrusted files of fixations to points in the picture's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantviz.specs import ImageError
from quantviz.truth.files import read_bytes, same_aspect, scale_between, shown
from quantviz.truth.matlab import Value, is_mat, read_mat
from quantviz.truth.tables import Table, read_table

_Points = npt.NDArray[np.float64]

_WANTED = "a CSV file with columns x and y, or a MATLAB .mat file"
_COLUMNS = tuple((f"{head}x{tail}", f"{head}y{tail}") for head, tail in (("", ""), ("fix_", ""), ("fixation_", ""),
                 ("gaze_", ""), ("pos_", ""), ("", "_px"), ("", "pos")))  # fmt: skip
_VARIABLES = ("fixations", "fixlocs", "fixation_points", "fixationpts", "fixpts", "points", "xy", "gaze")
_OUTSIDE = 0.5  # share of points outside the picture from which on the file cannot be the picture's


def read_fixations(
    source: bytes | Path, image_size: tuple[int, int], *, name: str = "", image: str = ""
) -> tuple[_Points, tuple[str, ...]]:
    """Read the points that people looked at from a CSV or a MATLAB 5 to 7 file; the content decides which it is.

    CSV: columns ``x`` and ``y`` (or ``fix_x``, ``fixation_x``, ``gaze_x``, ``pos_x``, ``x_px``, ``xpos``) by its
    header, or the first two columns where there is none; others (duration, say) are not read. Cells are separated
    by tabs, semicolons or commas; with tabs and semicolons a decimal comma may be used. A column ``image`` (or
    ``filename``, ``stimulus``, ...) selects the rows of one image by stem. Numbers are pixels from the top left;
    where all are whole they are indices counted from 0, and stand for the centres of those pixels.

    MATLAB: a variable of shape (n, 2), x first; a binary fixation map of the picture's aspect ratio (``fixLocs``);
    a struct array with a field ``fixations``, or a cell array, of such (n, 2) arrays (SALICON's ``gaze``), scaled
    from the variable ``resolution`` (rows, columns) where there is one. MATLAB counts pixels from 1: the centre of
    the first is at 1, which becomes 0.5. Of several candidates, the one by a usual name is taken.

    Rows without a number (lost samples) and points outside the picture are left out, and counted in a note.

    Args:
        source: the file's bytes, or its path.
        image_size: (H, W) of the upright picture.
        name: for messages; the path's last part by default.
        image: the picture's file name, for tables of several images.

    Returns:
        float64 (n, 2), n at least 1, x in [0, W) and y in [0, H); and notes.

    Raises:
        ImageError: the file cannot be read, is larger than ``MAX_BYTES``, is neither of the two, is MATLAB 7.3
            (HDF5), holds no fixation of the image, holds fractions of the picture's size instead of pixels, or more
            than half of its points lie outside the picture.
    """
    if isinstance(source, Path) and source.suffix.lower() != ".mat":
        points, name = _from_table(read_table(source, name, _headers(), _WANTED), image), name or source.name
    else:
        name, data = read_bytes(source, name, _WANTED)
        if is_mat(data):
            points = _from_mat(read_mat(data, name), image_size, name)
        else:
            points = _from_table(read_table(data, name, _headers(), _WANTED), image)
    return _inside(points, image_size, name)


def fixations_from_map(
    values: npt.NDArray[np.float64], image_size: tuple[int, int], *, name: str = "The map"
) -> tuple[_Points, tuple[str, ...]]:
    """Return the points of a binary fixation map: the centre of each pixel that is not 0.

    Args:
        values: real (h, w) of 0 and one other value, of the picture's aspect ratio.
        image_size: (H, W) of the upright picture.
        name: for messages.

    Returns:
        float64 (n, 2), n at least 1, x in [0, W) and y in [0, H); and no notes.

    Raises:
        ImageError: the map has another aspect ratio, more than two values, or none that is not 0.
    """
    scale = scale_between((values.shape[0], values.shape[1]), image_size, name)
    if not _is_binary(values):
        raise ImageError(
            f"{name} holds other values than 0 and one more, so that it is no fixation map; give it as a density map."
        )
    rows, columns = np.nonzero(values)
    if not len(rows):
        raise ImageError(f"{name} holds no fixation; leave the image out.")
    return np.stack([columns + 0.5, rows + 0.5], axis=1) * scale, ()


def _headers() -> tuple[str, ...]:
    return tuple(label for pair in _COLUMNS for label in pair)


def _from_table(table: Table, image: str) -> _Points:
    rows = table.of_image(image)
    if table.columns:
        x, y = next(((a, b) for a, b in _COLUMNS if a in table.columns and b in table.columns), ("", ""))
        if not x:
            raise ImageError(f"{table.name} has columns {shown(', '.join(table.columns))}; name two of them x and y.")
        positions = table.columns[x], table.columns[y]
    else:
        positions = 0, 1
    if not rows:
        raise ImageError(f"{table.name} holds no row; give {_WANTED}.")
    points = np.array([[table.number(row, position) for position in positions] for row in rows], np.float64)
    present = points[np.isfinite(points).all(axis=1)]
    _check_unit(present, table.name)
    return points + 0.5 if (present == np.floor(present)).all() else points


def _from_mat(variables: Mapping[str, Value], image_size: tuple[int, int], name: str) -> _Points:
    candidates = {}
    for label, value in variables.items():
        if label.lower() != "resolution" and (points := _layout(value, image_size, name)) is not None:
            candidates[label] = points
    usual = {label.lower(): label for label in reversed(candidates)}
    chosen = next((usual[label] for label in _VARIABLES if label in usual), None)
    if chosen is None and len(candidates) != 1:
        what = f"several variables that may be ({shown(', '.join(candidates))})" if candidates else "none that can be"
        raise ImageError(
            f"{name} should hold one variable of fixations and holds {what}; give one of shape (n, 2) named fixations, "
            "or a binary map of the image's aspect ratio."
        )
    chosen = chosen or next(iter(candidates))
    points = candidates[chosen]
    if getattr(variables[chosen], "shape", (0, 0))[1] == 2:
        _check_unit(variables[chosen], name)
    own = variables.get("resolution")
    if isinstance(own, np.ndarray) and own.size == 2 and ((own >= 1) & (own < 1e6)).all():
        points = points * scale_between((int(own.flat[0]), int(own.flat[1])), image_size, name)
    return points


def _layout(value: Value, image_size: tuple[int, int], name: str) -> _Points | None:
    """Return a variable's points in the file's pixels, or None where it is none of the known layouts."""
    if isinstance(value, np.ndarray):
        if value.ndim != 2 or not value.size:
            return None
        if value.shape[1] == 2:
            return value - 0.5
        if _is_binary(value) and value.any() and same_aspect((value.shape[0], value.shape[1]), image_size):
            return fixations_from_map(value, image_size, name=name)[0]
        return None
    if not isinstance(value, Sequence):
        return None
    parts = [next((part[k] for k in part if k.lower() == "fixations"), None) if isinstance(part, dict) else part
             for part in value]  # fmt: skip
    arrays = [part for part in parts if isinstance(part, np.ndarray) and part.ndim == 2]
    if len(arrays) < len(parts) or any(part.size and part.shape[1] != 2 for part in arrays):
        return None
    filled = [part for part in arrays if part.size]
    if not filled:
        return None
    return np.concatenate(filled) - 0.5


def _is_binary(values: npt.NDArray[Any]) -> bool:
    other = values[values != 0]
    return not other.size or bool((other == other.flat[0]).all())


def _check_unit(points: _Points, name: str) -> None:
    """Refuse fractions of the picture's size, which would all land in its first pixel."""
    present = points[np.isfinite(points)]
    if len(present) and present.min() >= 0 and present.max() <= 1 and (present != np.floor(present)).any():
        raise ImageError(f"{name} holds coordinates from {present.min():g} to {present.max():g}; give them in pixels.")


def _inside(points: _Points, image_size: tuple[int, int], name: str) -> tuple[_Points, tuple[str, ...]]:
    """Leave out what is no point of the picture, and say how much that was."""
    present = points[np.isfinite(points).all(axis=1)]
    inside = present[((present >= 0) & (present < np.array(image_size[::-1]))).all(axis=1)]
    if not len(present):
        raise ImageError(f"{name} holds no fixation; leave the image out.")
    outside = len(present) - len(inside)
    if outside > _OUTSIDE * len(present):
        raise ImageError(
            f"{name} has {outside} of {len(present)} fixations outside the image's {image_size[1]} x {image_size[0]} "
            "pixels; check that it belongs to the image and counts pixels from its top left."
        )
    notes = []
    if len(present) < len(points):
        notes.append(f"{len(points) - len(present)} of {len(points)} rows without coordinates left out")
    if outside:
        notes.append(f"{outside} of {len(present)} fixations outside the image left out")
    return inside, tuple(notes)
