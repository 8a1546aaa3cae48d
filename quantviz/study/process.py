"""Which process writes a study, and whether it is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STARTED = 19  # of the fields after the command's name: the 22nd of /proc/PID/stat, proc_pid_stat(5)


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def started(pid: int) -> str:
    """Return when a process of this machine started, or "" where there is none: no two with its number have the same.

    The time is in ticks since the machine's boot, followed by the boot's own name.
    """
    try:
        # The command's name, in brackets, may hold anything, brackets too.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = _BOOT.read_text().strip()
    except OSError:
        return ""
    if fields[0] in (b"Z", b"X"):  # it has ended; its parent has not asked how
        return ""
    return f"{int(fields[_STARTED])} {boot}"


def this() -> tuple[int, str, str]:
    """Return this process's number, its machine, and when it started."""
    return os.getpid(), host(), started(os.getpid())
