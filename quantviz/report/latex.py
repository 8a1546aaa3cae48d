"""A study's tables as LaTeX, for a document that uses the package booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pandas import DataFrame

from quantviz.report.tables import Column, ReportTable, Value, shown
from quantviz.specs import utf8

_MOST_ROWS = 48  # that a page holds
_LATIN = 0x180  # letters below are known to LaTeX without a package
_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "{}$&#_%"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", '"': "''"},
    **{"±": r"$\pm$", "−": "$-$", "≤": r"$\le$", "–": "--", "β": r"$\beta$", "ρ": r"$\rho$", "[": "{[}", "]": "{]}"},
}


def latex_bytes(table: ReportTable, protocols: Sequence[str]) -> bytes:
    r"""Return a table as LaTeX source: a ``table`` environment for each protocol, more where a page would be too short.

    It compiles in any document class that has tables, with ``\usepackage{booktabs}``. Every text is escaped; numbers
    are rounded as in the report, and the CSV file of the same name has every digit.

    Args:
        table: of ``study_tables``.
        protocols: in their order.
    """
    parts = [f"% {_plain(table.title)}\n% needs \\usepackage{{booktabs}}\n"]
    for protocol in protocols:
        rows = table.shown_rows(protocol)
        starts = range(0, len(rows), _MOST_ROWS)
        for part, start in enumerate(starts, start=1):
            more = f", part {part} of {len(starts)}" if len(starts) > 1 else ""
            caption = f"{table.title}. Protocol {protocol}{more}."
            label = f"tab:{table.name}-{protocol}" + (f"-{part}" if more else "")
            parts.append(_environment(table.shown_columns, rows[start : start + _MOST_ROWS], caption, label))
    return utf8("\n".join(parts))


def escaped(text: str) -> str:
    """Return a text that LaTeX prints as it is; what does not print becomes a space, what no usual font has a ``?``."""
    return "".join(_SPECIAL.get(letter, letter if ord(letter) < _LATIN else "?") for letter in _plain(text))


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _environment(columns: Sequence[Column], rows: Iterable[Sequence[Value]], caption: str, label: str) -> str:
    texts = [[shown(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
    styler = DataFrame(texts, columns=[column.title for column in columns]).style
    # Styler's own escaping does not reach captions, and leaves letters that LaTeX prints otherwise or not at all.
    styler = styler.format(escaped).format_index(escaped, axis="columns").hide(axis="index")
    size = [{"selector": "scriptsize", "props": ":;"}, {"selector": "setlength", "props": r":{\tabcolsep}{3pt};"}]
    source: str = styler.set_table_styles(size).to_latex(
        column_format="".join("l" if column.kind == "text" else "r" for column in columns),
        hrules=True,
        position="p",
        position_float="centering",
        caption=escaped(caption),
        # A label is no text: what would have to be escaped is left out.
        label="".join(letter for letter in label if letter.isalnum() or letter in ":-+"),
    )
    return source
