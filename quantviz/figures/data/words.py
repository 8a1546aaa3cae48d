"""Numbers, names and labels in words, and the order of bit-widths."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from quantviz.specs.attention import multiple

_NAME_CHARACTERS = 34


def number(value: float | None, measure: str = "cam") -> str:
    """Return a drift in words: CC and nats with the decimals that show it, SQNR in decibels, a dash for none."""
    if value is None:
        return "–"
    if measure == "sqnr":
        return f"{value:.1f} dB".replace("-", "−")
    if 0 < abs(value) < 0.00001:
        return "<0.00001"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.5f}"


def times(value: float | None, floor: float | None) -> str:
    """Return how many times the noise floor a drift is, ``"5.1 ×"``; "" where either is missing or the floor is 0."""
    if value is None or not floor:
        return ""
    return multiple(value / floor)


def percent(probability: float) -> str:
    """Return a probability as a percentage; one that rounds to 0 or to 100 % is given as a bound."""
    if probability < 0.0005:
        return "<0.1 %"
    if probability > 0.9995:
        return ">99.9 %"
    return f"{probability:.0%}"[:-1] + " %" if 0.0995 <= probability < 0.995 else f"{100 * probability:.1f} %"


def wrapped(text: str, width: int, *, lines: int = 2) -> list[str]:
    """Return a text on at most ``lines`` lines of ``width`` characters, cut with an ellipsis where it is longer.

    Characters that do not print (a file name may hold any) become spaces.
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    joined = printable.replace(" %", "\N{NO-BREAK SPACE}%")  # a number stays with its unit
    rows = textwrap.wrap(joined, width, max_lines=lines, placeholder=" …") or [""]
    return [row.replace("\N{NO-BREAK SPACE}", " ") for row in rows]


def short(name: str, most: int = _NAME_CHARACTERS) -> str:
    """Return a dotted name with its first parts left out where it is long: the last ones tell layers apart."""
    if len(name) <= most:
        return name
    parts = name.split(".")
    while len(parts) > 1 and len(".".join(parts)) >= most:
        del parts[0]
    return f"…{'.'.join(parts)[1 - most :]}"


def metric_name(metric: str) -> str:
    """Return a score's name as readers know it: ``"CC"``, ``"AUC Judd"``."""
    first, *rest = metric.split("_")
    return " ".join([first.upper(), *(word.capitalize() for word in rest)])


def network_name(name: str, untrained: bool) -> str:
    """Return a network's name, with UNTRAINED on a line of its own where its weights are."""
    return f"{name}\nUNTRAINED" if untrained else name


def by_bits(labels: Iterable[str]) -> list[str]:
    """Return labels of bit-widths, the fewest weight bits first, then the fewest activation bits; weight-only last."""

    def bits(label: str) -> tuple[int, int, str]:
        weight = re.search(r"W(\d+)", label)
        act = re.search(r"A(\d+)", label)
        return int(weight[1]) if weight else 33, int(act[1]) if act else 32, label

    return sorted(labels, key=bits)
