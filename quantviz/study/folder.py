"""The folder of a study: every file in it is whole or absent, whenever its writer is killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from quantviz.specs import QuantvizError, StoreError, UsageError, limits, read_json, usable_path
from quantviz.study import process
from quantviz.study.plan_file import plan_bytes, read_plan
from quantviz.study.results import Results
from quantviz.study.specs.plan import Piece, StudyPlan
from quantviz.study.specs.progress import StudyProgress
from quantviz.study.specs.row import StudyRow
from quantviz.study.tables import BROKEN, read_notes, read_table, with_columns, write_rows, write_tables
from quantviz.study.watching import ELSEWHERE

_PLAN, _PIECES, _RESULTS, _LOCK, _PROGRESS = "plan.json", "pieces", "results.parquet", "lock", "progress.json"
_UNFINISHED = ".part"


class StudyFolder:
    """One study on disk.

    Args:
        path: its folder, which ``begin`` makes.

    Raises:
        UsageError: no path can be so.
    """

    def __init__(self, path: Path) -> None:
        self.path = usable_path(path, "a study's folder")
        self._known: tuple[StudyPlan | None, str] = (None, "")

    def plan(self) -> StudyPlan | None:
        """Return the study's plan, or None where there is no study yet.

        Raises:
            UsageError: the path is no folder, or holds other things than a study.
            StoreError: the plan cannot be read.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"Study {str(self.path)!r} is a file; name a folder.")
        try:
            with (self.path / _PLAN).open("rb") as file:
                return read_plan(file.read(limits.PLAN_BYTES + 1))
        except FileNotFoundError:
            foreign = sorted(set(self._names()) - {_LOCK, _PIECES, _PROGRESS})
            if foreign:
                raise UsageError(
                    f"Folder {str(self.path)!r} is no study but holds {foreign[0]!r}; name an empty or a new folder."
                ) from None
            return None
        except OSError as error:
            raise StoreError(f"Study {str(self.path)!r} cannot be read ({error.strerror}).") from None
        except (ValueError, QuantvizError) as error:
            raise StoreError(
                f"The plan of study {str(self.path)!r} cannot be used: {error}; begin a new study elsewhere."
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other sweeps from writing to it; remove what a killed one left half written.

        Raises:
            UsageError: another sweep is writing here.
            StoreError: the folder cannot be made or written.
        """
        with _told(self.path):
            (self.path / _PIECES).mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"Another sweep is writing to study {str(self.path)!r}; wait for it or choose another folder."
                ) from None
            with _told(self.path):
                for left in (*self.path.glob(f"*{_UNFINISHED}"), *(self.path / _PIECES).glob(f"*{_UNFINISHED}")):
                    left.unlink()
                (self.path / _PROGRESS).unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)

    def tell(self, progress: StudyProgress) -> None:
        """Say how far the sweep that holds the lock is; what the disk refuses is not said."""
        part = self.path / f"{_PROGRESS}{_UNFINISHED}"
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(asdict(progress), indent=1) + "\n", "utf-8")
            os.replace(part, self.path / _PROGRESS)

    def silence(self) -> None:
        """Take back what this process has said by ``tell``: its sweep has ended."""
        told, part = self.progress(), self.path / f"{_PROGRESS}{_UNFINISHED}"
        if told is not None and (told.pid, told.host) != process.this()[:2]:
            return
        # Where nothing was told, the first telling may have been cut off; another sweep's would be made again.
        for left in (part,) if told is None else (self.path / _PROGRESS, part):
            with contextlib.suppress(OSError):
                left.unlink()

    def progress(self) -> StudyProgress | None:
        """Return how far the sweep is that is running here, or None where there is none.

        What a killed sweep left is known by its process, which is no more; one of another machine by its silence, as
        ``watching`` says.
        """
        try:
            with (self.path / _PROGRESS).open("rb") as file:
                found = read_json(file.read(limits.PROGRESS_BYTES + 1), most=limits.PROGRESS_BYTES)
            told = StudyProgress(**{entry.name: found[entry.name] for entry in fields(StudyProgress)})
            float(told.updated)
            if told.host == process.host():
                alive = bool(told.process_started) and process.started(int(told.pid)) == told.process_started
            else:
                alive = ELSEWHERE.still_changes(self.path / _PROGRESS, told)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return told if alive else None

    def begin(self, plan: StudyPlan) -> None:
        """Write the plan of a new study."""
        self._write(self.path / _PLAN, lambda path: _write_bytes(path, plan_bytes(plan)))

    def has(self, plan: StudyPlan, piece: Piece) -> bool:
        """Tell whether a piece is there; one that cannot be read or is of another study is not."""
        rows = (piece.stop - piece.start) * len(plan.variants_at(piece.model, piece.protocol))
        try:
            notes, found = read_notes(self._piece(piece.number))
        except BROKEN:
            return False
        return found == rows and (notes.get("plan"), notes.get("piece")) == (self._digest(plan), str(piece.number))

    def commit(self, plan: StudyPlan, piece: Piece, rows: Sequence[StudyRow], state: Mapping[str, Any]) -> None:
        """Add a piece, whole and on the disk when this returns.

        Args:
            plan: of the study.
            piece: which one.
            rows: its rows, for each picture one a bit-width.
            state: JSON-able; what the next piece of its model and protocol starts from.

        Raises:
            StoreError: the disk is full or refuses.
        """
        kept = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
        notes = {"plan": self._digest(plan), "piece": str(piece.number), "state": kept}
        self._write(self._piece(piece.number), lambda path: write_rows(path, rows, notes))

    def piece_bytes(self, piece: Piece) -> bytes:
        """Return the file of a piece.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            return self._piece(piece.number).read_bytes()
        except OSError:
            raise StoreError(_damaged(self._piece(piece.number))) from None

    def add(self, piece: Piece, data: bytes) -> None:
        """Add a piece by its file of another folder, whole and on the disk when this returns.

        Raises:
            StoreError: as ``commit``.
        """
        self._write(self._piece(piece.number), lambda path: _write_bytes(path, data))

    def state(self, piece: Piece) -> dict[str, Any]:
        """Return the state that a piece was committed with.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            state = read_notes(self._piece(piece.number))[0]["state"].encode()
            found: dict[str, Any] = read_json(state, most=limits.PLAN_BYTES)
        except (*BROKEN, KeyError):
            raise StoreError(_damaged(self._piece(piece.number))) from None
        return found

    def finish(self, plan: StudyPlan) -> None:
        """Write the results from the pieces, which must all be there.

        Raises:
            StoreError: a piece cannot be read; or as ``commit``.
        """
        # Pieces of before there were properties have none; a study begun then is finished without theirs.
        tables = (with_columns(self._table(piece), plan.property_columns) for piece in plan.pieces)
        notes = {"plan": self._digest(plan)}
        self._write(self.path / _RESULTS, lambda path: write_tables(path, tables, notes))

    def finished(self, plan: StudyPlan) -> bool:
        """Tell whether the results of this plan are there, every row."""
        try:
            notes, rows = read_notes(self.path / _RESULTS)
        except BROKEN:
            return False
        return notes.get("plan") == self._digest(plan) and rows == len(plan.images) * len(plan.cells)

    def finished_plan(self) -> StudyPlan:
        """Return the plan of a finished study.

        Raises:
            UsageError: there is no study, or it is not finished.
            StoreError: the plan cannot be read.
        """
        plan = self.plan() if self.path.exists() else None
        if plan is None:
            raise UsageError(f"There is no study at {str(self.path)!r}; make one by quantviz sweep.")
        if plan.shard is not None:
            raise UsageError(
                f"{str(self.path)!r} is shard {plan.shard[0]}/{plan.shard[1]} of a study; put the shards together by "
                "quantviz merge SHARD... --out STUDY."
            )
        if not self.finished(plan):
            done = sum(self.has(plan, piece) for piece in plan.pieces)
            again = f": {plan.command}" if plan.command else "."
            raise UsageError(
                f"Study {str(self.path)!r} is not finished ({done} of {len(plan.pieces)} pieces); "
                f"repeat its command{again}"
            )
        return plan

    def results(self, columns: Sequence[str] | None = None) -> tuple[StudyPlan, Results]:
        """Return a finished study's plan and its rows.

        Args:
            columns: those to read, or None for all.

        Raises:
            UsageError: there is no study, or it is not finished.
            StoreError: the study is damaged.
        """
        return self.finished_plan(), self.rows(columns)

    def rows(self, columns: Sequence[str] | None = None) -> Results:
        """Return the rows of a study that is known to be finished.

        Args:
            columns: those to read, or None for all.

        Raises:
            StoreError: the study is damaged.
        """
        try:
            return Results(self.path / _RESULTS, columns)
        except BROKEN:
            raise StoreError(_damaged(self.path / _RESULTS)) from None

    def _digest(self, plan: StudyPlan) -> str:
        # Of ten thousand pictures it takes a while, and every piece asks for it.
        if self._known[0] is not plan:
            self._known = (plan, plan.digest)
        return self._known[1]

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.path) if not name.endswith(_UNFINISHED)]
        except FileNotFoundError:
            return []

    def _piece(self, number: int) -> Path:
        return self.path / _PIECES / f"{number:06d}.parquet"

    def _table(self, piece: Piece) -> pa.Table:
        try:
            return read_table(self._piece(piece.number))
        except BROKEN:
            raise StoreError(_damaged(self._piece(piece.number))) from None

    def _write(self, path: Path, write: Callable[[Path], None]) -> None:
        """Let ``write`` make a file beside ``path``, and put it in its place once it is on the disk."""
        part = path.with_name(f"{path.name}{_UNFINISHED}")
        with _told(self.path):
            try:
                write(part)
                _sync(part)
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            _sync(path.parent)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(path: Path) -> str:
    return f"{str(path)!r} is damaged; delete it and repeat the sweep's command, which makes it again."


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"Study {str(path)!r} cannot be written ({reason}); free space or choose another.") from None
