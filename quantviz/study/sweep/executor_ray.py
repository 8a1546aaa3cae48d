"""Workers of a Ray cluster, on one machine or many. The only importer of ray, which is optional."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

from quantviz.specs import UsageError
from quantviz.study.specs.plan import Piece
from quantviz.study.sweep.executor import LEFT_BEHIND, Event
from quantviz.study.sweep.rows import ObserverState
from quantviz.study.sweep.worker import EventKind, Job, RemoteWorker

_OBJECTS = 128 * 2**20  # bytes of shared memory for a cluster of our own: plans and rows are small
_ANSWER = 5.0  # seconds; Ray itself waits for a minute and prints meanwhile
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class _Actor:
    """The worker in a process of the cluster."""

    def __init__(self, job: Job) -> None:
        self._worker = RemoteWorker(job)

    def ready(self) -> tuple[EventKind, Any]:
        return "ready", os.getpid()

    def open(self, piece: Piece) -> tuple[EventKind, Any]:
        return self._worker.open(piece)

    def compute(self, piece: Piece, state: ObserverState) -> tuple[EventKind, Any]:
        return self._worker.compute(piece, state, lambda: None)


class RayTeam:
    """Actors of a Ray cluster, each on one processor core; as ``executors.Team``.

    A cluster of our own has no dashboard and ends with the sweep. No usage statistics are sent.

    Args:
        job: what they compute. The pictures and weights it names must be found under the same paths on every machine.
        size: how many actors.
        address: of a running cluster, or None for one of our own.

    Raises:
        UsageError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, job: Job, size: int, address: str | None) -> None:
        self._ray = ray = _ray()
        self._own = None if address else tempfile.mkdtemp(prefix="ray-")  # its sockets' names may not be long
        if self._own:
            LEFT_BEHIND.add(self._own)
        _connect(ray, size, address, self._own)
        self._job = ray.put(job)
        self._make = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}
        for member in range(size):
            self.start(member)

    def start(self, member: int) -> None:
        """See ``Team``."""
        actor = self._actors[member] = self._make.remote(self._job)
        self._asked[actor.ready.remote()] = member

    def give(self, member: int, piece: Piece, state: ObserverState) -> None:
        """See ``Team``."""
        actor = self._actors[member]
        self._asked[actor.open.remote(piece)] = member
        self._asked[actor.compute.remote(piece, state)] = member

    def events(self, seconds: float) -> Iterator[Event]:
        """See ``Team``."""
        if not self._asked:
            return
        answered, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=seconds)
        for reference in answered:
            member = self._asked.pop(reference)
            try:
                kind, value = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._asked = {other: owner for other, owner in self._asked.items() if owner != member}
                kind, value = "died", _first_line(error)
            yield Event(member, kind, value)

    def close(self) -> None:
        """See ``Team``."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)
            LEFT_BEHIND.discard(self._own)


def check_installed() -> None:
    """Check that Ray is installed.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError('Ray is not installed; install it by: pip install "quantviz[ray]"')


def _ray() -> Any:
    """Import Ray with its usage statistics and messages turned off."""
    check_installed()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    return ray


def _connect(ray: Any, size: int, address: str | None, folder: str | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # On the loopback alone: nothing is offered to the network, and the machine's own address is not looked for.
        ours = {"num_cpus": size, "include_dashboard": False, "object_store_memory": _OBJECTS, "_temp_dir": folder}
        ray.init(address="local", _node_ip_address="127.0.0.1", **ours, **quiet)
        return
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():
            socket.create_connection((host, int(port)), _ANSWER).close()
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError, OverflowError):
        raise UsageError(
            f"No Ray cluster answers at {address!r}, or it asks for a token; start one by `ray start --head`, set "
            "RAY_AUTH_MODE=token for the token, or leave --address out for a cluster on this machine."
        ) from None


def _first_line(error: Exception) -> str:
    """Return the first line of Ray's message on a worker that died."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
