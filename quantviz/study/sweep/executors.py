"""Executors of a sweep: processes of this machine, or workers of a Ray cluster.

A piece is the same to the byte on each; only the sweep's own process writes to the study. A worker that is killed is
replaced, and its piece computed again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

from quantviz.study.specs.plan import Piece
from quantviz.study.sweep.executor import Event, Executor, Team
from quantviz.study.sweep.rows import ObserverState
from quantviz.study.sweep.worker import Job

_SERVE = (
    "import sys; sys.path[:] = sys.argv[2:]; from quantviz.study.sweep.worker import serve; serve(int(sys.argv[1]))"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


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

    def give(self, member: int, piece: Piece, state: ObserverState) -> None:
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
            pass  # it has died; ``events`` sees the end of its messages


def _ended(status: int) -> str:
    """Return in a few words how a process ended."""
    if status >= 0:
        return f"exit status {status}"
    return f"signal {-status}, {signal.strsignal(-status)}"


def check(executor: Executor) -> None:
    """Refuse what this machine cannot do, before anything is written.

    Raises:
        UsageError: Ray is not installed.
    """
    if executor.kind == "ray":
        from quantviz.study.sweep.executor_ray import check_installed

        check_installed()


def assemble(executor: Executor, job: Job, most: int) -> Team:
    """Return the workers of an executor, ``most`` at most: as many as can compute at the same time.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at its address.
    """
    size = min(executor.workers, most)
    if executor.kind == "ray":
        from quantviz.study.sweep.executor_ray import RayTeam

        return RayTeam(job, size, executor.address)
    return LocalTeam(job, size)
