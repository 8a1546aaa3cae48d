"""The format of one entry: a safetensors payload behind a magic number, a version and the payload's sha256."""

from __future__ import annotations

import hashlib
import json
import re
import struct

import numpy as np
import safetensors
import safetensors.numpy

from quantviz.specs import StoredRecord, StoreError

LARGEST_RECORD = 2**28
"""Bytes above which a file is not read into memory."""

_HEAD = struct.Struct("<8sI32s")
_MAGIC, _VERSION = b"quantviz", 1
_DTYPES = {
    "F32": "float32",
    "F64": "float64",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
}
_KEY = re.compile(r"[0-9a-f]{64}")


class Refused(ValueError):
    """A row or file that this store cannot have written; the message begins with "its" or "it"."""


def is_key(key: object) -> bool:
    """Tell whether ``key`` is a sha256 in lowercase hex."""
    return type(key) is str and _KEY.fullmatch(key) is not None


def encode(key: str, record: StoredRecord) -> bytes:
    """Return the bytes of an entry.

    Raises:
        StoreError: an array's name or dtype, or the metadata, is not one that can be kept.
    """
    for name, array in record.arrays.items():
        if type(name) is not str or name == "__metadata__":
            raise StoreError(f"Array name {name!r} cannot be stored; use another text.")
        if not isinstance(array, np.ndarray) or array.dtype not in _DTYPES.values():
            kind = getattr(array, "dtype", type(array).__name__)
            raise StoreError(f"Array {name!r} of {kind} cannot be stored; use {', '.join(_DTYPES.values())}.")
    # safetensors writes the raw buffer, so a transposed view has to be laid out in C order first.
    arrays = {name: np.asarray(array, order="C") for name, array in record.arrays.items()}
    try:
        note = json.dumps({"key": key, "metadata": dict(record.metadata)}, allow_nan=False)
        payload = safetensors.numpy.save(arrays, metadata={"quantviz": note})
    except (TypeError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise StoreError(f"The record's metadata or array names cannot be stored as JSON: {error}.") from error
    return _HEAD.pack(_MAGIC, _VERSION, hashlib.sha256(payload).digest()) + payload


def decode(key: str, blob: bytes) -> StoredRecord:
    """Return the record that ``encode`` was given under the same key; its arrays are read-only.

    Raises:
        Refused: the bytes are anything else.
    """
    try:
        magic, version, digest = _HEAD.unpack_from(blob)
        payload = blob[_HEAD.size :]
        if (magic, version) != (_MAGIC, _VERSION):
            raise Refused("it is not a record of this format")
        if hashlib.sha256(payload).digest() != digest:
            raise Refused("its bytes do not match its digest")
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
        note = json.loads(header.pop("__metadata__")["quantviz"])
        if note["key"] != key:
            raise Refused("it was stored under another key")
        if type(note["metadata"]) is not dict or any(item["dtype"] not in _DTYPES for item in header.values()):
            raise Refused("its metadata or an array is of a type that is never stored")
        arrays = safetensors.numpy.load(payload)
    except Refused:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise Refused("it cannot be parsed") from error
    except safetensors.SafetensorError as error:
        raise Refused("it cannot be parsed") from error
    for array in arrays.values():
        array.flags.writeable = False
    return StoredRecord(arrays, note["metadata"])
