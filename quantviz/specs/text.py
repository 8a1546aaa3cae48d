"""Text from outside, file names above all, as it can be written anywhere."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

LONGEST_WORD: Final = 600
"""Signs of a message without a blank above which they are cut in their middle; a path may have as many."""

LONGEST_MESSAGE: Final = 4000
"""Signs of a whole message above which it is cut in its middle."""

# Signs that steer nothing although they count as unprintable: line breaks, tabs and the space that does not break.
_HARMLESS = "\n\t\u00a0"

_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # spreadsheets read the wide signs as the others


def utf8(text: str) -> bytes:
    r"""Return text in UTF-8, whatever bytes the file names in it have.

    A file's name need not be UTF-8. Python keeps a byte that is none as a lone surrogate, which no encoding takes; it
    is written as ``\udcXX``, with XX the byte in hexadecimal digits.

    Args:
        text: any.

    Example:
        >>> utf8("caf\udce9.jpg")
        b'caf\\udce9.jpg'
    """
    return text.encode("utf-8", "backslashreplace")


def cell(text: str) -> str:
    """Return text as a cell of a table that a spreadsheet may open: one that begins as a formula gets an apostrophe.

    Args:
        text: of a cell.

    Example:
        >>> cell("=1+1.jpg"), cell("cat.jpg")
        ("'=1+1.jpg", 'cat.jpg')
    """
    marked = f"'{text}" if text.startswith(_FORMULA) else text
    return marked.replace("\r", "\\x0d")  # which csv does not quote, and which begins a row where it is read


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    r"""Return rows as CSV in UTF-8, which a spreadsheet can open: no text in it becomes a formula.

    Every CSV file is written by this. What is missing is an empty cell; numbers are written with every digit.

    Args:
        rows: of texts, numbers, flags and None.

    Example:
        >>> csv_bytes([["name", "drift"], ["=1+1", -0.5], [None, float("1e-9")]])
        b"name,drift\n'=1+1,-0.5\n,1e-09\n"
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([cell(value) if isinstance(value, str) else value for value in row])
    return utf8(text.getvalue())


def one_form(text: str) -> str:
    """Return text in the normal form C, by which names are compared: systems store one name in several.

    Example:
        >>> one_form("cafe\u0301") == "caf\u00e9"
        True
    """
    return unicodedata.normalize("NFC", text)


def brief(message: str) -> str:
    """Return a message with whatever is too long in it cut in the middle, so that its end, what to do next, stays.

    Messages quote what they refuse, and files hold names and values of any length.

    Args:
        message: of an error.

    Example:
        >>> len(brief("Layer " + "x" * 900_000 + " is unknown; use conv1."))
        628
    """
    return _cut(_LONG_WORD.sub(lambda word: _cut(word[0], LONGEST_WORD), message), LONGEST_MESSAGE)


def _cut(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def counted(count: int, what: str) -> str:
    """Return a count in words: ``"1 model"``, ``"2 models"``.

    Args:
        count: how many.
        what: one of them, a noun whose plural ends in s.
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def printable(text: str) -> str:
    r"""Return text for a terminal: signs that would steer it, and lone surrogates, are written as ``\x1b``.

    Args:
        text: any; line breaks, tabs and no-break spaces stay.

    Example:
        >>> printable("\x1b[31mred.jpg")
        '\\x1b[31mred.jpg'
    """
    return "".join(sign if sign.isprintable() or sign in _HARMLESS else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode() if ord(sign) > 0x7F else f"\\x{ord(sign):02x}"
