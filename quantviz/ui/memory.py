"""The server's memory: what was freed goes back to the system, which glibc does by itself only at the end of its heaps.

Maps that come and go leave holes in its heaps, of which ``quantviz serve`` lets it have few (``MALLOC_ARENA_MAX``). The
holes are given back from time to time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from typing import Final

_EVERY: Final = 20.0  # seconds
_MANY: Final = 50  # modules, once as many have been imported they are set aside
_ANEW: Final = 45  # times of ``_EVERY`` after which they are in any case: what is gone since then is found then


def trimmer() -> Callable[[], None] | None:
    """Return a function that gives freed memory back to the system (``malloc_trim(3)``); None without glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda: trim(0) and None


def set_aside() -> None:
    """Let what is in memory now, most of it modules, be looked at by no later search for garbage.

    Streamlit searches all of it at the end of every run of a page: a third of a second, in which nothing else runs and
    the page's last parts do not leave. What was set aside before and is of no use any more goes now.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def keep_trimmed() -> None:
    """Give freed memory back from time to time, in a thread that ends with the process."""
    trim = trimmer()
    if trim is None:
        return

    def work() -> None:
        waiting, known, rounds = threading.Event(), len(sys.modules), 0
        while not waiting.wait(_EVERY):
            rounds += 1
            if len(sys.modules) > known + _MANY or rounds % _ANEW == 0:
                known = len(sys.modules)
                set_aside()
            trim()

    threading.Thread(target=work, name="memory", daemon=True).start()
