"""Uploaded pictures, decoded once rather than at each run of the page."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from quantviz import images
from quantviz.specs import ImageSample

MOST_BYTES: Final = 128 << 20
"""Bytes of pixels that are kept for all sessions together; the picture that was used longest ago goes first."""

_kept: OrderedDict[str, ImageSample] = OrderedDict()
_lock = threading.Lock()


def decoded(data: bytes, name: str) -> ImageSample:
    """Return the picture of uploaded bytes.

    Sessions share what is kept by the digest of the bytes: who does not have a picture's bytes does not get it.

    Args:
        data: of the file.
        name: for display and messages.

    Raises:
        ImageError: as ``images.load``.
    """
    key = hashlib.sha256(data).hexdigest()
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return replace(_kept[key], name=name)
    sample = images.load(data, name=name)
    with _lock:
        _kept[key] = sample
        while sum(kept.rgb.nbytes for kept in _kept.values()) > MOST_BYTES:
            _kept.popitem(last=False)
    return sample
