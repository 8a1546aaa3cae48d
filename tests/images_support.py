"""What the tests of images share: pictures made byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from quantviz.specs import ImageError


def encode(picture, form, **options):
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, form, **options)
    return buffer.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"".join(chunk(*extra) for extra in chunks) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def outcome(read, data):
    """What was read, or the message of the ImageError that was raised; any other exception passes."""
    try:
        return read(data)
    except ImageError as error:
        return str(error)
