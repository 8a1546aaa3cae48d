"""A study's report: one HTML file that needs no network, for the screen, light or dark, and for paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from quantviz.report.tables import Column, headline, model_title, shown
from quantviz.report.wide import all_tables
from quantviz.specs import scheme_name, utf8
from quantviz.study.specs.summary import StudySummary

_TEMPLATES: Final = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A figure of the report, of which a reader may choose one of several.

    Attributes:
        title: above it.
        note: what it shows, in plain sentences.
        choices: what can be chosen -> Plotly figure as JSON-able data (``data``, ``layout``); the first is shown.
    """

    title: str
    note: str
    choices: Mapping[str, Mapping[str, Any]]


def study_html(summary: StudySummary, figures: Sequence[ReportFigure], plotly: str) -> bytes:
    """Return the report of a study; the same summary and figures give the same bytes.

    The page loads nothing: its content security policy allows no request at all, and only the two scripts that are in
    it, known by their sha256. Whatever comes from outside (paths, names, sentences of errors) is escaped. There is no
    date; the study's digest says what it is.

    Args:
        summary: of the study.
        figures: in the order of the report.
        plotly: the source of plotly.js.
    """
    page = (
        _environment()
        .get_template("study.html")
        .render(
            summary=summary,
            headline=headline(summary),
            tables=all_tables(summary),
            figures=figures,
            data=[list(figure.choices.values()) for figure in figures],
            style=_source("study.css"),
            scripts=(Markup(plotly), _source("study.js")),
        )
    )
    return utf8(page)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # With these, tojson gives the same text for the same data, and nothing that could end its script element.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    environment.globals |= {"scheme_name": scheme_name}
    environment.filters |= {
        "align": _align,
        "counted": _counted,
        "model_title": model_title,
        "sha256": _sha256,
        "shown": shown,
    }
    return environment


def _source(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text())


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _counted(things: Sized, what: str) -> str:
    """Return how many things there are: ``"1 picture"``, ``"1,200 pictures"``."""
    return f"{len(things):,} {what}{'s' * (len(things) != 1)}"


def _align(column: Column) -> Markup:
    return Markup("") if column.kind == "text" else Markup(' class="number"')
