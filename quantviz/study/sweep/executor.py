"""What every executor of a sweep has in common: how it is asked for, its workers, and what they tell."""

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
"""Folders that a team removes when it is closed, and that go with it where the process has to end at once."""


@dataclass(frozen=True, slots=True)
class Executor:
    """Who computes.

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
    """What a worker of a team has to tell.

    Attributes:
        member: which worker, from 0.
        kind: ``ready`` for work; ``opened`` the networks of its piece; a ``step`` of ``value`` pictures; ``said``
            ``value``, a message and a fraction; ``done`` with its piece, ``value`` the rows and the state; ``failed``
            for the reason ``value``, a QuantvizError; or ``died``, ``value`` in a few words how.
        value: as above.
    """

    member: int
    kind: EventKind
    value: Any = None


class Team(Protocol):
    """Workers that are given one piece each at a time."""

    def start(self, member: int) -> None:
        """Begin a worker, or begin it anew after it died; it tells when it is ready."""

    def give(self, member: int, piece: Piece, state: ObserverState) -> None:
        """Let a worker compute a piece."""

    def events(self, seconds: float) -> Iterator[Event]:
        """Yield what there is to tell, after waiting at most so long for it."""

    def close(self) -> None:
        """End all workers, whatever they do; nothing of them remains."""
