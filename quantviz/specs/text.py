"""Text from outside, file names above all, as it can be written anywhere."""

from __future__ import annotations

_FORMULA = tuple("=+-@\t\r")


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
    return f"'{text}" if text.startswith(_FORMULA) else text


def printable(text: str) -> str:
    r"""Return text for a terminal: signs that would steer it, and lone surrogates, are written as ``\x1b``.

    Args:
        text: any; line breaks and tabs stay.

    Example:
        >>> printable("\x1b[31mred.jpg")
        '\\x1b[31mred.jpg'
    """
    return "".join(sign if sign.isprintable() or sign in "\n\t" else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode() if ord(sign) > 0x7F else f"\\x{ord(sign):02x}"
