"""Sweeps in processes of their own: start, watch, cancel and resume them. Everything is read from disk.

A sweep that is started here goes on when the dashboard ends, and any dashboard, or the command line, can go on with its
study. Beside the study's folder NAME lie NAME.log, for people, and NAME.state.json with the sweep's state.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quantviz import images, networks
from quantviz.comparison.files_request import files_of_card
from quantviz.networks.card import read_card
from quantviz.specs import CALIBRATED, QuantvizError, StoreError, UsageError, parse_bits, spec_of
from quantviz.study import process
from quantviz.study.folder import StudyFolder
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.progress import StudyProgress
from quantviz.study.sweep.state import JobState, read_state, write_state

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_TAIL = 4096  # bytes of a log that its last line is looked for in
_PROGRAM: Final = "quantviz: "
_KILLED: Final = "Its process was killed or the machine went down; start it again to go on."

_started: dict[Path, subprocess.Popen[bytes]] = {}
_starting = threading.Lock()  # held from the look for another sweep until this one is known


@dataclass(frozen=True, slots=True)
class SweepOrder:
    """What to sweep over, as a user writes it.

    Attributes:
        name: of the study: letters, digits, dots, dashes and underscores, 60 at most.
        dataset: a folder of pictures.
        models: names of architectures.
        bits: as ``parse_bits`` reads them.
        protocols: as in ``QuantSpec``.
        scheme: as ``spec_of`` reads it.
        limit: at most so many pictures, or None.
        weights: model -> its weights, as in ``SweepRequest``.
        cards: paths of network cards.
    """

    name: str
    dataset: Path
    models: tuple[str, ...]
    bits: tuple[str, ...]
    protocols: tuple[str, ...] = (CALIBRATED,)
    scheme: str = "standard"
    limit: int | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    cards: tuple[Path, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether a network is quantized here, at ``bits``; ONNX files are what they are."""
        return bool(self.models) or not self.cards or any(read_card(path).model for path in self.cards)


@dataclass(frozen=True, slots=True)
class SweepJob:
    """A study as far as it is made.

    Attributes:
        path: its folder.
        state: how far it is; a stopped one can be resumed where it has a plan.
        progress: of a running sweep; None for others.
        message: one sentence about how it ended, or "".
    """

    path: Path
    state: JobState
    progress: StudyProgress | None
    message: str

    @property
    def name(self) -> str:
        """The study's name."""
        return self.path.name


def jobs(directory: Path) -> tuple[SweepJob, ...]:
    """Return the studies in a folder of studies, by name: whole ones, those being made, and those that failed."""
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return ()
    studies = {path for path in entries if any((path / name).is_file() for name in ("plan.json", "progress.json"))}
    studies |= {path.with_suffix("") for path in entries if path.suffix == ".log"}
    return tuple(job(path) for path in sorted(studies))


def job(path: Path) -> SweepJob:
    """Return how far a study is made; there may be none at the path."""
    progress = StudyFolder(path).progress()
    if progress is not None:
        return SweepJob(path, JobState.RUNNING, progress, "")
    if _process(path) is not None:
        return SweepJob(path, JobState.STARTING, None, "")
    if (path / "results.parquet").exists():  # written last, and whole
        return SweepJob(path, JobState.FINISHED, None, "")
    return SweepJob(path, *_end(path))


def start(directory: Path, order: SweepOrder) -> SweepJob:
    """Start a sweep in a process of its own, which outlives this one.

    Args:
        directory: of the studies; it is made where it is not there.
        order: what to sweep over; what can be judged at once is judged before anything is started.

    Raises:
        UsageError: something is out of range or unknown, the study is there already, or another sweep is running.
        ImageError: there is no such folder of pictures.
        StoreError: the folder cannot be made.
    """
    if not _NAME.fullmatch(order.name):
        raise UsageError(
            f"The study's name {order.name!r} cannot be used; take at most 60 letters, digits, dots, dashes and "
            "underscores, the first a letter or digit."
        )
    path = directory / order.name
    if StudyFolder(path).plan() is not None:
        raise UsageError(f"A study named {order.name!r} is there already; choose another name, or resume that one.")
    _judge(order)
    words = [str(order.dataset)]
    if order.models:
        words += ["--models", ",".join(order.models)]
    for card in order.cards:
        words += ["--card", str(card)]
    for name, choice in order.weights.items():
        words += ["--weights", f"{name}={choice}"]
    if order.simulated:
        words += ["--bits", ",".join(order.bits), "--scheme", order.scheme, "--protocols", ",".join(order.protocols)]
    if order.limit is not None:
        words += ["--limit", str(order.limit)]
    return _run(path, ["sweep", *words, "--out", str(path)])


def resume(path: Path) -> SweepJob:
    """Go on with a study that was interrupted, by the command that its plan holds.

    Raises:
        UsageError: there is no study, its plan holds no command, or another sweep is running.
        StoreError: the plan cannot be read.
    """
    plan = StudyFolder(path).plan()
    words = shlex.split(plan.command) if plan else []
    if words[:2] != ["quantviz", "sweep"]:
        raise UsageError(f"Study {str(path)!r} has no saved command; start the sweep again.")
    return _run(path, [*words[1:], "--out", str(path)])  # the last --out counts: the folder may have been moved


