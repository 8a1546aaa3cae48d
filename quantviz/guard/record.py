"""What a check came to, as JSON, as JUnit XML and as a summary in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from xml.etree import ElementTree as Xml

from quantviz.guard.specs import CheckReport, Limit, Outcome, Verdict
from quantviz.specs import printable, utf8

FORMAT: Final = 1

_MARKS: Final[Mapping[Outcome, str]] = {
    Outcome.HOLDS: "✅ holds",
    Outcome.BROKEN: "❌ broken",
    Outcome.UNDECIDED: "❔ undecided",
}


def headline(report: CheckReport) -> str:
    """Return the outcome in one sentence."""
    counts = {outcome: sum(one.outcome is outcome for one in report.verdicts) for outcome in Outcome}
    total = len(report.verdicts)
    if report.outcome is Outcome.HOLDS:
        return f"Holds: all {total} limits hold on {report.pictures} pictures."
    words = [_count_words(outcome, count) for outcome, count in counts.items() if count]
    named = next(one for one in report.verdicts if one.outcome is report.outcome)
    return f"{report.outcome.value.capitalize()}: of {total} limits {', '.join(words)}; {sentence(named)}"


def _count_words(outcome: Outcome, count: int) -> str:
    if outcome is Outcome.HOLDS:
        return f"{count} hold{'s' if count == 1 else ''}"
    return f"{count} {'is' if count == 1 else 'are'} {outcome.value}"


def rule(report: CheckReport) -> str:
    """Return in a sentence or two by which confidence bounds the limits are decided."""
    alpha = round(1 - report.confidence, 12)
    shared = f"{alpha:.3g} / {report.family} = {alpha / max(report.family, 1):.2g}"
    return (
        f"A limit holds where its one-sided {report.confidence:.0%} bound keeps it, and is broken where the bound at "
        f"{shared} passes it: the chance of even one false failure is at most {alpha:.0%}, and so is that of a pass "
        "where a limit does not hold."
    )


def sentence(verdict: Verdict) -> str:
    """Return a verdict in one sentence."""
    limit, shown = verdict.limit, _shown(verdict.limit, verdict.estimate)
    sign = "least" if limit.kind.least else "most"
    words = f"{limit.kind.title} of {verdict.cell[0]} {verdict.cell[1]} is {shown}, and at {sign} {limit_words(limit)}"
    if verdict.outcome is Outcome.HOLDS:
        return f"{words} is allowed."
    if verdict.outcome is Outcome.BROKEN:
        return f"{words} is allowed (bound {_shown(limit, broken_bound(verdict))})."
    return f"{words} is allowed: {needed_words(verdict)}."


def needed_words(verdict: Verdict) -> str:
    """Return how many pictures would decide an undecided limit, in words; "" for a decided one."""
    if verdict.outcome is not Outcome.UNDECIDED:
        return ""
    if verdict.needed is not None:
        return f"about {verdict.needed:,} pictures like these would decide it, not {verdict.n:,}"
    if not verdict.n:
        return "nothing was measured"
    return "no number of pictures like these would decide it, as the value lies at the limit"


def broken_bound(verdict: Verdict) -> float | None:
    """Return the bound that breaks a limit when it passes it."""
    return verdict.high if verdict.limit.kind.least else verdict.low


def holds_bound(verdict: Verdict) -> float | None:
    """Return the bound by which a limit holds."""
    return verdict.low if verdict.limit.kind.least else verdict.high


def limit_words(limit: Limit) -> str:
    """Return a limit as a reader reads it: ``"0.02"``, ``"5 %"``, ``"1,300,000 bytes"``."""
    if limit.name == "worst_picture":
        return f"{_shown(limit, limit.part)} beyond {limit.value:.4g}"
    return _shown(limit, limit.value)


def table_rows(report: CheckReport) -> list[tuple[str, ...]]:
    """Return the verdicts as rows of text under ``TABLE_HEAD``."""
    return [
        (
            one.outcome.value,
            " ".join(one.cell),
            one.limit.name if one.limit.against == "float" else f"change.{one.limit.name}",
            f"{'≥' if one.limit.kind.least else '≤'} {limit_words(one.limit)}",
            _shown(one.limit, one.estimate),
            f"{_shown(one.limit, one.low)} to {_shown(one.limit, one.high)}" if one.method != "counted" else "",
            f"{one.n:,}" if one.n else "",
            "; ".join(words for words in (needed_words(one), one.note) if words),
        )
        for one in report.verdicts
    ]


TABLE_HEAD: Final = ("", "network", "limit", "allowed", "measured", "bounds", "pictures", "")


def report_data(report: CheckReport) -> dict[str, Any]:
    """Return a check as JSON-able data."""
    verdicts = []
    for one in report.verdicts:
        entry = asdict(one)
        entry["cell"] = dict(zip(("model", "variant", "protocol"), one.cell, strict=True))
        entry["limit"] |= {"title": one.limit.kind.title, "unit": one.limit.kind.unit, "least": one.limit.kind.least}
        entry["words"] = sentence(one)
        verdicts.append(entry)
    return {
        "format": FORMAT,
        "outcome": report.outcome.value,
        "exit_status": report.exit_status,
        "headline": headline(report),
        "rule": rule(report),
        **{
            name: getattr(report, name)
            for name in ("confidence", "family", "pictures", "left_out", "study", "check", "baseline", "paired")
        },
        "verdicts": verdicts,
        "worst": [asdict(one) | {"cell": list(one.cell)} for one in report.worst],
        "seconds": round(report.seconds, 3),
        "notes": list(report.notes),
    }


def report_json(report: CheckReport) -> bytes:
    """Return a check as a JSON file."""
    return utf8(json.dumps(report_data(report), indent=2, allow_nan=False) + "\n")


def junit_xml(report: CheckReport) -> bytes:
    """Return a check as JUnit XML: a test case a limit; a broken one fails, an undecided one is an error."""
    counts = {outcome: sum(one.outcome is outcome for one in report.verdicts) for outcome in Outcome}
    totals = {
        "tests": str(len(report.verdicts)),
        "failures": str(counts[Outcome.BROKEN]),
        "errors": str(counts[Outcome.UNDECIDED]),
        "skipped": "0",
        "time": f"{report.seconds:.3f}",
    }
    root = Xml.Element("testsuites", {"name": "quantviz check", **totals})
    suite = Xml.SubElement(root, "testsuite", {"name": printable(report.check or "check"), **totals})
    for one in report.verdicts:
        name = one.limit.name if one.limit.against == "float" else f"change.{one.limit.name}"
        group = "quantviz." + ".".join(part.replace(".", "_") for part in one.cell)
        case = Xml.SubElement(suite, "testcase", {"classname": printable(group), "name": name, "time": "0"})
        if one.outcome is not Outcome.HOLDS:
            kind = "failure" if one.outcome is Outcome.BROKEN else "error"
            fault = Xml.SubElement(case, kind, {"type": one.outcome.value, "message": printable(sentence(one))})
            fault.text = printable(f"{sentence(one)} {one.note}".strip())
        else:
            Xml.SubElement(case, "system-out").text = printable(sentence(one))
    Xml.indent(root)
    data: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def markdown(report: CheckReport, pictures: Mapping[str, str]) -> bytes:
    """Return a check as a summary in Markdown.

    Args:
        report: the check.
        pictures: ``"INDEX VARIANT"`` of a worst picture -> the PNG of its maps, relative to the summary's folder.
    """
    lines = [f"## quantviz check: {_MARKS[report.outcome]}", "", _escaped(headline(report)), ""]
    lines += ["| | network | limit | allowed | measured | bounds | pictures | |", "| --- " * 8 + "|"]
    for one, row in zip(report.verdicts, table_rows(report), strict=True):
        lines.append("| " + " | ".join([_MARKS[one.outcome], *map(_escaped, row[1:])]) + " |")
    lines += ["", rule(report), ""]
    if report.left_out:
        lines += [f"{report.left_out} of {report.pictures} pictures have no result and are left out.", ""]
    if report.baseline:
        lines += [f"Baseline: {_escaped(report.baseline)}, paired on {report.paired} pictures.", ""]
    if report.worst:
        lines += ["### The pictures that drift most", ""]
    for picture in report.worst:
        change = "" if picture.flipped is None else ", top-1 changed" if picture.flipped else ", top-1 kept"
        title = f"{picture.path}, {picture.cell[0]} {picture.cell[1]}: drift {picture.drift:.3f}{change}"
        file = pictures.get(f"{picture.index} {' '.join(picture.cell)}")
        lines += [_escaped(title), ""]
        if file:
            lines += [f"![{_escaped(title)}]({file})", ""]
    lines += [f"_{_escaped(note)}_" for note in report.notes]
    return utf8("\n".join(lines).rstrip() + "\n")


def _shown(limit: Limit, value: float | None) -> str:
    """Return a value in a limit's unit."""
    if value is None:
        return "-"
    unit = limit.kind.unit
    if unit == "part":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value:,.0f} bytes"
    return f"{value:.3g} x" if unit == "times" else f"{value:.3g}"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in a table too."""
    text = printable(text)
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text
