"""Which figures a study's report has, as Plotly data for the page and as files for paper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from quantviz import figures
from quantviz.report.html import ReportFigure
from quantviz.report.tables import comparison_title, metric_title
from quantviz.study.filters import ranking
from quantviz.study.specs.summary import StudySummary
from quantviz.study.specs.table import StudyTable

_CHANGE = "quantized_v_float"
_FIRST_METRIC, _FIRST_SETTING = "cc", "W8A8"
_MEASURES: Final[dict[figures.AccuracyMeasure, str]] = {
    "accuracy": "top-1 accuracy",
    "change": "change of top-1 accuracy",
    "flips": "changed top-1 classes",
}
_PANELS = 4  # of a figure that a page holds
_NOTES = {
    "spread": "A box holds the middle half of the pictures with the median as a line; whiskers reach to the furthest "
    "values within 1.5 interquartile ranges, dots are values beyond (of many, some), the diamond is the mean.",
    "bits": "Means over the pictures with 95 % bootstrap intervals. Drift of a millionth or less is drawn at it.",
    "accuracy": "A point for each bit-width, with 95 % intervals (the upright ones Wilson's). Drift of a millionth or "
    "less is drawn at it.",
    "ranking": "The mean drift with its 95 % bootstrap interval, and how often each rank occurs when the pictures "
    "are drawn anew with replacement: a rank that is not always the same could be another with other pictures.",
}


def report_figures(summary: StudySummary, table: StudyTable) -> list[ReportFigure]:
    """Return the page's figures, each with what a reader may choose."""
    untrained = [model.name for model in summary.plan.models if not model.weights.trained]
    spreads = {
        f"{metric_title(metric)}, {comparison_title(comparison)}, {protocol}": figures.distribution_figure(
            figures.distribution_chart(table, comparison, metric, protocol)
        )
        for comparison, metrics in _scores(summary, table)
        for metric in metrics
        for protocol in summary.plan.protocols
    }
    bits = {"drift, 1 − CC": figures.drift_figure(figures.drift_chart(summary.cells, untrained=untrained))} | {
        f"{metric_title(metric)}, {comparison_title(comparison)}": figures.drift_figure(
            figures.drift_chart(summary.cells, metric, comparison=comparison, untrained=untrained)
        )
        for comparison, metrics in _scores(summary, table)
        for metric in metrics
    }
    accuracy = {
        _MEASURES[measure]: figures.accuracy_figure(figures.accuracy_chart(summary.cells, measure, untrained=untrained))
        for measure in _measures(summary)
    }
    ranks = {
        f"{setting}, {protocol}": figures.ranking_figure(
            figures.ranking_chart(ranking(table, setting, protocol), untrained=untrained)
        )
        for setting, protocol in _places(summary)
    }
    return [
        ReportFigure("How the scores are spread over the pictures", _NOTES["spread"], _plain(spreads)),
        ReportFigure("Against the bit-widths", _NOTES["bits"], _plain(bits)),
        ReportFigure("Accuracy against drift", _NOTES["accuracy"], _plain(accuracy)),
        ReportFigure("Architectures by drift", _NOTES["ranking"], _plain(ranks)),
    ]


def figure_files(summary: StudySummary, table: StudyTable) -> Iterator[tuple[str, bytes]]:
    """Yield (file name, its bytes) of each figure for paper, as SVG and as PNG."""
    from quantviz.figures.print import study as paper
    from quantviz.figures.print.page import REPORTED

    plan, untrained = summary.plan, [model.name for model in summary.plan.models if not model.weights.trained]
    for form in REPORTED:
        for comparison, metrics in _scores(summary, table):
            for protocol in summary.plan.protocols:
                for start in range(0, len(metrics), _PANELS):
                    part = f"-{start // _PANELS + 1}" if len(metrics) > _PANELS else ""
                    some = metrics[start : start + _PANELS]
                    charts = [
                        figures.distribution_chart(table, comparison, metric, protocol, complete=True)
                        for metric in some
                    ]
                    data = paper.distribution_print(charts, plan, form)
                    yield f"distribution-{comparison}-{protocol}{part}.{form}", data
        yield (
            f"bits-drift.{form}",
            paper.drift_print(figures.drift_chart(summary.cells, untrained=untrained), plan, form),
        )
        for metric in dict(_scores(summary, table)).get(_CHANGE, ()):
            yield (
                f"bits-{_CHANGE}-{metric}.{form}",
                paper.drift_print(figures.drift_chart(summary.cells, metric, untrained=untrained), plan, form),
            )
        for measure in _measures(summary):
            chart = figures.accuracy_chart(summary.cells, measure, untrained=untrained)
            yield f"{measure}-against-drift.{form}", paper.accuracy_print(chart, plan, form)
        for setting, protocol in _places(summary):
            ranked = figures.ranking_chart(ranking(table, setting, protocol), untrained=untrained)
            yield f"ranking-{setting}-{protocol}.{form}", paper.ranking_print(ranked, plan, form)


def _scores(summary: StudySummary, table: StudyTable) -> list[tuple[str, list[str]]]:
    """Return the comparisons with their metrics, the change of the maps and its CC first."""
    pairs: dict[str, list[str]] = {}
    for comparison, metrics in summary.cells[0].scores.items():
        if "quantized" not in comparison:  # the same at every bit-width; the tables have it
            continue
        known = [metric for metric in metrics if f"{comparison}_{metric}" in table.columns]
        if known:
            pairs[comparison] = sorted(known, key=lambda metric: metric != _FIRST_METRIC)
    return sorted(pairs.items(), key=lambda item: item[0] != _CHANGE)


def _measures(summary: StudySummary) -> Sequence[figures.AccuracyMeasure]:
    labelled = any(cell.accuracy is not None for cell in summary.cells)
    return tuple(_MEASURES) if labelled else ("flips",)


def _places(summary: StudySummary) -> list[tuple[str, str]]:
    places = dict.fromkeys((cell.setting, cell.protocol) for cell in summary.cells)
    order = sorted(summary.plan.settings, key=lambda label: label != _FIRST_SETTING)
    return sorted(places, key=lambda place: order.index(place[0]))


def _plain(made: Mapping[str, go.Figure]) -> dict[str, dict[str, Any]]:
    """Return figures as JSON-able data; their template is left out, because the page has its own."""
    plain = {}
    for name, figure in made.items():
        data = json.loads(figure.to_json())
        data["layout"].pop("template", None)
        plain[name] = {"data": data["data"], "layout": data["layout"]}
    return plain
