"""Pictures that a process of its own decodes, one at a time: what it is asked, and what is believed of its answer."""

from __future__ import annotations

import json
import threading
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from quantviz.confined import Allowance, Child, Sentences, private_folder
from quantviz.specs import ImageError, limits, no_progress

FILE: Final = "picture"
"""Name of the file's bytes in the process's folder."""

Kind = Literal["picture", "map"]

_SECONDS = 300.0  # by the clock, however busy the machine; the processor time is what bounds it
_HEAD = 1 << 16
_LARGEST = _HEAD + 8 * limits.PICTURE_PIXELS
_one = threading.Lock()


def decoded_apart(
    kind: Kind, data: bytes, name: str, *, indexed: bool = False
) -> tuple[npt.NDArray[Any], list[str], int]:
    """Return what ``decode_picture`` or ``decode_map`` returns, computed by a process of its own.

    Args:
        kind: of what is wanted.
        data: the file's bytes.
        name: for messages.
        indexed: as ``decode_map``.

    Returns:
        uint8 (H, W, 3) for a picture, float64 (h, w) for a map; notes; and the picture's EXIF orientation.

    Raises:
        ImageError: the picture is refused, or takes more memory or time than granted.
    """
    with _one, private_folder() as folder:
        (folder / FILE).write_bytes(data)
        child = Child(
            "quantviz.images.decoder",
            {"kind": kind, "name": name, "indexed": indexed},
            folder,
            Allowance(limits.DECODER_MEMORY, limits.DECODER_SECONDS, _LARGEST),
            _SECONDS,
            _sentences(name),
        )
        child.run(no_progress)
        try:
            return unpacked(child.result(), kind)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageError(f"{name} could not be decoded ({error}); save it again as PNG or JPEG.") from None


def packed(values: npt.NDArray[Any], notes: list[str], turn: int) -> bytes:
    """Return what ``unpacked`` reads."""
    head = json.dumps({"shape": values.shape, "dtype": values.dtype.str, "notes": notes, "turn": turn}).encode()
    return b"".join([head, b"\n", np.ascontiguousarray(values).data.cast("B")])


def unpacked(blob: bytes, kind: Kind) -> tuple[npt.NDArray[Any], list[str], int]:
    """Return values, notes and orientation of a result; nothing in it is trusted.

    Raises:
        ValueError, KeyError, TypeError: it is no such result.
    """
    end = blob.index(b"\n", 0, _HEAD)
    head = json.loads(blob[:end])
    shape, dtype = tuple(map(int, head["shape"])), np.dtype(np.uint8 if kind == "picture" else np.float64)
    if len(shape) != (3 if kind == "picture" else 2) or min(shape) < 1 or (kind == "picture" and shape[2] != 3):
        raise ValueError(f"it is of shape {shape}")
    if head["dtype"] != dtype.str or len(blob) - end - 1 != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
        raise ValueError("its length is another one")
    values = np.frombuffer(blob, dtype, offset=end + 1).reshape(shape)
    return values, [str(note)[:200] for note in head["notes"]][:20], int(head["turn"])


def _sentences(name: str) -> Sentences:
    again = "save it again as a plain PNG or JPEG file"
    return Sentences(
        error=ImageError,
        starting="Decoding the picture",
        late=f"{name} takes more than {limits.DECODER_SECONDS} s of processor time to decode; {again}.",
        memory=f"{name} takes more than {limits.DECODER_MEMORY / 2**30:g} GiB of memory; give a smaller image.",
        unexpected=f"{name} is damaged or incomplete ({{reason}}); {again}.",
        ended=f"{name} ended the process that decodes it ({{how}}), as damaged files do; {again}.",
    )
