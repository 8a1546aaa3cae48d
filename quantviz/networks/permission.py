"""Whose code may be run as a network: a factory is code, which visitors of a dashboard must not name."""

from __future__ import annotations

import os
from collections.abc import Iterable

from quantviz.specs import UsageError

VARIABLE = "QUANTVIZ_FACTORIES"


def allow(names: Iterable[str]) -> None:
    """Let this process, and those that it starts, make no factories' networks but these; one may add further ones.

    Until it is called, every factory may be named: whoever types a command or writes Python runs code anyway.

    Args:
        names: as users type them, ``package.module:factory``; none to refuse them all.
    """
    known = os.environ.get(VARIABLE, "").split(",")
    os.environ[VARIABLE] = ",".join(dict.fromkeys(filter(None, (*known, *names))))


def check_allowed(name: str) -> None:
    """Refuse a factory that ``allow`` left out.

    Raises:
        UsageError: it may not be made here.
    """
    allowed = os.environ.get(VARIABLE)
    if allowed is not None and name not in allowed.split(","):
        raise UsageError(
            f"Model {name!r} is code, which this dashboard runs only if it was started with it; start it by "
            f"`quantviz serve --model {name}`, or name another model."
        )
