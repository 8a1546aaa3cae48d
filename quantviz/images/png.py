"""What of a PNG file Pillow would refuse a sound picture for: texts and profiles beyond its own limits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST = 2**20  # PIL.PngImagePlugin.MAX_TEXT_CHUNK
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TURNING = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")  # may say which way is up


def without_long_texts(data: bytes) -> bytes:
    """Return a PNG file without texts that decide no pixel, and without a colour profile that Pillow would refuse.

    Editors and generators write megabytes of text (prompts, histories), compressed to nothing; Pillow then refuses the
    file, which is sound. Texts that may hold the orientation stay, within Pillow's limit.

    Args:
        data: of any file; one that is no PNG, or is cut off, is returned as it is.
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept, dropped = [_SIGNATURE], False
    for kind, body, whole in _chunks(data):
        if kind in _TEXTS and (not body.startswith(_TURNING) or _is_long(kind, body)):
            dropped = True
        elif kind == b"iCCP" and _is_long(kind, body):
            dropped = True
        else:
            kept.append(whole)
    return b"".join(kept) if dropped else data


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield a file's chunks: kind, content, and the chunk as it stands; whatever cannot be parsed is one at the end."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            break
        yield kind, data[at + 8 : end - 4], data[at:end]
        at = end
    if at < len(data):
        yield b"", b"", data[at:]


def _is_long(kind: bytes, body: bytes) -> bool:
    """Return whether a chunk's content, where it is compressed its content uncompressed, exceeds Pillow's limit."""
    _, _, rest = body.partition(b"\0")
    if kind == b"iTXt":
        packed, (_, _, rest) = rest[:1] == b"\1", rest[2:].partition(b"\0")
        rest = rest.partition(b"\0")[2]
    else:
        packed, rest = kind != b"tEXt", rest[1:]
    if not packed:
        return len(rest) > _MOST
    try:
        return len(zlib.decompressobj().decompress(rest, _MOST + 1)) > _MOST
    except zlib.error:
        return False  # Pillow judges what is damaged
