"""A diagnosis as JSON-able data, and as a table of the tensors."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from quantviz.layerwise.diagnosis.remedies import Trial
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures
from quantviz.specs import utf8

FORMAT = "quantviz diagnosis 1"
_FIGURES = (
    "sqnr",
    "sqnr_isolated",
    "cosine",
    "clipped",
    "used",
    "low",
    "high",
    "picture_ratio",
    "channels",
    "outlier_ratio",
    "zero_channels",
    "zero_point_saturates",
)


def report_diagnosis(diagnosis: Diagnosis, *, by_channel: bool = False) -> dict[str, Any]:
    """Return a diagnosis as JSON-able data.

    Args:
        diagnosis: of our simulation or of a pair of files.
        by_channel: with the range and SQNR of every channel.
    """
    return {
        "format": FORMAT,
        "network": diagnosis.network,
        "kind": diagnosis.kind,
        "quantization": diagnosis.quantization,
        **diagnosis.details,
        "images": [{"sha256": digest, "name": name} for digest, name in diagnosis.images],
        "noise_floor": diagnosis.floor,
        "tensors": [_tensor(entry, by_channel) for entry in diagnosis.tensors],
        "ranking": list(diagnosis.ranking),
        "causes": [{**asdict(cause), "figures": dict(cause.figures)} for cause in diagnosis.causes],
        "notes": list(diagnosis.notes),
    }


def _tensor(entry: TensorFigures, by_channel: bool) -> dict[str, Any]:
    site, histogram = entry.site, entry.histogram
    data = {
        "name": site.name,
        "layer": site.layer,
        "role": site.role,
        "depth": entry.depth,
        "bits": site.bits,
        "granularity": None if site.bits is None else "per_tensor" if site.axis is None else "per_channel",
        "scale": [float(scale) for scale in site.scale],
        "zero_point": [int(zero) for zero in site.zero_point],
        "quant_min": site.quant_min,
        "quant_max": site.quant_max,
        **{name: getattr(entry, name) for name in _FIGURES},
        "outlier_channels": list(entry.outliers),
        "histogram": {
            "edges": [float(edge) for edge in histogram.edges],
            "float": histogram.reference.tolist(),
            "quantized": histogram.quantized.tolist(),
            "sampled": histogram.sampled,
        },
        "drift": None if entry.drift is None else {**asdict(entry.drift), "over_floor": entry.drift.over_floor},
    }
    if by_channel:
        figures = entry.by_channel
        data["by_channel"] = {
            "low": figures.low.tolist(),
            "high": figures.high.tolist(),
            "sqnr": [float(value) if math.isfinite(value) else None for value in figures.sqnr],
            "zero": figures.vanished.tolist(),
        }
    return data


def csv_of(diagnosis: Diagnosis) -> bytes:
    """Return the tensors in order of execution as a table, an empty cell where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    causes = {cause.tensor: cause.cause for cause in diagnosis.causes}
    rank = {name: place for place, name in enumerate(diagnosis.ranking, 1)}
    drift = ("drift_alone", "drift_all_but", "over_floor")
    writer.writerow(["depth", "tensor", "layer", "role", "bits", "rank", *_FIGURES, *drift, "cause"])
    for entry in diagnosis.tensors:
        site, moved = entry.site, entry.drift
        drifts = [None] * 3 if moved is None else [moved.alone, moved.all_but, moved.over_floor]
        numbers = [*(getattr(entry, name) for name in _FIGURES), *drifts]
        cells = ["" if number is None else repr(number) for number in numbers]
        bits = "" if site.bits is None else site.bits
        row = [entry.depth, site.name, site.layer, site.role, bits, rank[site.name], *cells, causes.get(site.name, "")]
        writer.writerow(row)
    return utf8(text.getvalue())


def report_trial(trial: Trial) -> dict[str, Any]:
    """Return what a remedy did as JSON-able data."""
    data = asdict(trial)
    data["interval"] = None if trial.interval is None else {"low": trial.interval.low, "high": trial.interval.high}
    quant = data.pop("quant")
    data["quantization"] = None if trial.quant is None else {"label": trial.quant.label, **quant}
    return data


def html_of(diagnoses: Sequence[Diagnosis]) -> bytes:
    """Return a page of its own, without scripts or anything from elsewhere: causes, and a table of the tensors."""
    parts = [_HEAD]
    for diagnosis in diagnoses:
        parts.append(f"<h1>{escape(diagnosis.network)}, {escape(diagnosis.quantization)}</h1>")
        parts += [f"<p><em>{escape(note)}</em></p>" for note in diagnosis.notes]
        parts.append(f"<p>{len(diagnosis.images)} pictures, {len(diagnosis.tensors)} tensors.</p><h2>Causes</h2>")
        if not diagnosis.causes:
            parts.append("<p>Nothing is wrong by any of the rules.</p>")
        for cause in diagnosis.causes:
            parts.append(
                f"<p><b>{escape(cause.cause.replace('_', ' '))}</b>: {escape(cause.sentence)} "
                f"Remedy: {escape(cause.advice)}. <small>{escape(cause.reference)}</small></p>"
            )
        parts.append("<h2>Tensors in order of execution</h2><table><tr>")
        header, *rows = csv.reader(io.StringIO(csv_of(diagnosis).decode()))
        parts += [f"<th>{escape(name)}</th>" for name in header]
        parts.append("</tr>")
        for row in rows:
            parts.append("<tr>" + "".join(f"<td>{escape(_short(cell))}</td>" for cell in row) + "</tr>")
        parts.append("</table>")
    return utf8("\n".join([*parts, "</body></html>", ""]))


def _short(cell: str) -> str:
    """Return a number to four digits; other cells as they are."""
    try:
        return cell if cell.isdigit() else format(float(cell), ".4g")
    except ValueError:
        return cell


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Diagnosis</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: 2px 8px; text-align: right; border-bottom: 1px solid #8884; }
th:nth-child(2), td:nth-child(2), th:last-child, td:last-child { text-align: left; }
</style></head><body>"""
