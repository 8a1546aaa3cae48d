"""What the benchmark measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one way to a result takes on one model.

    Attributes:
        model: name of the architecture.
        batch: images in a call.
        path: the way, a key of ``SpeedReport.paths``.
        seconds: median over the rounds, of one image.
        ratio: median over the rounds of this way's time over that of the plain forward pass in the same round.
    """

    model: str
    batch: int
    path: str
    seconds: float
    ratio: float


@dataclass(frozen=True, slots=True)
class SpeedTarget:
    """A ratio of times that is meant to be kept, the median over the models.

    Attributes:
        what: which ratio.
        limit: what it is held against.
        at_most: whether the limit is the greatest value that keeps it; else the least.
        value: what was measured; None where it was not.
    """

    what: str
    limit: float
    at_most: bool
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether it is kept; None where it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """A whole benchmark.

    Attributes:
        timings: of each model, batch size and path, in the order in which they are to be shown.
        paths: path -> what it is, for display; the plain forward pass first.
        targets: at batch 1.
        machine: what it ran on and with, for display.
        rounds: how often each path was timed.
        notes: what was left out and why, and what to be careful with.
    """

    timings: tuple[Timing, ...]
    paths: Mapping[str, str]
    targets: tuple[SpeedTarget, ...]
    machine: Mapping[str, str]
    rounds: int
    notes: tuple[str, ...]
