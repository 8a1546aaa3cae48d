"""Standard output and standard error on which names from outside can neither steer the terminal nor fail.

Everything that is printed passes here, in one place: click and ``print`` write to ``sys.stdout``, which for the time of
a command is a ``Printed``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from quantviz.specs import printable


class Printed(io.TextIOBase):
    r"""A text stream on which signs that steer terminals are written as ``\x1b``, and others that it lacks as escapes.

    It has no ``buffer``: click would write around it where the terminal's encoding is ASCII.

    Args:
        stream: where it writes; ``raw`` for what may have colours, whose texts were made printable before.
    """

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream
        if isinstance(stream, io.TextIOWrapper):  # names of files have any letters, and terminals not all of them
            stream.reconfigure(errors="backslashreplace")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return getattr(self.raw, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How the stream writes letters that its encoding lacks."""
        return getattr(self.raw, "errors", None) or "strict"

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether a person watches."""
        return self.raw.isatty()

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self.raw.fileno()

    def write(self, text: str) -> int:
        """Write text; bytes are refused, by which click knows that this takes none."""
        if not isinstance(text, str):
            raise TypeError(f"text is needed, not {type(text).__name__}")
        self.raw.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.raw.flush()


@contextmanager
def printed_streams() -> Iterator[None]:
    """Make standard output and standard error ``Printed`` while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Printed(sys.stdout), Printed(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw(stream: TextIO) -> TextIO:
    """Return the stream below a ``Printed``, for what has colours of ours."""
    return stream.raw if isinstance(stream, Printed) else stream
