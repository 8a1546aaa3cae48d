"""Whether what another machine's process writes still changes, by this process's own looks at it.

Two machines' clocks differ, a network file system's times are a third clock's, and any of them may be set anew. So no
time that was written is compared with one that is read: what counts is how long nothing new has been seen, by a clock
that only goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

SILENT: Final = 30.0
"""Seconds without a change after which a process of another machine, which cannot be looked for, counts as ended."""

_MOST: Final = 1000


class Watch:
    """What was seen last of each file, and since when.

    Args:
        clock: seconds since any moment, never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[object, float]] = {}
        self._changing = threading.Lock()

    def still_changes(self, file: Path, content: object) -> bool:
        """Return whether a file's content was another one at a look in the last ``SILENT`` seconds.

        The first look tells nothing yet and counts as a change: who has just come waits until the silence is long.

        Args:
            file: which.
            content: what it holds now.
        """
        now = self._clock()
        with self._changing:
            known = self._seen.get(file)
            if known is not None and known[0] == content:
                return now - known[1] < SILENT
            self._seen.pop(file, None)
            self._seen[file] = (content, now)
            while len(self._seen) > _MOST:
                del self._seen[next(iter(self._seen))]
            return True


ELSEWHERE: Final = Watch()
"""The watch on the sweeps of other machines."""
