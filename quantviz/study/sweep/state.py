"""The state of a sweep as a small JSON file, written by the sweep's own process for the program that started it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path

from quantviz.specs import QuantvizError, limits, read_json
from quantviz.study import process
from quantviz.study.watching import ELSEWHERE


class JobState(StrEnum):
    """How far a sweep is.

    ``STARTING``: its process runs and has not said how far it is; ``STOPPED``: it was interrupted or killed;
    ``FAILED``: it ended by itself without a result.
    """

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class SweepState:
    """What the file holds.

    Attributes:
        state: what the process said last; of a process that was killed, ``STARTING`` or ``RUNNING``.
        message: one sentence about the end, or "".
        pid: the process.
        host: its machine.
        process_started: when it started, as in ``StudyProgress``.
        updated: when this was written, in seconds since 1970.
    """

    state: JobState
    message: str
    pid: int
    host: str
    process_started: str
    updated: float

    def at_work(self, file: Path) -> bool:
        """Return whether the process is there and has not written how it ended.

        Args:
            file: that this was read from.
        """
        if self.state not in (JobState.STARTING, JobState.RUNNING):
            return False
        if self.host != process.host():
            return ELSEWHERE.still_changes(file, self)
        return bool(self.process_started) and process.started(self.pid) == self.process_started


def write_state(file: Path, state: JobState, message: str = "", pid: int | None = None, *, anew: bool = False) -> None:
    """Write a state, whole or not at all; what the disk refuses is not written.

    Args:
        file: where to.
        state: of the sweep.
        message: one sentence, or "".
        pid: the sweep's process; None for this one.
        anew: leave the file alone where there is one, written meanwhile by the sweep itself.
    """
    number = os.getpid() if pid is None else pid
    entry = SweepState(state, message, number, process.host(), process.started(number), time.time())
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with suppress(OSError):
        part.write_text(json.dumps(asdict(entry), indent=1) + "\n", "utf-8")
        if anew:
            with suppress(FileExistsError):
                os.link(part, file)
            part.unlink()
        else:
            os.replace(part, file)


def read_state(file: Path) -> SweepState | None:
    """Return what a file holds, or None where there is none or it cannot be used."""
    try:
        with file.open("rb") as opened:
            entry = read_json(opened.read(limits.PROGRESS_BYTES + 1), most=limits.PROGRESS_BYTES)
        values = {each.name: entry[each.name] for each in fields(SweepState)}
        return SweepState(**{**values, "state": JobState(values["state"]), "pid": int(values["pid"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def stated(file: Path | None) -> Iterator[None]:
    """Write how the sweep in the block goes and how it ends; nothing for None.

    A process that is ended by a signal does not come out of the block: whoever ends it writes that it was stopped.
    """
    if file is None:
        yield
        return
    write_state(file, JobState.RUNNING)
    try:
        yield
    except KeyboardInterrupt:
        write_state(file, JobState.STOPPED, "Interrupted.")
        raise
    except BaseException as error:
        write_state(file, JobState.FAILED, _sentence(error))
        raise
    write_state(file, JobState.FINISHED)


def _sentence(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words if isinstance(error, QuantvizError) else f"Unexpected {type(error).__name__}: {words}"
