"""How far a running sweep is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """How far a running sweep is, as it last told on disk.

    SIGINT ends the sweep in order, and so does SIGTERM, which reaches it also where it was started in the background of
    a shell that lets such commands ignore SIGINT.

    Attributes:
        pieces_done: pieces on the disk.
        pieces: all that this sweep is to have on the disk at its end.
        images_done: pictures done, each counted once a model and protocol.
        images: all of them.
        rate: pictures a second, counted in the same way, since the first one of this run; None until it is known.
        seconds_left: at that rate, or None.
        what: what is being done, in a few words.
        command: the command line, or "".
        pid: process.
        host: machine that it runs on.
        process_started: the time at which it started, in ticks of the machine's clock since its boot, and the boot.
        updated: seconds since the epoch.
    """

    pieces_done: int
    pieces: int
    images_done: int
    images: int
    rate: float | None
    seconds_left: float | None
    what: str
    command: str
    pid: int
    host: str
    process_started: str
    updated: float
