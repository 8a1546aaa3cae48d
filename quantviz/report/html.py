"""A study's report: one HTML file that needs no network, for the screen, light or dark, and for paper."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from quantviz.report.page import SCRIPT, STYLE
from quantviz.report.tables import Column, Value, headline, model_title, shown, study_tables
from quantviz.specs import CALIBRATED, DEPLOYED, DEVIATIONS, QuantSpec, scheme_name
from quantviz.study.specs.plan import StudyModel, StudyPlan
from quantviz.study.specs.summary import StudySummary


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


def study_html(found: StudySummary, figures: Sequence[ReportFigure], plotly: str) -> bytes:
    """Return the report of a study; the same summary and figures give the same bytes.

    The page loads nothing: its content security policy allows no request at all, and only the two scripts that are in
    it, known by their sha256. Whatever comes from outside (paths, names, sentences of errors) is escaped. There is no
    date; the study's digest says what it is.

    Args:
        found: the summary.
        figures: in the order of the report.
        plotly: the source of plotly.js.
    """
    scripts = (plotly, SCRIPT)
    # In the head, before anything else could be loaded. Plotly makes style elements and, for downloads, blobs.
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    body = "\n".join([*_head(found), *_figures(figures), *_tables(found), *_errors(found), *_made(found.plan)])
    data = [list(figure.choices.values()) for figure in figures]
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(_title(found.plan))}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="figure-data">{_harmless(data)}</script>
<script>{plotly}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""
    return page.encode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _harmless(value: object) -> str:
    """Return JSON in which nothing can end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _title(plan: StudyPlan) -> str:
    models = ", ".join(model_title(model) for model in plan.models)
    return f"quantviz study: {models}, {_count(len(plan.images), 'picture')}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _head(found: StudySummary) -> Iterator[str]:
    plan = found.plan
    labelled = sum(image.label is not None for image in plan.images)
    yield "<header>"
    yield "<h1>Do quantized networks look at the same things?</h1>"
    facts = (
        _count(len(plan.images), "picture"),
        f"{labelled:,} with a class",
        ", ".join(map(model_title, plan.models)),
        ", ".join(quant.label for quant in plan.quants),
        f"{plan.cam.method}",
    )
    yield f"<p class=facts>{html.escape(' · '.join(facts))}</p>"
    yield from (f"<p class=headline>{html.escape(sentence)}</p>" for sentence in headline(found))
    untrained = [model.name for model in plan.models if not model.weights.trained]
    if untrained:
        names = html.escape(", ".join(untrained))
        yield f"<p class=warning>UNTRAINED: the weights of {names} are random, a sanity control.</p>"
    sections = {name: title for name, title in _SECTIONS.items() if name != DEPLOYED or DEPLOYED in plan.protocols}
    yield "<nav>" + " ".join(f'<a href="#{name}">{title}</a>' for name, title in sections.items()) + "</nav>"
    yield "</header>"


def _figures(figures: Sequence[ReportFigure]) -> Iterator[str]:
    yield _section("figures")
    yield "<noscript><p>The figures need JavaScript, which this file holds.</p></noscript>"
    for place, figure in enumerate(figures):
        yield f"<figure><h3>{html.escape(figure.title)}</h3>"
        if len(figure.choices) > 1:
            options = "".join(f"<option>{html.escape(choice)}</option>" for choice in figure.choices)
            yield f'<label>Show <select data-figure="{place}">{options}</select></label>'
        yield f'<div class=plot id="figure{place}"></div>'
        yield f"<figcaption>{html.escape(figure.note)}</figcaption></figure>"
    yield "</section>"


def _tables(found: StudySummary) -> Iterator[str]:
    for table in study_tables(found):
        yield _section(table.name)
        yield f"<p>{html.escape(table.title)}.</p>"
        for protocol in found.plan.protocols:
            if rows := table.shown_rows(protocol):
                yield f"<h3>Protocol {html.escape(protocol)}</h3>"
                yield _table(table.shown_columns, rows)
        if table.name == "tests":
            yield from _words(found)
        yield "</section>"


def _words(found: StudySummary) -> Iterator[str]:
    """Say in words what the tests found."""
    yield "<details><summary>The same in words</summary><ul>"
    for cell in found.cells:
        for test in (*cell.tests.values(), *cell.truth_tests.values()):
            place = f"{cell.model}, protocol {cell.protocol}: "
            yield f"<li>{html.escape(place + test.words)}</li>"
    yield "</ul></details>"


