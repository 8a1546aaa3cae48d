"""Which worker computes which piece next."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from quantviz.specs import QuantvizError
from quantviz.study.specs.plan import Piece, StudyPlan

_DEATHS = 3


Run = tuple[int, str]


class Schedule:
    """Which worker computes which piece next.

    Where a piece needs the one before it, one worker computes the whole run, and these runs begin first, as they cannot
    be shortened. Other pieces go to any free worker, first those whose networks it has loaded. While a model is loaded
    and calibrated for the first time, its other pieces wait, so that the store can give them its ranges.

    Args:
        plan: of the study.
        todo: the pieces to compute.
    """

    def __init__(self, plan: StudyPlan, todo: Sequence[Piece]) -> None:
        self._waiting: dict[Run, deque[Piece]] = {}
        for piece in todo:
            self._waiting.setdefault((piece.model, piece.protocol), deque()).append(piece)
        self._chained = {run for run in self._waiting if plan.sequential(run[1])}
        self._has: dict[int, Run] = {}
        self._opened: set[Run] = set()
        self._opening: dict[int, Run] = {}
        self._busy: dict[int, Piece] = {}
        self._deaths: Counter[int] = Counter()
        self._plan, self.left = plan, len(todo)

    @property
    def most_workers(self) -> int:
        """How many workers can compute at the same time."""
        return sum(1 if run in self._chained else len(pieces) for run, pieces in self._waiting.items())

    def take(self, member: int) -> Piece | None:
        """Return the piece that an idle worker computes next, or None where it has to wait."""
        runs = [run for run, pieces in self._waiting.items() if pieces and self._free(member, run)]
        if not runs:
            return None
        crowd = Counter(self._has.values())

        def order(run: Run) -> tuple[bool, bool, bool, float]:
            share = len(self._waiting[run]) / (1 + crowd[run])
            return run != self._has.get(member), run not in self._chained, crowd[run] > 0, -share

        run = min(runs, key=order)
        piece = self._busy[member] = self._waiting[run].popleft()
        if self._has.get(member) != run:
            self._opening[member] = run
        self._has[member] = run
        return piece

    def opened(self, member: int) -> None:
        """Note that a worker has the networks of its piece."""
        if run := self._opening.pop(member, None):
            self._opened.add(run)

    def done(self, member: int) -> Piece:
        """Return the piece that a worker has finished."""
        self.left -= 1
        return self._busy.pop(member)

    def died(self, member: int, how: str) -> None:
        """Put the piece of a worker that died back to the front of its run.

        Raises:
            QuantvizError: too many workers died on it.
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

    def _free(self, member: int, run: Run) -> bool:
        others = [piece for other, piece in self._busy.items() if other != member]
        if run in self._chained and any((piece.model, piece.protocol) == run for piece in others):
            return False
        opening = {model for other, (model, _) in self._opening.items() if other != member}
        return run == self._has.get(member) or run in self._opened or run[0] not in opening


def before(plan: StudyPlan, piece: Piece) -> Piece | None:
    """Return the piece whose observers' state a piece starts from, or None."""
    if piece.start == 0 or not plan.sequential(piece.protocol):
        return None
    return replace(piece, number=piece.number - 1, start=piece.start - plan.batch, stop=piece.start)
