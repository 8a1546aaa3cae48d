"""The server's memory: what was freed goes back to the system, which glibc does by itself only at the end of its heaps.

Maps that come and go leave holes in its heaps, of which ``quantviz serve`` lets it have few (``MALLOC_ARENA_MAX``). The
holes are given back from time to time.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final

_EVERY: Final = 20.0  # seconds


def trimmer() -> Callable[[], None] | None:
    """Return a function that gives freed memory back to the system (``malloc_trim(3)``); None without glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda: trim(0) and None


def keep_trimmed() -> None:
    """Give freed memory back from time to time, in a thread that ends with the process."""
    trim = trimmer()
    if trim is None:
        return

    def work() -> None:
        waiting = threading.Event()
        while not waiting.wait(_EVERY):
            trim()

    threading.Thread(target=work, name="memory", daemon=True).start()