def _table(columns: Sequence[Column], rows: Iterable[Sequence[Value]]) -> str:
    def cells(tag: str, values: Iterable[str]) -> str:
        kinds = ("" if column.kind == "text" else " class=number" for column in columns)
        return "".join(f"<{tag}{kind}>{html.escape(value)}</{tag}>" for kind, value in zip(kinds, values, strict=True))

    head = cells("th", (column.title for column in columns))
    body = "\n".join(
        f"<tr>{cells('td', (shown(column, value) for column, value in zip(columns, row, strict=True)))}</tr>"
        for row in rows
    )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"


def _errors(found: StudySummary) -> Iterator[str]:
    yield _section("errors")
    if not found.reasons:
        yield "<p>Every picture has a result.</p>"
    for reasons, what in ((found.reasons, "there is no result"), (found.truth_reasons, "the ground truth is not used")):
        if reasons:
            columns = (Column("pictures", "pictures", "count"), Column("reason", f"why {what}"))
            yield _table(columns, [(count, reason) for reason, count in reasons.items()])
    yield "</section>"


def _made(plan: StudyPlan) -> Iterator[str]:
    yield _section("made")
    yield "<dl>"
    for name, text in _facts(plan):
        yield f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
    yield "</dl>"
    columns = (
        *(Column("model", "model"), Column("weights", "weights"), Column("sha256", "sha256 of the weights")),
        *(Column("layer", "target layer"), Column("classes", "classes", "count"), Column("note", "note")),
    )
    yield _table(columns, [_model_row(model) for model in plan.models])
    versions = ", ".join(f"{name} {version}" for name, version in sorted(plan.versions.items()))
    yield f"<p>Versions: {html.escape(versions)}; computation {plan.computation}.</p>"
    if plan.command:
        yield f"<p>The command that makes the study again:</p><pre>{html.escape(plan.command)}</pre>"
    yield f"<p>Digest of the study: <code>{plan.digest}</code></p></section>"


def _model_row(model: StudyModel) -> tuple[Value, ...]:
    ref = model.weights
    return model_title(model), f"{ref.name} ({ref.source})", ref.sha256, model.layer, ref.classes, ref.note


def _facts(plan: StudyPlan) -> Iterator[tuple[str, str]]:
    count = _count(len(plan.images), "picture")
    chosen = "all of the folder" if plan.limit is None else f"at most {plan.limit:,}"
    if plan.limit is not None:
        chosen += ", evenly spaced by path" if plan.seed is None else f", drawn by the seed {plan.seed}"
    yield "Pictures", f"{count} of {plan.dataset} ({chosen}), each known by its sha256"
    quant = plan.quants[0]
    yield (
        "Quantization",
        f"scheme {scheme_name(quant)}, ranges {quant.ranges}; " + ", ".join(q.label for q in plan.quants),
    )
    calibration = plan.calibration
    yield "Calibration", f"{calibration.images} inputs from {calibration.source}, sha256 {calibration.sha256}"
    yield "CAM", f"{plan.cam.method}, each model at its target layer"
    yield "Saliency", f"{plan.saliency}, a computed prediction and no measured attention"
    if plan.truth is not None:
        given = sum(file is not None for file in plan.truth.files)
        yield "Ground truth", f"{plan.truth.kind} from {plan.truth.folder}, of {_count(given, 'picture')}"
    yield from (("Note", note) for note in plan.notes)
    for protocol in plan.protocols:
        yield f"Protocol {protocol}", " ".join(_protocol_words(protocol))


def _protocol_words(protocol: str) -> Iterator[str]:
    if protocol == DEPLOYED:
        yield "W8A8 on ONNX Runtime's integer kernels; else as under the calibrated protocol."
        return
    deviations = QuantSpec(protocol=protocol).deviations
    if protocol == CALIBRATED or not deviations:
        yield "Eval mode, batch norm folded, ranges calibrated once and then frozen; both maps explain the float top-1."
        return
    yield "Differs from the calibrated protocol in this:"
    yield from (words for name, words in DEVIATIONS.items() if name in deviations)


def _section(name: str) -> str:
    return f'<section id="{name}"><h2>{_SECTIONS[name]}</h2>'


_SECTIONS: Final = {
    "figures": "Figures",
    "table1": "Agreement of the maps",
    "tests": "Change against the float network",
    "rates": "Classes and failures",
    "drift": "Drift",
    DEPLOYED: "Deployed int8 and its simulation",
    "errors": "Pictures without a result",
    "made": "How it was made",
}
