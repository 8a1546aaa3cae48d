"""A study's tables as LaTeX, for a document that uses the package booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from quantviz.report.tables import Column, ReportTable, Value, shown

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
    lines = [f"% {_plain(table.title)}", r"% needs \usepackage{booktabs}"]
    for protocol in protocols:
        found = table.shown_rows(protocol)
        parts = [found[start : start + _MOST_ROWS] for start in range(0, len(found), _MOST_ROWS)]
        for part, rows in enumerate(parts, start=1):
            more = f", part {part} of {len(parts)}" if len(parts) > 1 else ""
            caption = f"{table.title}. Protocol {protocol}{more}."
            label = f"tab:{table.name}-{protocol}" + (f"-{part}" if more else "")
            lines += _environment(table.shown_columns, rows, caption, label)
    return ("\n".join(lines) + "\n").encode()


def escaped(text: str) -> str:
    """Return a text that LaTeX prints as it is; what does not print becomes a space, what no usual font has a ``?``."""
    return "".join(_SPECIAL.get(letter, letter if ord(letter) < _LATIN else "?") for letter in _plain(text))


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _environment(columns: Sequence[Column], rows: Iterable[Sequence[Value]], caption: str, label: str) -> Iterator[str]:
    alignment = "".join("l" if column.kind == "text" else "r" for column in columns)
    yield ""
    yield r"\begin{table}[p]"
    yield r"\centering\scriptsize\setlength{\tabcolsep}{3pt}"
    yield f"\\caption{{{escaped(caption)}}}"
    # A label is no text: what would have to be escaped is left out.
    yield f"\\label{{{''.join(letter for letter in label if letter.isalnum() or letter in ':-+')}}}"
    yield f"\\begin{{tabular}}{{{alignment}}}"
    yield r"\toprule"
    yield _row(column.title for column in columns)
    yield r"\midrule"
    for row in rows:
        yield _row(shown(column, value) for column, value in zip(columns, row, strict=True))
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _row(texts: Iterable[str]) -> str:
    return " & ".join(escaped(text) for text in texts) + r" \\"
