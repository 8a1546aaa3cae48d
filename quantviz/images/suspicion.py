"""Whether a picture's bytes may be decoded in this process: by their structure, before any pixel is decoded."""

from __future__ import annotations

import re
import struct

from PIL import Image

from quantviz.images.libtiff import is_hushed
from quantviz.specs.limits import DECODED_HERE

_MOST_PARTS = 4096
"""Segments, chunks or blocks that a file may have here: Pillow goes through them in Python."""

_MOST_SCANS = 40
_BYTES_A_PIXEL = {"WEBP": 24, "GIF": 12, "PNG": 12, "JPEG": 10, "progressive": 16, "BMP": 12, "TIFF": 12}
"""With the copies that follow: a picture takes 4, its array 3 and what that is made of another 3."""

_WIDE = 1.5  # 16-bit values are converted by way of 32 bits
_FILL = re.compile(rb"\xff{64}")
_PNG_SIGNATURE, _MARKER_START, _END_OF_IMAGE, _START_OF_SCAN = 8, 0xFF, 0xD9, 0xDA


def many_parts(data: bytes) -> bool:
    """Return whether a file has more parts than its own decoder should be sent through here.

    Args:
        data: of any picture; what is none of the formats has no parts.
    """
    if data.startswith(b"\xff\xd8"):
        return _odd_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_chunks(data) > _MOST_PARTS
    if data.startswith(b"GIF8"):
        return _gif_blocks(data) > 16 * _MOST_PARTS
    if data.startswith(b"BM"):
        return _packed_bmp(data)
    return data.startswith(b"RIFF") and _riff_chunks(data) > _MOST_PARTS


def takes_much(picture: Image.Image) -> bool:
    """Return whether an opened picture would take more memory than is granted here, or print what it should not."""
    if any(tile[0] == "libtiff" for tile in getattr(picture, "tile", ())) and not is_hushed():
        return True
    form = "progressive" if picture.info.get("progressive") else picture.format or ""
    wide = _WIDE if picture.mode.startswith("I") else 1.0
    return picture.width * picture.height * _BYTES_A_PIXEL.get(form, 24) * wide > DECODED_HERE


def _odd_jpeg(data: bytes) -> bool:
    """Return whether a JPEG has a long fill, many segments before its first scan, or many scans."""
    if _FILL.search(data[: 1 << 22]) and _long_fill(data):
        return True
    at, segments = 2, 0
    while at + 4 <= len(data) and segments <= _MOST_PARTS:
        if data[at] != _MARKER_START or data[at + 1] in (0, _MARKER_START):
            at, segments = at + 1, segments + 1  # bytes between segments, which Pillow skips one by one
            continue
        if data[at + 1] in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        segments += 1
    scans = data.count(b"\xff\xda", at)
    return segments > _MOST_PARTS or scans > _MOST_SCANS


def _long_fill(data: bytes) -> bool:
    """Return whether much of the file is nothing but 0xFF, which decoders go through byte by byte."""
    return max(map(len, re.findall(rb"\xff{64,}", data)), default=0) > 1 << 16


def _png_chunks(data: bytes) -> int:
    at, chunks = _PNG_SIGNATURE, 0
    while at + 12 <= len(data) and chunks <= _MOST_PARTS:
        at += 12 + int.from_bytes(data[at : at + 4])
        chunks += 1
    return chunks


def _riff_chunks(data: bytes) -> int:
    at, chunks = 12, 0
    while at + 8 <= len(data) and chunks <= _MOST_PARTS:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
        chunks += 1
    return chunks


def _gif_blocks(data: bytes) -> int:
    """Return how many blocks of data a GIF begins with, at least; tiny ones are what takes time."""
    at = 13 + (3 << ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    blocks = 0
    while at < len(data) and blocks <= 16 * _MOST_PARTS:
        kind = data[at]
        if kind == 0x2C:
            flags = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        elif kind == 0x21:
            at += 2
        else:
            return blocks
        while at < len(data) and data[at] and blocks <= 16 * _MOST_PARTS:
            at += 1 + data[at]
            blocks += 1
        at += 1
    return blocks


def _packed_bmp(data: bytes) -> bool:
    """Return whether a BMP is run-length encoded, which Pillow decodes in Python."""
    return len(data) >= 34 and struct.unpack_from("<I", data, 14)[0] >= 40 and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0")
