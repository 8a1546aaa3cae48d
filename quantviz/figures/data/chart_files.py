"""The numbers of a chart as CSV: what a reader of the chart would measure off it, with every digit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from quantviz.figures.data.charts import LineChart, RankChart, Span
from quantviz.figures.data.distribution import Box, DistributionChart
from quantviz.figures.data.pictures import ClassMatrix, ClassRow, PictureCloud
from quantviz.specs import cell, utf8

_ENDS = ("value", "low", "high")


def line_csv(chart: LineChart) -> bytes:
    """Return the points of a chart: network, protocol, bits, then x and y with the ends of their intervals.

    Where bit-widths stand across, x is left out: it is their place in the picture.
    """
    by_bits = bool(chart.x.ticks) and chart.x.exponents is None
    head = ["network", "protocol", "bits", *([] if by_bits else [f"x_{end}" for end in _ENDS])]
    rows = (
        [line.network, line.protocol, point.label, *([] if by_bits else _ends(point.x)), *_ends(point.y)]
        for line in chart.series
        for point in line.points
    )
    return _csv([*head, *(f"y_{end}" for end in _ENDS)], rows)


def rank_csv(chart: RankChart) -> bytes:
    """Return the networks of a ranking: mean drift with its interval, and the share of each rank."""
    head = ["network", "drift_value", "drift_low", "drift_high"]
    rows = ([_one_line(row.name), *_ends(row.drift), *row.shares] for row in chart.rows)
    return _csv([*head, *(f"rank_{place + 1}" for place in range(len(chart.rows)))], rows)


def distribution_csv(charts: Sequence[DistributionChart]) -> bytes:
    """Return what the boxes of some charts are drawn from, a line a box."""
    rows = (
        [
            chart.protocol,
            chart.comparison,
            chart.metric,
            _one_line(chart.networks[round(box.x)]),
            group.name,
            *_box(box),
        ]
        for chart in charts
        for group in chart.groups
        for box in group.boxes
    )
    spread = ["n", "mean", "sd", "quartile_1", "median", "quartile_3", "whisker_low", "whisker_high"]
    return _csv(["protocol", "comparison", "metric", "network", "bits", *spread], rows)


def cloud_csv(cloud: PictureCloud) -> bytes:
    """Return the pictures of a chart: place in the study, confidence, drift, whether the class changed."""
    columns = (cloud.indices, cloud.confidence, cloud.drift, cloud.flipped.astype(int))
    return _csv(
        ["picture", "confidence", "drift", "flipped"], zip(*(column.tolist() for column in columns), strict=True)
    )


def drops_csv(rows: Sequence[ClassRow]) -> bytes:
    """Return the classes of a chart with their drop of accuracy and its interval."""
    return _csv(["class", "name", "drop", "low", "high"], ([row.index, row.name, *_ends(row.drop)] for row in rows))


def matrix_csv(matrix: ClassMatrix) -> bytes:
    """Return the changes of class of a chart and how many pictures each has."""
    rows = ([*matrix.rows[row], *matrix.columns[column], count] for row, column, count in matrix.marks)
    return _csv(["before", "before_name", "after", "after_name", "pictures"], rows)


def _ends(span: Span) -> list[float]:
    return [span.value, span.low, span.high]


def _score(chart: DistributionChart) -> list[str]:
    return [chart.protocol, chart.comparison, chart.metric]


def _box(box: Box) -> list[float]:
    spread = box.spread
    return [spread.n, spread.mean, spread.sd, *spread.quartiles, *spread.whiskers]


def _one_line(name: str) -> str:
    return name.replace("\n", " ")


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
    return utf8(text.getvalue())
