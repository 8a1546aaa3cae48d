"""What a confined process does: it limits itself before it opens anything, does its job, and says how that ended.

It reads one line of JSON, ``{"allowance": {...}, "job": {...}}``, from standard input, writes what happens to standard
output, a line of JSON for each event, and the result to the folder that it was started in. It ends when standard input
is closed, so that it does not outlive its starter.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from quantviz.specs import Phase, Progress, QuantvizError

RESULT: Final = "result"
"""Name of the file with the result, in the process's folder."""

Ending = Literal["done", "refused", "memory", "unexpected"]
Tell = Progress
"""How a job reports what it is doing."""

# What libraries say where memory cannot be had.
_NO_MEMORY = (
    "Failed to allocate memory",
    "Failed to serialize proto",
    "bad_alloc",
    "bad allocation",
    "can't allocate memory",
    "not enough memory",
)
_MOST_FILES = 256


def serve(work: Callable[[dict[str, Any], Tell], bytes]) -> None:
    """Do the job that standard input names, and end the process.

    Args:
        work: takes the job and what reports progress, and returns the result's bytes. Whatever it raises is told: the
            sentence of a QuantvizError, a want of memory, or what the library said.
    """
    events = _events()
    order = json.loads(sys.stdin.buffer.readline())
    _limit(**order["allowance"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ending, sentence = _done(work, order["job"], events)
    _write(events, {"ending": ending, "sentence": sentence})
    os._exit(0)  # whatever still runs has no more to say


def _events() -> TextIO:
    """Return where events go; whatever a library prints goes nowhere."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    return events


def _end_with_parent() -> None:
    while os.read(0, 1 << 10):
        pass
    os._exit(1)


def _limit(memory: int, cpu_seconds: int, result_bytes: int) -> None:
    """Limit memory, processor time and what is written, all of them for good.

    Memory by RLIMIT_DATA, which on Linux counts all private memory: torch alone maps 2.5 GiB of address space that it
    never uses, so that RLIMIT_AS would have to be loose.
    """
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: result_bytes,
        resource.RLIMIT_NOFILE: _MOST_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # At the soft limit of time comes a signal that says so; a second later, at the hard one, the end.
        resource.setrlimit(limit, (most, most + 1 if limit == resource.RLIMIT_CPU and most != hard else most))
    os.nice(5)


def _done(work: Callable[[dict[str, Any], Tell], bytes], job: dict[str, Any], events: TextIO) -> tuple[Ending, str]:
    """Do the job; return how it ended, and why."""

    def tell(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        _write(events, {"message": message, "fraction": fraction, "phase": phase.value})

    try:
        Path(RESULT).write_bytes(work(job, tell))
    except BaseException as error:  # whatever strangers' files cause
        if _lacks_memory(error):
            return "memory", ""
        if isinstance(error, QuantvizError):
            return "refused", str(error)
        return "unexpected", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "done", ""


def _lacks_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it hides, is a want of memory."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def _write(events: TextIO, event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()
