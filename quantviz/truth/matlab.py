"""Untrusted MATLAB 5 bytes (.mat up to version 7) to arrays, structs and cells.

SciPy's reader ends the whole process with a segmentation fault on damaged files (measured: within a minute of random
changes to small files), so this one is used, which is slower, knows less, and trusts no length that it reads. The
format is that of MathWorks' "MAT-File Format". Nothing is executed: functions, objects and sparse matrices are skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantviz.specs import ImageError, limits

MAX_DECODED = limits.MAT_DECODED
"""Bytes that one file's compressed parts may decode to, altogether."""

MAX_DEPTH = limits.MAT_DEPTH
"""How deep structs and cells may be nested."""

Value = Any
"""A float64 array of any shape; a list of one dict for each element of a struct array; a list for a cell array; text of
one line where it is asked for; or None for what is not read."""

_HEADER = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MATRIX, _COMPRESSED = 14, 15
_STORAGE = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800


class _Damaged(Exception):
    """The bytes break the format; the message says how."""


def is_mat(data: bytes) -> bool:
    """Tell whether bytes are a MATLAB file of version 5 to 7.3, by its header."""
    return data[:6] == b"MATLAB" or data[126:128] in (b"IM", b"MI") or _HDF5 in (data[:8], data[512:520])


def read_mat(data: bytes, name: str, *, text: bool = False) -> Mapping[str, Value]:
    """Read a file's variables by name.

    Args:
        data: the file's bytes.
        name: for messages.
        text: read text as well.

    Raises:
        ImageError: the file is of version 7.3 (HDF5), is damaged, or decodes to more than ``MAX_DECODED`` bytes.
    """
    if _HDF5 in (data[:8], data[512:520]) or data.startswith(b"MATLAB 7.3"):
        raise ImageError(
            f"{name} is a MATLAB 7.3 (HDF5) file, which is not read; save it in MATLAB with save(file, name, '-v7')."
        )
    try:
        return dict(_Reader("<" if data[126:128] == b"IM" else ">", text).variables(data))
    except (_Damaged, struct.error, zlib.error, ValueError, OverflowError) as error:
        raise ImageError(f"{name} is a damaged MATLAB file ({error}); save it again with '-v7'.") from None
    except MemoryError:
        raise ImageError(f"{name} needs more memory than there is; save fewer variables in it.") from None


@dataclass(slots=True)
class _Reader:
    """Reads elements in one byte order, and counts what it decompresses."""

    order: str
    text: bool = False
    decoded: int = 0
    parts: int = 0

    def variables(self, data: bytes) -> Iterator[tuple[str, Value]]:
        for kind, body in self.elements(memoryview(data)[_HEADER:]):
            if kind == _COMPRESSED:
                for inner, matrix in self.elements(memoryview(self.inflated(body))):
                    if inner == _MATRIX:
                        yield self.matrix(matrix, 0)
            elif kind == _MATRIX:
                yield self.matrix(body, 0)

    def inflated(self, body: memoryview) -> bytes:
        stream = zlib.decompressobj()
        data = stream.decompress(body, MAX_DECODED - self.decoded + 1)
        self.decoded += len(data)
        if self.decoded > MAX_DECODED:
            raise _Damaged(f"it decodes to more than {MAX_DECODED >> 20} MiB")
        if not stream.eof:
            raise _Damaged("a compressed variable is incomplete")
        return data

    def elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Split bytes into elements, each with its type."""
        at = 0
        while at < len(data):
            kind, length = struct.unpack_from(self.order + "II", data, at)
            start, padding = at + 8, -length % 8
            if kind >> 16:  # a small element: length and type in one word, up to four bytes in the next
                kind, length, start, padding = kind & 0xFFFF, kind >> 16, at + 4, 0
                if length > 4:
                    raise _Damaged(f"a small element claims {length} bytes")
            if length > len(data) - start:
                raise _Damaged(f"an element claims {length} bytes where {len(data) - start} are left")
            yield kind, data[start : start + length]
            at = max(start + length + padding, at + 8) if kind != _COMPRESSED else start + length

    def matrix(self, body: memoryview, depth: int) -> tuple[str, Value]:
        """Read one variable or one part of a struct or cell: its name and its value."""
        self.parts += 1
        if self.parts > limits.MAT_PARTS:
            raise _Damaged(f"it holds more than {limits.MAT_PARTS:,} matrices")
        if not len(body):
            return "", np.zeros((0, 0))
        if depth > MAX_DEPTH:
            raise _Damaged(f"it is nested deeper than {MAX_DEPTH}")
        parts = self.elements(body)
        (flags,) = struct.unpack_from(self.order + "I", _next(parts)[1])
        if flags & 0xFF == _OPAQUE:  # of another layout, and without sizes
            return "", None
        dimensions = self.numbers(*_next(parts))
        name = bytes(_next(parts)[1]).decode("latin-1").rstrip("\0")
        sizes = [int(size) for size in dimensions]
        count = 1
        for size in sizes:
            count *= size
        if len(sizes) < 2 or min(sizes) < 0 or count > len(body):  # each element takes a byte or more
            raise _Damaged(f"{name or 'a part'} claims a size of {sizes}")
        kind = flags & 0xFF
        if kind in _NUMERIC and not flags & _COMPLEX:
            values = self.numbers(*_next(parts))
            if len(values) != count:
                raise _Damaged(f"{name or 'a part'} holds {len(values)} numbers for a size of {sizes}")
            return name, values.astype(np.float64).reshape(sizes, order="F")
        if kind == _CHAR and self.text and sizes[0] == 1:
            return name, self.line(*_next(parts))
        if kind == _CELL:
            return name, [self.part(parts, depth) for _ in range(count)]
        if kind == _STRUCT:
            return name, self.structs(parts, count, depth)
        return name, None

    def line(self, kind: int, body: memoryview) -> str | None:
        if kind not in _ENCODINGS:
            return None
        encoding = _ENCODINGS[kind] + ({"<": "-le", ">": "-be"}[self.order] if kind in (4, 17) else "")
        return bytes(body).decode(encoding, "replace")

    def structs(self, parts: Iterator[tuple[int, memoryview]], count: int, depth: int) -> list[dict[str, Value]]:
        (length,) = struct.unpack_from(self.order + "i", _next(parts)[1])
        text = bytes(_next(parts)[1])
        if length < 1 or len(text) % length:
            raise _Damaged(f"names of fields claim {length} bytes each")
        fields = [text[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(text), length)]
        return [{field: self.part(parts, depth) for field in fields} for _ in range(count if fields else 0)]

    def part(self, parts: Iterator[tuple[int, memoryview]], depth: int) -> Value:
        kind, body = _next(parts)
        if kind != _MATRIX:
            raise _Damaged(f"an element of type {kind} stands where a matrix should")
        return self.matrix(body, depth + 1)[1]

    def numbers(self, kind: int, body: memoryview) -> np.ndarray[Any, Any]:
        if kind not in _STORAGE:
            raise _Damaged(f"numbers are stored as type {kind}")
        return np.frombuffer(body, np.dtype(self.order + _STORAGE[kind]))


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    part = next(parts, None)
    if part is None:
        raise _Damaged("a matrix ends too early")
    return part
