"""The process as its starter sees it: limited in time, heard, and judged by how it ended."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from quantviz.confined.inside import RESULT
from quantviz.specs import Phase, Progress, QuantvizError

_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "SYSTEMROOT")
_POLL = 0.2
_LAST_BREATH = 10
_MOST_EVENT = 1 << 16
_MOST_LOG = 2000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a process may take.

    Attributes:
        memory: bytes of private memory.
        cpu_seconds: of processor time, all threads together.
        result_bytes: most that it writes.
    """

    memory: int
    cpu_seconds: int
    result_bytes: int


@dataclass(frozen=True, slots=True)
class Sentences:
    """How a process that failed is told.

    Attributes:
        error: what is raised.
        starting: what is being done while it starts.
        late: it took too long.
        memory: it took too much memory.
        unexpected: a library failed; ``{reason}`` stands for what it said.
        ended: the process was ended, as by a crash; ``{how}`` stands for the signal or status.
    """

    error: type[QuantvizError]
    starting: str
    late: str
    memory: str
    unexpected: str
    ended: str


@dataclass(slots=True)
class Child:
    """The process of one job.

    Attributes:
        module: that is run; it calls ``serve``.
        job: JSON-able; what it does.
        folder: private; it works there, and leaves its result.
        allowance: what it may take.
        seconds: from its start to its end.
        sentences: how it is told.
        threads: how many it computes in.
        said: the end of what it has written that is no whole line yet.
        ending: the last event, once it has come.
    """

    module: str
    job: Mapping[str, Any]
    folder: Path
    allowance: Allowance
    seconds: float
    sentences: Sentences
    threads: int = 1
    said: bytes = b""
    ending: dict[str, Any] = field(default_factory=dict)

    def run(self, progress: Progress) -> None:
        """Run it to its end.

        Args:
            progress: reports what it says, several times a second; whatever it raises ends the process.

        Raises:
            QuantvizError: it failed, by ``sentences``, or by a sentence of its own of the same kind.
        """
        deadline = time.monotonic() + self.seconds
        with Path(self.folder, "log").open("wb") as log, self._started(log) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with suppress(BrokenPipeError):
                    order = {"allowance": asdict(self.allowance), "job": dict(self.job)}
                    process.stdin.write(json.dumps(order).encode() + b"\n")
                in_time = self._heard(process.stdout, deadline, progress)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LAST_BREATH if in_time else 0)
            finally:  # progress may have raised, since the visitor has left
                _kill(process)
            status = process.wait()
        if not in_time:
            raise self.sentences.error(self.sentences.late)
        self._judge(status)

    def result(self) -> bytes:
        """Return what it left.

        Raises:
            OSError, ValueError: it left nothing that can be read: the folder was the process's, and what lies there may
                be a link or a pipe.
        """
        handle = os.open(self.folder / RESULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ValueError("it is no file")
            data = file.read(self.allowance.result_bytes + 1)
        if len(data) > self.allowance.result_bytes:
            raise ValueError("it is too long")
        return data

    def _started(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment |= {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        environment |= {"OMP_NUM_THREADS": str(self.threads), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            # -P: the folder that it works in holds strangers' files, and no modules.
            [sys.executable, "-P", "-m", self.module],
            bufsize=0,  # else closing standard input would fail where the process has ended without reading it
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )

    def _heard(self, stdout: IO[bytes], deadline: float, progress: Progress) -> bool:
        """Report what the process says until it ends; return whether it ended in time."""
        message: tuple[str, float | None, Phase] = (self.sentences.starting, None, Phase.LOADING)
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
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
        return newest

    def _judge(self, status: int) -> None:
        """Raise what a process that ended without a result is to be told by."""
        ending, sentence, failure = self.ending.get("ending"), self.ending.get("sentence", ""), self.sentences.error
        if ending == "done":
            return
        if ending == "refused":
            raise failure(sentence)
        if ending == "memory":
            raise failure(self.sentences.memory)
        if status == -signal.SIGXCPU:
            raise failure(self.sentences.late)
        said = repr(_end_of(Path(self.folder, "log")))  # escaped, so that no file writes lines of its own
        logging.getLogger(__name__).warning("strangers' files: status %s, %r, %s", status, sentence, said)
        if ending == "unexpected":
            raise failure(self.sentences.unexpected.replace("{reason}", sentence))
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise failure(self.sentences.ended.replace("{how}", name))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that has not ended, and whatever it started: they are a process group."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _end_of(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _MOST_LOG))
        return file.read(_MOST_LOG)
