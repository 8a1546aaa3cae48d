"""How far a sweep is, how fast, and how long it will take: for its caller, and for whoever looks at the folder."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from quantviz.specs import Phase, Progress
from quantviz.study.folder import StudyFolder
from quantviz.study.process import this
from quantviz.study.specs.plan import Piece, StudyPlan
from quantviz.study.specs.progress import StudyProgress

_EVERY = 0.5  # seconds between two looks at whether there is something new to write
_AT_LEAST = 10.0  # seconds after which it is written that there is nothing new, for who cannot see the process


class Pace:
    """Counts what a sweep does, and reports it; a thread writes it to the folder, at most twice a second.

    Args:
        folder: the study's.
        plan: the study's.
        pieces: all that the sweep is to have.
        todo: those of them that are not there.
        command: the command line, or "".
        progress: of the caller.
    """

    def __init__(
        self,
        folder: StudyFolder,
        plan: StudyPlan,
        pieces: Sequence[Piece],
        todo: Sequence[Piece],
        command: str,
        progress: Progress,
    ) -> None:
        self._folder, self._plan, self._progress, self._command = folder, plan, progress, command
        self._pieces, self._pieces_done = len(pieces), len(pieces) - len(todo)
        self._images = sum(piece.stop - piece.start for piece in pieces)
        self._left = sum(piece.stop - piece.start for piece in todo)
        self._of_piece: Counter[int] = Counter()
        self._counted, self._started, self._last = 0, 0.0, 0.0
        self._what, self._phase = "Starting", Phase.WORKING
        self._who = this()
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Pace:
        self._folder.tell(self._now())
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._writer.join()
        self._folder.silence()

    @property
    def rate(self) -> float | None:
        """Pictures a second since the first one, with loading and calibration before it, was done."""
        if self._last <= self._started or not self._counted:
            return None
        return self._counted / (self._last - self._started)

    def say(self, message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        """Report what is being done beside computing pictures."""
        self._what, self._phase = message, phase
        self._progress(message, fraction, phase)

    def beat(self) -> None:
        """Report again what was reported last, so that the caller may end the sweep while nothing happens."""
        self._progress(self._what, self._part(), self._phase)

    def step(self, piece: Piece, count: int = 1) -> None:
        """Count more pictures of a piece; the first ones, with loading and calibration before them, set the clock."""
        self._left -= count
        self._of_piece[piece.number] += count
        self._last = time.monotonic()
        if self._started:
            self._counted += count
        else:
            self._started = self._last
        self._what = f"{self._plan.models[piece.model].name}, {piece.protocol}"
        if self.rate:
            self._what += f": {self.rate:.1f} images/s, {_duration(self._left / self.rate)} left"
        self._phase = Phase.SWEEPING
        self._progress(self._what, self._part(), self._phase)

    def committed(self, piece: Piece) -> None:
        """Count a piece that is on the disk, and those of its pictures that were not counted yet."""
        rest = piece.stop - piece.start - self._of_piece.pop(piece.number, 0)
        self._pieces_done += 1
        if rest:
            self.step(piece, rest)
            del self._of_piece[piece.number]

    def lost(self, piece: Piece) -> None:
        """Take back the pictures of a piece that has to be computed again."""
        count = self._of_piece.pop(piece.number, 0)
        self._left += count
        self._counted = max(0, self._counted - count)

    def _part(self) -> float:
        return 1 - self._left / self._images

    def _now(self) -> StudyProgress:
        number, host, started = self._who
        rate = self.rate
        return StudyProgress(
            pieces_done=self._pieces_done,
            pieces=self._pieces,
            images_done=self._images - self._left,
            images=self._images,
            rate=rate,
            seconds_left=self._left / rate if rate else None,
            what=self._what,
            command=self._command or self._plan.command,
            pid=number,
            host=host,
            process_started=started,
            updated=time.time(),
        )

    def _write(self) -> None:
        last, at = ("", -1), time.monotonic()
        while not self._over.wait(_EVERY):
            state = self._what, self._left
            if state != last or time.monotonic() - at > _AT_LEAST:
                last, at = state, time.monotonic()
                self._folder.tell(self._now())


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
