"""The process that a sandbox starts, as the server sees it: limited in time, heard, and judged by how it ended."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from quantviz.comparison.sandboxed import Job
from quantviz.specs import CheckpointError, Phase, Progress, QuantvizError

UPLOAD_BYTES: Final = 200 << 20
"""Largest ONNX file that is taken, unless whoever starts the server says otherwise."""

_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "SYSTEMROOT")
_POLL = 0.2
_LAST_BREATH = 10
_MOST_EVENT = 1 << 16
_MOST_LOG = 2000
_INSTEAD = "run `quantviz compare` on a machine of your own"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one comparison of strangers' files may take.

    Attributes:
        file_bytes: of each ONNX file.
        memory: bytes of private memory, 0.8 GiB of which the libraries take.
        cpu_seconds: of processor time, all threads together.
        seconds: from the start of the process to its end.
    """

    file_bytes: int = UPLOAD_BYTES
    memory: int = 4 << 30
    cpu_seconds: int = 240
    seconds: float = 300


@dataclass(slots=True)
class Child:
    """The process of one job.

    Attributes:
        job: what it does.
        limits: what it may take.
        threads: how many it computes in.
        said: the end of what it has written that is no whole line yet.
        ending: the last event, once it has come.
    """

    job: Job
    limits: Limits
    threads: int
    said: bytes = b""
    ending: dict[str, Any] = field(default_factory=dict)

    def run(self, progress: Progress) -> None:
        """Run it to its end.

        Raises:
            CheckpointError, UsageError, QuantvizError: it failed.
        """
        deadline = time.monotonic() + self.limits.seconds
        with Path(self.job.folder, "log").open("wb") as log, self._started(log) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with suppress(BrokenPipeError):
                    process.stdin.write(self.job.line())
                in_time = self._heard(process.stdout, deadline, progress)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LAST_BREATH if in_time else 0)
            finally:  # progress may have raised, since the visitor has left
                _kill(process)
            status = process.wait()
        if not in_time:
            raise self._late()
        self._judge(status)

    def _started(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment |= {"HOME": self.job.folder, "TMPDIR": self.job.folder}
        environment |= {"OMP_NUM_THREADS": str(self.threads), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            # -P: the folder that it works in holds strangers' files, and no modules.
            [sys.executable, "-P", "-m", "quantviz.comparison.sandboxed"],
            bufsize=0,  # else closing standard input would fail where the process has ended without reading it
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=self.job.folder,
            env=environment,
            start_new_session=True,
        )

    def _heard(self, stdout: IO[bytes], deadline: float, progress: Progress) -> bool:
        """Report what the process says until it ends; return whether it ended in time."""
        message: tuple[str, float | None, Phase] = ("Starting a process for these files", None, Phase.LOADING)
        while time.monotonic() < deadline:
            ready, _, _ = select.select([stdout], [], [], _POLL)
            if ready:
                data = os.read(stdout.fileno(), _MOST_EVENT)
                if not data:
                    return True
                message = self._events(data) or message
            progress(*message)
        return False

    def _events(self, data: bytes) -> tuple[str, float | None, Phase] | None:
        """Return the last progress among what the process has said."""
        *lines, self.said = (self.said + data).split(b"\n")
        self.said = self.said[-_MOST_EVENT:]
        newest = None
        for line in lines:
            try:
                event = json.loads(line)
                if "ending" in event:
                    self.ending = {name: str(event[name]) for name in ("ending", "sentence")}
                else:
                    fraction = event["fraction"]
                    newest = str(event["message"]), None if fraction is None else float(fraction), Phase(event["phase"])
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
        return newest

    def _judge(self, status: int) -> None:
        """Raise what a process that ended without a result is to be told by."""
        ending, sentence = self.ending.get("ending"), self.ending.get("sentence", "")
        if ending == "done":
            return
        if ending == "refused":
            raise CheckpointError(sentence)
        if ending == "memory":
            raise CheckpointError(
                f"{self._names()} need more than {self.limits.memory / 2**30:g} GiB of memory; give smaller "
                f"networks, or {_INSTEAD}."
            )
        if status == -signal.SIGXCPU:
            raise self._late()
        said = repr(_end_of(Path(self.job.folder, "log")))  # escaped, so that no file writes lines of its own
        logging.getLogger(__name__).warning("strangers' files: status %s, %r, %s", status, sentence, said)
        if ending == "unexpected":
            raise CheckpointError(f"{self._names()} could not be compared ({sentence}); export the networks again.")
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise CheckpointError(
            f"{self._names()} ended the process that opened them ({name}), as broken or too large files do; export the "
            f"networks again, or {_INSTEAD}."
        )

    def _late(self) -> QuantvizError:
        return CheckpointError(
            f"{self._names()} took more than {self.limits.seconds} s, or {self.limits.cpu_seconds} s of processor "
            f"time; give smaller networks, another kind of map, or {_INSTEAD}."
        )

    def _names(self) -> str:
        return f"{Path(self.job.reference).name} and {Path(self.job.quantized).name}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that has not ended, and whatever it started: they are a process group."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _end_of(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MOST_LOG))
        return file.read(_MOST_LOG)
