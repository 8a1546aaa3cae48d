"""The option that writes what other tools read."""

from __future__ import annotations

from pathlib import Path

import click

from quantviz.layerwise.diagnosis.exports import EXPORTS
from quantviz.specs import UsageError

_TOOLS = (*EXPORTS, "bits")

export_option = click.option(
    "--export",
    "exports",
    multiple=True,
    metavar="TOOL=FILE",
    help=f"Write what another tool reads; TOOL is one of {', '.join(EXPORTS)}, or bits for a bits file.",
)


def export_of(words: str) -> tuple[str, Path]:
    """Return the tool and the file of ``TOOL=FILE``.

    Raises:
        UsageError: it names none.
    """
    tool, sign, path = words.partition("=")
    if not sign or not path or tool not in _TOOLS:
        raise UsageError(
            f"--export {words!r} names no tool and file; write TOOL=FILE with a tool of {', '.join(_TOOLS)}."
        )
    return tool, Path(path)
