"""A result as a notebook shows it: one fragment of HTML that asks nothing of a network and runs no script.

It has no colours of its own for text and ground, so that it is readable on light and dark pages alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@dataclass(frozen=True, slots=True)
class PagePanel:
    """A picture with its two lines: ``picture`` is a ``data:`` address, ``problem`` says why there is no map."""

    name: str
    second: str
    picture: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of text.

    Attributes:
        head: the columns' titles.
        rows: a text a column.
        left: places of the columns that are to the left, the others being numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[int] = (0,)

    def lines(self) -> list[str]:
        """Return the table as lines of text, its columns below each other."""
        rows = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        sides = ("<", *">" * (len(widths) - 1))
        cells = [
            [f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)] for row in rows
        ]
        return ["  ".join(line).rstrip() for line in cells]


@dataclass(frozen=True, slots=True)
class Page:
    """What a result shows: plain text throughout, which is escaped when it is rendered.

    Attributes:
        verdict: one sentence, first.
        made: what was compared and how.
        panels: the maps.
        tables: scores and predictions.
        notes: what a reader must know, last.
        warning: what stands before all, or "".
    """

    verdict: str
    made: str
    panels: Sequence[PagePanel] = ()
    tables: Sequence[PageTable] = ()
    notes: Sequence[str] = ()
    warning: str = ""

    def html(self) -> str:
        """Return the fragment."""
        names = ("verdict", "made", "panels", "tables", "notes", "warning")
        return _environment().get_template("result.html").render({name: getattr(self, name) for name in names})

    def text(self) -> str:
        """Return the same in a few lines, without the pictures."""
        lines = [self.warning, self.made, self.verdict]
        for table in self.tables:
            rows = [table.head, *table.rows]
            widths = [max(len(row[column]) for row in rows) for column in range(len(table.head))]
            for row in rows:
                cells = [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
                ]
                lines.append("  ".join(cells).rstrip())
        return "\n".join(line for line in (*lines, *self.notes) if line)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
