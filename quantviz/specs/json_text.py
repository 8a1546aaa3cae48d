"""JSON of untrusted files: within limits, each key once, every number finite."""

from __future__ import annotations

import json
import math
from typing import Any

from quantviz.specs.foreign import foreign
from quantviz.specs.limits import JSON_DEPTH


def read_json(data: bytes, *, most: int, depth: int = JSON_DEPTH) -> Any:
    """Return what JSON bytes in UTF-8 hold.

    Args:
        data: of the file.
        most: bytes that it may have.
        depth: how deep lists and objects may be nested.

    Raises:
        ValueError: the bytes are too many, no JSON, nested deeper, or have a key twice, or a number that is not finite;
            the message says which, to follow the file's name.
    """
    if len(data) > most:
        raise ValueError(f"has {len(data):,} bytes, more than {most:,}")
    try:
        value = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(f"is nested deeper than {depth}") from None
    except json.JSONDecodeError as error:
        found = foreign(data, "JSON")
        if found:
            raise ValueError(f"is {found.kind}, no JSON{f' ({found.remedy})' if found.remedy else ''}") from None
        raise ValueError(f"is no JSON ({error})") from None
    except UnicodeDecodeError:
        raise ValueError("is no JSON: it is no text in UTF-8") from None
    check_depth(value, depth)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"has {twice[:80]!r} twice")
    return entries


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"holds {constant}, which is no finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds {text[:40]}, which is no finite number")
    return value


def check_depth(value: Any, depth: int) -> None:
    """Refuse deep nesting before anything walks through it by recursion.

    Args:
        value: what JSON or TOML holds.
        depth: how deep lists and objects may be nested.

    Raises:
        ValueError: they are nested deeper; the message is to follow the file's name.
    """
    level = [value]
    for _ in range(depth + 1):
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            return
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    raise ValueError(f"is nested deeper than {depth}")
