"""JPEG files without their end marker, of which every pixel may be there all the same."""

from __future__ import annotations

import io
import re
from typing import Final

from PIL import Image

NO_END: Final = "its end marker was missing; every pixel is there"
"""The note on such a picture."""

_SCAN: Final = 0xDA
_ALONE: Final = frozenset((*range(0xD0, 0xD9), 0x01))  # markers without a segment
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})  # Huffman-coded: baseline, extended and progressive
_RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")
_ENTROPY_END: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_COEFFICIENTS: Final = 64
_PADDINGS: Final = (b"\x55", b"\xaa\x35")
_LENGTH: Final = 512  # bytes of padding: what is missing of a block, and more


def with_end(data: bytes) -> bytes | None:
    """Return a JPEG file with an end marker, or None where a part of its picture is missing.

    A decoder that meets the end marker too early fills the rest with grey and says nothing. So the file is decoded
    with two paddings of entropy-coded data before the marker: what comes after the last block of the last scan changes
    nothing, and anything else changes a pixel. The scans must be all there are: each coefficient of each component to
    its last bit (ITU-T T.81, annexes B and G).

    Args:
        data: of a file that its decoder takes for cut short; decoded three times at most.
    """
    body = data.rstrip(b"\xff")
    last = _last_scan(body)
    if last is None:
        return None
    restarts = _RESTART.findall(body, last)
    following = bytes([0xD0 + (restarts[-1][0] - 0xD0 + 1) % 8 if restarts else 0xD0])
    ended = [
        b"".join([body, filling * _LENGTH, b"\xff", following, filling * _LENGTH, b"\xff\xd9"]) for filling in _PADDINGS
    ]
    first, second = (_pixels(each) for each in ended)
    return body + b"\xff\xd9" if first is not None and first == second else None


def _last_scan(data: bytes) -> int | None:
    """Return where the entropy-coded data of the last scan begin; None where scans are missing, or it is no such file.

    Of every component and coefficient the scans so far must have brought the lowest bit.
    """
    at, kind, begun = 2, 0, None
    missing: dict[int, set[int]] = {}
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        if marker in _ALONE:
            at += 2
            continue
        segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            kind = marker
            missing = {number: set(range(_COEFFICIENTS)) for number in segment[6::3]}
        at += 4 + len(segment)
        if marker != _SCAN:
            continue
        count = segment[0] if segment else 0
        if kind not in _FRAMES or len(segment) < 4 + 2 * count:
            return None
        start, end, low = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
        for number in segment[1 : 1 + 2 * count : 2]:
            if low == 0:
                missing.get(number, set()).difference_update(range(start, end + 1))
        begun = at
        following = _ENTROPY_END.search(data, at)
        at = following.start() if following else len(data)
    return begun if missing and not any(missing.values()) else None


def _pixels(data: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.tobytes()
    except (OSError, SyntaxError, ValueError):
        return None
