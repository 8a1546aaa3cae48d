"""Who computes a sweep's pieces: this process, several of this machine, or workers of a Ray cluster.

Whoever computes a piece, it is the same to the byte; only the sweep's own process writes to the study. A worker that is
killed is replaced, and its piece computed again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Literal, Protocol

from quantviz.pipeline.lane import State
from quantviz.pipeline.worker import Job, Kind
from quantviz.specs import Piece, QuantvizError, StudyPlan, UsageError

ENGINES: Final = ("local", "ray")
LEFT_BEHIND: Final[set[str]] = set()
"""Folders that a team removes when it is closed, and that go with it where the process has to end at once."""

_DEATHS = 3
_SERVE = "import sys; sys.path[:] = sys.argv[2:]; from quantviz.pipeline.worker import serve; serve(int(sys.argv[1]))"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Engine:
    """Who computes.

    Attributes:
        kind: ``"local"``: processes of this machine (one worker: this process itself); ``"ray"``: actors of a Ray
            cluster, each on one processor core.
        workers: how many.
        address: of a running Ray cluster (``"auto"``, or ``HOST:PORT``); None for one on this machine that ends with
            the sweep.

    Raises:
        UsageError: an unknown kind, no worker, or an address for an engine that has none.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ENGINES:
            raise UsageError(f"Engine {self.kind!r} is unknown; use one of {', '.join(ENGINES)}.")
        if self.workers < 1:
            raise UsageError(f"{self.workers} workers compute nothing; use 1 or more.")
        if self.address is not None and self.kind != "ray":
            raise UsageError(f"Address {self.address!r} is of a Ray cluster; add --engine ray.")

    def check(self) -> None:
        """Refuse what this machine cannot do, before anything is written.

        Raises:
            UsageError: Ray is not installed.
        """
        if self.kind == "ray":
            from quantviz.pipeline.engine_ray import check_installed

            check_installed()


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker of a team has to tell.

    Attributes:
        member: which worker, from 0.
        kind: ``ready`` for work; ``opened`` the networks of its piece; a ``step`` of ``value`` pictures; ``said``
            ``value``, a message and a fraction; ``done`` with its piece, ``value`` the rows and the state; ``failed``
            for the reason ``value``, a QuantvizError; or ``died``, ``value`` in a few words how.
        value: as above.
    """

    member: int
    kind: Kind
    value: Any = None


class Team(Protocol):
    """Workers that are given one piece each at a time."""

    def start(self, member: int) -> None:
        """Begin a worker, or begin it anew after it died; it tells when it is ready."""

    def give(self, member: int, piece: Piece, state: State) -> None:
        """Let a worker compute a piece."""

    def events(self, seconds: float) -> Iterator[Event]:
        """Yield what there is to tell, after waiting at most so long for it."""

    def close(self) -> None:
        """End all workers, whatever they do; nothing of them remains."""


def sequential(plan: StudyPlan, protocol: str) -> bool:
    """Tell whether the pieces of a protocol need the one before: its observers go on from picture to picture."""
    return "online_ranges" in plan.quants_of(protocol)[0].deviations


Lane = tuple[int, str]


class Schedule:
    """Which worker computes which piece next.

    Pieces that need the one before them are of one worker, and begin first: nothing shortens their row. The others go
    to whoever is free, those of the networks that a worker has first. While a model is loaded and calibrated for the
    first time, its other pieces wait, so that they find in the store what that finds out.

    Args:
        plan: of the study.
        todo: the pieces that are not there.
    """

    def __init__(self, plan: StudyPlan, todo: Sequence[Piece]) -> None:
        self._waiting: dict[Lane, deque[Piece]] = {}
        for piece in todo:
            self._waiting.setdefault((piece.model, piece.protocol), deque()).append(piece)
        self._chained = {lane for lane in self._waiting if sequential(plan, lane[1])}
        self._has: dict[int, Lane] = {}
        self._opened: set[Lane] = set()
        self._opening: dict[int, Lane] = {}
        self._busy: dict[int, Piece] = {}
        self._deaths: Counter[int] = Counter()
        self._plan, self.left = plan, len(todo)

    @property
    def most_workers(self) -> int:
        """How many workers can have something to do at the same time."""
        return sum(1 if lane in self._chained else len(pieces) for lane, pieces in self._waiting.items())

    def take(self, member: int) -> Piece | None:
        """Return the piece that a worker without one computes next, or None where it has to wait."""
        lanes = [lane for lane, pieces in self._waiting.items() if pieces and self._free(member, lane)]
        if not lanes:
            return None
        crowd = Counter(self._has.values())

        def order(lane: Lane) -> tuple[bool, bool, bool, float]:
            share = len(self._waiting[lane]) / (1 + crowd[lane])
            return lane != self._has.get(member), lane not in self._chained, crowd[lane] > 0, -share

        lane = min(lanes, key=order)
        piece = self._busy[member] = self._waiting[lane].popleft()
        if self._has.get(member) != lane:
            self._opening[member] = lane
        self._has[member] = lane
        return piece

    def opened(self, member: int) -> None:
        """Note that a worker has the networks of its piece."""
        if lane := self._opening.pop(member, None):
            self._opened.add(lane)

    def done(self, member: int) -> Piece:
        """Return the piece that a worker is done with."""
        self.left -= 1
        return self._busy.pop(member)

    def died(self, member: int, how: str) -> None:
        """Put the piece of a worker that died back to where it was.

        Raises:
            QuantvizError: it has cost too many workers.
        """
        self._opening.pop(member, None)
        self._has.pop(member, None)
        piece = self._busy.pop(member, None)
        number = -1 if piece is None else piece.number
        self._deaths[number] += 1
        if piece is not None:
            self._waiting[piece.model, piece.protocol].appendleft(piece)
        if self._deaths[number] < _DEATHS:
            return
        what = "before it had any work"
        if piece is not None:
            model = self._plan.models[piece.model].name
            what = f"on pictures {piece.start + 1} to {piece.stop} under {model}, {piece.protocol}"
        raise QuantvizError(
            f"A worker ended {_DEATHS} times {what} ({how}); use fewer --workers if memory is short, and repeat the "
            "command: what was done is kept."
        )

    def _free(self, member: int, lane: Lane) -> bool:
        others = [piece for other, piece in self._busy.items() if other != member]
        if lane in self._chained and any((piece.model, piece.protocol) == lane for piece in others):
            return False
        opening = {model for other, (model, _) in self._opening.items() if other != member}
        return lane == self._has.get(member) or lane in self._opened or lane[0] not in opening


class LocalTeam:
    """Processes of this machine, one thread each, tied to this one: none outlives it.

    Args:
        job: what they compute.
        size: how many they are.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job = job
        self._members: dict[int, tuple[subprocess.Popen[bytes], Connection]] = {}
        self._ready = [*range(size)]

    def start(self, member: int) -> None:
        """See ``Team``; the process itself begins with its first piece."""
        self._ready.append(member)

    def give(self, member: int, piece: Piece, state: State) -> None:
        """See ``Team``."""
        if member not in self._members:
            self._begin(member)
        self._send(member, (piece, state))

    def events(self, seconds: float) -> Iterator[Event]:
        """See ``Team``."""
        while self._ready:
            yield Event(self._ready.pop(0), "ready")
        links = {link: member for member, (_, link) in self._members.items()}
        for link in wait(list(links), seconds):
            member = links[link]  # type: ignore[index]
            try:
                kind, value = self._members[member][1].recv()
            except (EOFError, OSError):
                process, _ = self._members.pop(member)
                process.kill()
                kind, value = "died", _ended(process.wait())
            yield Event(member, kind, value)

    def close(self) -> None:
        """See ``Team``."""
        for process, link in self._members.values():
            link.close()
            process.kill()
        for process, _ in self._members.values():
            process.wait()
        self._members.clear()

    def _begin(self, member: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # In a session of its own, Ctrl-C reaches the sweep alone, which then ends it.
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ONE_THREAD},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("QUANTVIZ_DEBUG") else subprocess.DEVNULL,
                start_new_session=True,
            )
        self._members[member] = process, Connection(ours.detach())
        self._send(member, self._job)

    def _send(self, member: int, value: object) -> None:
        try:
            self._members[member][1].send(value)
        except OSError:
            pass  # it has died, which the end of its messages tells


def _ended(status: int) -> str:
    """Say in a few words how a process ended."""
    if status >= 0:
        return f"exit status {status}"
    return f"signal {-status}, {signal.strsignal(-status)}"


def assemble(engine: Engine, job: Job, most: int) -> Team:
    """Return the workers of an engine, not more than can have something to do at the same time, ``most``.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at its address.
    """
    size = min(engine.workers, most)
    if engine.kind == "ray":
        from quantviz.pipeline.engine_ray import RayTeam

        return RayTeam(job, size, engine.address)
    return LocalTeam(job, size)


def before(plan: StudyPlan, piece: Piece) -> Piece | None:
    """Return the piece whose state a piece starts from, or None where it starts from nothing."""
    if piece.start == 0 or not sequential(plan, piece.protocol):
        return None
    return replace(piece, number=piece.number - 1, start=piece.start - plan.batch, stop=piece.start)
