"""What every file of ground truth goes through: its bytes within limits, and the size that it was made for."""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path

from quantviz.specs import ImageError, foreign, limits

MAX_BYTES = limits.TRUTH_BYTES
"""Largest file of points or boxes."""

ASPECT_TOLERANCE = 0.01
"""How far a file's aspect ratio may be from its picture's, as a fraction."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)


def read_bytes(source: bytes | Path, name: str, wanted: str) -> tuple[str, bytes]:
    """Return the name to show and the file's bytes, reading no more than the limit.

    Args:
        source: the file's bytes, or its path.
        name: for messages; the path's last part by default.
        wanted: what to give, for messages: ``"a CSV file"``.

    Raises:
        ImageError: there is no such file, it cannot be read, is empty, larger than ``MAX_BYTES``, or a
            server's page in place of the file.
    """
    if isinstance(source, bytes):
        name, data, size = name or "The file", source, len(source)
    else:
        name = name or source.name
        try:
            status = os.stat(source)  # first, since opening a named pipe would wait for ever
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{source} is not a regular file; give the path of {wanted}.")
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise ImageError(f"{source} does not exist; give the path of {wanted}.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{source} cannot be read ({reason}); check its path and permissions.") from None
        size = max(status.st_size, len(data))
    if size > MAX_BYTES:
        raise ImageError(
            f"{name} has {size / 2**20:.1f} MiB, more than the {MAX_BYTES >> 20} MiB allowed; split it by image."
        )
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); give {wanted}.")
    if (found := foreign(data)) and found.remedy:
        raise ImageError(found.sentence(name, wanted, ""))
    return name, data


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Tell whether one size (H, W) is the other at another scale, to within 1 % or the rounding of one pixel."""
    (h, w), (height, width) = first, second
    slack = max(ASPECT_TOLERANCE * w * height, ASPECT_TOLERANCE * h * width, min(width, height))
    return min(*first, *second) > 0 and abs(w * height - h * width) <= slack


def scale_between(own: tuple[int, int], image_size: tuple[int, int], name: str) -> tuple[float, float]:
    """Return the factors of x and y from the size that a file was made for to the picture's.

    Raises:
        ImageError: the aspect ratios differ.
    """
    if not same_aspect(own, image_size):
        raise ImageError(
            f"{name} is for an image of {own[1]} x {own[0]} pixels, but the image has {image_size[1]} x "
            f"{image_size[0]}; give the file that belongs to the image."
        )
    return image_size[1] / own[1], image_size[0] / own[0]


def parse_number(text: str) -> float | None:
    """Return the finite number that a text holds in plain decimal notation, or None."""
    value = float(text) if _NUMBER.fullmatch(text.strip()) else math.inf
    return value if math.isfinite(value) else None


def shown(text: object) -> str:
    """Return a value of a file as a message may show it: short, on one line."""
    value = repr(str(text))
    return value if len(value) <= 60 else value[:56] + "...'"
