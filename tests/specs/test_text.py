"""File names in bytes, cells and terminals."""

import doctest
import os

from quantviz.specs import printable, text, utf8


def test_the_examples_hold():
    ran = doctest.testmod(text)
    assert ran.attempted >= 3
    assert ran.failed == 0


def test_a_name_of_any_bytes_comes_back():
    name = os.fsdecode(bytes(number for number in range(1, 256) if number not in b"/\\"))
    first, *rest = utf8(name).decode().split("\\u")
    assert first + "".join(chr(int(part[:4], 16)) + part[4:] for part in rest) == name
    assert all(sign.isprintable() or sign in "\n\t\u00a0" for sign in printable(name))
