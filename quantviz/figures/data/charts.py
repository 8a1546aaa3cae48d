"""What a study's charts are made of, for both renderers. Texts are plain.

A line break in a text stands where it may be broken; a renderer with room makes it a space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """A number as it is drawn, the ends of its 95 % interval (the number itself where it has none), and its method."""

    value: float
    low: float
    high: float
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How points and lines look: ``"#RRGGBB"``, a symbol of ``NETWORKS``, a dash of ``DASHES``."""

    colour: str
    symbol: str
    dash: str
    filled: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A cell of a study: its place, its bit-width, and lines that name it and give its numbers."""

    x: Span
    y: Span
    label: str
    note: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one network under one protocol, the fewest bits first; the name is the legend's."""

    network: str
    name: str
    look: Look
    points: tuple[Point, ...]
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """A part of a chart, over its whole width, that is named: from the bottom to a height."""

    name: str
    top: float


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis; without ticks, each (place, text), the renderer chooses them.

    ``exponents`` are the ends of a logarithmic axis as powers of ten; with ``percent``, parts are written as
    percentages.
    """

    title: str
    ticks: tuple[tuple[float, str], ...] = ()
    exponents: tuple[float, float] | None = None
    percent: bool = False


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines of networks under protocols.

    Attributes:
        x: axis across.
        y: upright axis.
        series: by network, then protocol; without those that have no point.
        networks: the legend's names and looks of networks, told apart by colour and symbol.
        protocols: those of protocols, told apart by dash and filling; () where there is one protocol.
        intervals: how those of the heights were made, in words; "" where there are none.
        facts: what is shown, for the description of a file.
        levels: (colour, height) of level lines: accuracies of the float networks.
        band: what lies below it is no finding: the noise floor.
    """

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    networks: tuple[tuple[str, Look], ...]
    protocols: tuple[tuple[str, Look], ...]
    intervals: str
    facts: Mapping[str, Any]
    levels: tuple[tuple[str, float], ...] = ()
    band: Band | None = None


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A network in a ranking: its drift, and of each rank the part of the bootstrap samples in which it has it.

    ``words`` is the drift in words, ``texts`` are the shares, "" for one that is too small to show; the lines of
    ``note`` name the network and give its drift.
    """

    name: str
    drift: Span
    words: str
    shares: tuple[float, ...]
    texts: tuple[str, ...]
    note: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RankChart:
    """Networks ranked by drift at one bit-width under one protocol, the least drift first.

    ``resamples`` are the bootstrap samples that the shares are of, ``titles`` those of the axes of drift and of rank,
    which counts from 1; ``intervals`` and ``facts`` are as in ``LineChart``.
    """

    setting: str
    protocol: str
    resamples: int
    rows: tuple[RankedRow, ...]
    titles: tuple[str, str]
    intervals: str
    facts: Mapping[str, Any]