def cancel(path: Path) -> None:
    """End a running sweep in order: what it has committed is kept. It may take two seconds until it has ended.

    Raises:
        UsageError: no sweep is running there, or it runs on another machine.
        QuantvizError: the process is not ours to end.
    """
    progress = StudyFolder(path).progress()  # None unless the process is the one that wrote it
    at_work = _process(path) if progress is None else (progress.pid, progress.host)
    if at_work is None:
        raise UsageError(f"No sweep is running for study {path.name!r}; look again.")
    pid, host = at_work
    if host != process.host():
        raise UsageError(f"The sweep of {path.name!r} runs on {host}; end it there.")
    try:
        os.kill(pid, signal.SIGTERM)  # as SIGINT, which shells let commands in the background ignore
    except ProcessLookupError:
        return
    except PermissionError:
        raise QuantvizError(
            f"The sweep of {path.name!r} (process {pid}) belongs to another user; ask them to end it."
        ) from None


def forget(path: Path) -> None:
    """Remove the log and the state of a sweep that left no study, so that it is not among the jobs any more.

    Raises:
        UsageError: there is a study, or its sweep is running.
    """
    if job(path).state not in (JobState.STOPPED, JobState.FAILED) or (path / "plan.json").exists():
        raise UsageError(f"Study {path.name!r} is there or being made; it is not forgotten.")
    _log(path).unlink(missing_ok=True)
    _state(path).unlink(missing_ok=True)


def running(directory: Path) -> SweepJob | None:
    """Return the first study of a folder that is being made, or None."""
    return next((each for each in jobs(directory) if each.state in (JobState.STARTING, JobState.RUNNING)), None)


def _judge(order: SweepOrder) -> None:
    """Refuse at once what the sweep would refuse after some seconds."""
    cards = [read_card(path) for path in order.cards]
    models = (*order.models, *(str(card.path) for card in cards if card.model))
    if order.simulated:
        SweepRequest(
            dataset=order.dataset,
            models=models,
            quants=tuple(spec_of(order.scheme, *parse_bits(bits)) for bits in order.bits),
            weights=order.weights,
            protocols=order.protocols,
            limit=order.limit,
        )
    for name in models:
        networks.spec(name)
    for card in cards:
        if card.float_file is not None:
            files_of_card(card)
    images.folder(order.dataset, 1)


def _run(path: Path, words: Sequence[str]) -> SweepJob:
    """Start the process, unless another sweep of the same folder of studies is running."""
    with _starting:
        if (other := running(path.parent)) is not None:
            raise UsageError(f"Another sweep is running ({other.name}); wait for it, or cancel it first.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _state(path).unlink(missing_ok=True)
            with _log(path).open("wb") as log:
                _started[path] = subprocess.Popen(
                    [sys.executable, "-m", "quantviz", *words, "--state", str(_state(path))],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # neither Ctrl-C in the dashboard's terminal nor its end reaches the sweep
                )
        except OSError as error:
            raise StoreError(
                f"The sweep of {path.name!r} cannot be started ({error.strerror}); free space or choose another cache."
            ) from None
        write_state(_state(path), JobState.STARTING, pid=_started[path].pid, anew=True)
    return job(path)


def _process(path: Path) -> tuple[int, str] | None:
    """Return the number and the machine of the process that sweeps a study, or None; one started here is reaped."""
    known, state = _started.get(path), read_state(_state(path))
    if known is not None and known.poll() is None:
        return known.pid, process.host()
    return (state.pid, state.host) if state is not None and state.at_work(_state(path)) else None


def _end(path: Path) -> tuple[JobState, None, str]:
    """Return how a sweep ended that runs no more and left no results, as fields of ``SweepJob``."""
    state, known = read_state(_state(path)), _started.get(path)
    if state is None:  # of a version that wrote none, or begun on the command line
        resumable, killed = (path / "plan.json").exists(), (path / "progress.json").exists()
        return JobState.STOPPED if resumable else JobState.FAILED, None, _KILLED if killed else _last_line(path)
    if state.state is JobState.FAILED:
        return JobState.FAILED, None, state.message
    if state.state in (JobState.STARTING, JobState.RUNNING):
        if known is not None and (known.returncode or 0) > 0:
            return JobState.FAILED, None, _last_line(path)  # before it could write so
        asked = known is not None and known.returncode == -signal.SIGTERM  # by ``cancel``, before it listened
        return JobState.STOPPED, None, "" if asked else _KILLED
    return JobState.STOPPED, None, state.message


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def _state(path: Path) -> Path:
    return path.with_name(f"{path.name}.state.json")


def _last_line(path: Path) -> str:
    """Return the last line of a sweep's log, without the program's name, to be shown; "" where it has none."""
    try:
        with _log(path).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - _TAIL, 0))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    written = [line.strip() for line in lines if line.strip()]
    return written[-1].removeprefix(_PROGRAM) if written else ""
