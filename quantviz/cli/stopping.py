"""A command that can be stopped at any moment, within two seconds, whatever it is doing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

_PATIENCE = 1.0  # seconds for the work to end by itself
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


@contextmanager
def stoppable(sentence: str, withdraw: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT (Ctrl-C) and SIGTERM end the process with ``sentence``, and exit status 130 or 143.

    The work is interrupted and has a second to leave things in order; then the process ends all the same, with whatever
    it started, which costs nothing where whatever is written is whole or absent. It ends without the interpreter's own
    farewell, which takes torch a second or two. Where the shell lets the command ignore SIGINT, it goes on ignoring it.

    Args:
        sentence: for the user.
        withdraw: called before the process ends without the work's having come to its end.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    stopper = _Stopper(sentence, withdraw)
    with stopper.listening():
        try:
            yield
        except BaseException:
            # Whatever an interrupted import or library makes of it, it was the interruption.
            if stopper.signal:
                stopper.leave()
            raise


class _Stopper:
    """Hears the signals, and sees to it that the process ends."""

    def __init__(self, sentence: str, withdraw: Callable[[], None]) -> None:
        self.signal = 0
        self._sentence, self._withdraw = sentence, withdraw
        self._over = threading.Event()
        self._leaving = threading.Lock()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the signals in the body."""
        heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        listener, speaker = socket.socketpair()
        speaker.setblocking(False)
        # The interpreter runs a handler only between two of its own steps; this socket hears the signal at once.
        woken = signal.set_wakeup_fd(speaker.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._interrupt) for number in heard}
        threading.Thread(target=self._watch, args=(listener, {int(number) for number in heard}), daemon=True).start()
        ignored = sys.unraisablehook
        # An interruption that falls into a destructor is printed with its traceback; the thread ends the process then.
        sys.unraisablehook = lambda unraisable: None if self.signal else ignored(unraisable)
        try:
            yield
        finally:
            self._over.set()
            sys.unraisablehook = ignored
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken)
            speaker.close()

    def leave(self) -> NoReturn:
        """End the process now."""
        with self._leaving:  # never released: one thread prints, and the process ends
            _end(_children(os.getpid()))
            with suppress(Exception):  # whatever fails here, the process ends
                self._withdraw()
            cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
            print(f"{cursor}quantviz: {self._sentence}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(128 + self.signal)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:
            self.signal = number
            raise KeyboardInterrupt

    def _watch(self, listener: socket.socket, heard: set[int]) -> None:
        with listener:
            while numbers := listener.recv(1):
                if numbers[0] in heard and not self._over.wait(_PATIENCE):
                    self.signal = self.signal or numbers[0]
                    self.leave()


def _children(process: int) -> list[int]:
    """Return the processes that descend from one, parents first, as far as the system shows them."""
    descendants: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                descendants += [child, *_children(child)]
    return descendants


def _end(processes: list[int]) -> None:
    for process in processes:
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)
