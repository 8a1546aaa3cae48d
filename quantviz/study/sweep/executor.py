"""What all executors of a sweep share: the request for one, its team of workers, and their events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from quantviz.specs import UsageError
from quantviz.study.specs.plan import Piece
from quantviz.study.sweep.rows import ObserverState
from quantviz.study.sweep.worker import EventKind

EXECUTORS: Final = ("local", "ray")


LEFT_BEHIND: Final[set[str]] = set()
"""Temporary folders of teams, which ``close`` removes; ``withdraw`` does where the process has to end at once."""


@dataclass(frozen=True, slots=True)
class Executor:
    """Which workers compute a sweep.

    Attributes:
        kind: ``"local"``: processes of this machine (one worker: this process itself); ``"ray"``: actors of a Ray
            cluster, each on one processor core.
        workers: how many.
        address: of a running Ray cluster (``"auto"``, or ``HOST:PORT``); None for one on this machine that ends with
            the sweep.

    Raises:
        UsageError: an unknown kind, no worker, or an address for an executor that has none.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in EXECUTORS:
            raise UsageError(f"Executor {self.kind!r} is unknown; use one of {', '.join(EXECUTORS)}.")
        if self.workers < 1:
            raise UsageError(f"{self.workers} workers compute nothing; use 1 or more.")
        if self.address is not None and self.kind != "ray":
            raise UsageError(f"Address {self.address!r} is of a Ray cluster; add --executor ray.")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a worker of a team.

    Attributes:
        member: which worker, from 0.
        kind: ``ready`` for work; ``opened`` the networks of its piece; made a ``step``; ``said`` something; ``done``
            with its piece; ``failed``; or ``died``.
        value: for ``step`` the number of pictures; for ``said`` a message and a fraction; for ``done`` the rows and the
            state; for ``failed`` the QuantvizError; for ``died`` a few words on how.
    """

    member: int
    kind: EventKind
    value: Any = None


class Team(Protocol):
    """Workers that are given one piece each at a time."""

    def start(self, member: int) -> None:
        """Start a worker, or start it again after it died; an event says when it is ready."""

    def give(self, member: int, piece: Piece, state: ObserverState) -> None:
        """Let a worker compute a piece."""

    def events(self, seconds: float) -> Iterator[Event]:
        """Yield events, after waiting at most ``seconds`` for the first."""

    def close(self) -> None:
        """End all workers at once and remove what they left."""
