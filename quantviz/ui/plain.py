"""Text of others in Markdown: file names, names within files, addresses and messages that tell them."""

from __future__ import annotations

import re

from quantviz.specs import utf8

_MARKS = re.compile(r"[\\`*_{}\[\]()<>#+!|~$&^=:-]")


def plain(text: object) -> str:
    r"""Return text as Markdown that shows it as it is: no picture, heading or formula comes of it.

    Only code between single backticks stays code, as our own messages have commands in it.

    Args:
        text: of whatever origin; white space is taken together, so that it stays within its paragraph.

    Example:
        >>> plain("![x](http://example.org/x.png) `quantviz serve`")
        '\\!\\[x\\]\\(http\\://example.org/x.png\\) `quantviz serve`'
    """
    words = " ".join(_encodable(text).split())
    parts = words.split("`")
    if len(parts) % 2 == 0 or "" in parts[1:-1] or "``" in words:  # what is code is not sure
        return _escaped(words)
    return "`".join(part if number % 2 else _escaped(part) for number, part in enumerate(parts))


def code(text: object) -> str:
    """Return text as Markdown code; its backticks become apostrophes, and white space is taken together."""
    words = " ".join(_encodable(text).replace("`", "'").split())
    return f"`{words}`" if words else ""


def _encodable(text: object) -> str:
    """Return text that can be sent to a browser: a file's name need not be UTF-8."""
    return utf8(str(text)).decode()


def _escaped(text: str) -> str:
    escaped = _MARKS.sub(r"\\\g<0>", text)
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", escaped)  # else a number at the start begins a list
