"""TOML files that users write: read within limits, and on which line a key stands, which ``tomllib`` does not keep."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quantviz.specs import UsageError, foreign, limits
from quantviz.specs.json_text import check_depth

Place = tuple[str | int, ...]
"""Keys, and for a table of an array its number, from the outermost one: ``("variants", 1, "file")``."""

_MOST_PARSED = 4 << 20


def text_of(path: Path, kind: str) -> str:
    """Return the text of a file that a user wrote.

    Args:
        path: of the file.
        kind: what it is called, for messages: ``"Card"``.

    Raises:
        UsageError: it cannot be read, has more than ``limits.CARD_BYTES``, or is not UTF-8.
    """
    most = limits.CARD_BYTES
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise UsageError(f"{kind} {path.name!r} has more than {most:,} bytes; give a shorter one.")
        return data.decode()
    except OSError as error:
        raise UsageError(f"{kind} {str(path)!r} cannot be read ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{kind} {str(path)!r} is no text in UTF-8; save it as such.") from None


def content_of(text: str, name: str, kind: str) -> dict[str, Any]:
    """Return what a TOML text says.

    Args:
        text: of a file.
        name: of the file, for messages.
        kind: what it is called, for messages.

    Raises:
        UsageError: it is no TOML, or nested too deep; the message has the line.
    """
    deep = f"{kind} {name!r} is nested deeper than {limits.CARD_DEPTH}; write it as its documentation shows."
    try:
        content = tomllib.loads(text)
        check_depth(content, limits.CARD_DEPTH)
    except tomllib.TOMLDecodeError as error:
        if (found := foreign(text[:400].encode())) and found.remedy:
            raise UsageError(found.sentence(name, f"a {kind.lower()}", "")) from None
        words = str(error)
        raise UsageError(f"{kind} {name!r} is no TOML: {words[:1].lower()}{words[1:]}; correct that line.") from None
    except (RecursionError, ValueError):
        raise UsageError(deep) from None
    return content


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line, from 1, on which the statement that sets a place begins; None where there is none.

    Args:
        text: valid TOML.
        place: of a value, or of a table by its header. What lies within a value has the value's line.
    """
    table: Place = ()
    counts: dict[Place, int] = {}
    wanted = tuple(place)
    for line, statement in _statements(text):
        content = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _header(content, counts)
            if table == wanted:
                return line
        elif wanted[: len(table)] == table and _sets(content, wanted[len(table) :]):
            return line
    return None


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement, which may take several lines, with its first line, until too much had to be parsed."""
    start, lines, budget = 1, list[str](), _MOST_PARSED
    for number, line in enumerate(text.splitlines(), start=1):
        if not lines and (not line.strip() or line.lstrip().startswith("#")):
            start = number + 1
            continue
        lines.append(line)
        if line.rstrip().endswith(","):  # it goes on: long arrays are not parsed anew for each of their lines
            continue
        budget -= len(statement := "\n".join(lines))
        if budget < 0:  # a statement of thousands of lines, each of which would parse it anew
            return
        if not _whole(statement):
            continue
        yield start, statement
        start, lines = number + 1, []


def _whole(statement: str) -> bool:
    try:
        return bool(tomllib.loads(statement))
    except tomllib.TOMLDecodeError:
        return False


def _header(content: dict[str, Any], counts: dict[Place, int]) -> Place:
    """Return the place of the table that a header begins; ``counts`` has the tables of each array before it."""
    keys: list[str | int] = []
    value: Any = content
    while value:
        if isinstance(value, list):
            name = tuple(keys)
            counts[name] = counts.get(name, -1) + 1
            keys.append(counts[name])
            value = value[0]
        else:
            key, value = next(iter(value.items()))
            keys.append(key)
    return tuple(keys)


def _sets(content: Any, rest: Place) -> bool:
    """Tell whether a statement sets what ``rest`` names, or a value that holds it."""
    for key in rest:
        if not isinstance(content, dict):
            return True
        if key not in content:
            return False
        content = content[key]
    return bool(rest)
