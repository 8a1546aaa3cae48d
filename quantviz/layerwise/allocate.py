"""Bits shared out among layers: what is given up first when a model must become smaller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Bits = dict[str, int]
"""Layer's name -> weight bits."""


@dataclass(frozen=True, slots=True)
class Move:
    """One layer's step to fewer bits.

    Attributes:
        layer: dotted name.
        bits: what it then has.
        saved: bits of storage.
        harm: what the step adds to the network's predicted drift, 0 and up.
    """

    layer: str
    bits: int
    saved: int
    harm: float


def path(harm: Mapping[str, Mapping[int, float]], weights: Mapping[str, int]) -> list[Move]:
    """Return the steps from every layer at its most bits to every layer at its fewest, the cheapest first.

    Harms of layers are taken to add up. Then the assignments along the path are those that no other of the same size
    beats, by Everett's theorem on Lagrange multipliers (1963, doi 10.1287/opre.11.3.399), because the steps of each
    layer follow the lower convex hull of its harm over its size.

    Args:
        harm: layer -> width -> drift when the layer alone has this width. Made monotonic: fewer bits never count as
            better, which would only be the luck of the pictures.
        weights: layer -> number of its weights.
    """
    moves = []
    for layer, curve in harm.items():
        moves += _hull(layer, curve, weights[layer])
    # Stable, so that a layer's own steps, equal in price where the hull is straight, keep their order.
    return sorted(moves, key=lambda move: move.harm / move.saved)


def _hull(layer: str, curve: Mapping[int, float], weights: int) -> list[Move]:
    """Return one layer's steps along the lower convex hull of its harm over its size."""
    widths = sorted(curve, reverse=True)
    points: list[tuple[int, float]] = []
    worst = float("-inf")
    for width in widths:
        worst = max(worst, curve[width])
        # A point above the line from its neighbours is never worth a stop.
        while len(points) > 1 and _price(points[-1], (width, worst)) <= _price(points[-2], points[-1]):
            points.pop()
        points.append((width, worst))
    return [Move(layer, low[0], weights * (high[0] - low[0]), low[1] - high[1]) for high, low in pairwise(points)]


def _price(before: tuple[int, float], after: tuple[int, float]) -> float:
    """Return the harm of a step for each bit that it saves."""
    return (after[1] - before[1]) / (before[0] - after[0])


def after(start: Bits, moves: Sequence[Move]) -> Bits:
    """Return the bits when these moves were made."""
    return start | {move.layer: move.bits for move in moves}


def fitted(start: Bits, moves: Sequence[Move], size: Callable[[Bits], int], limit: int) -> Bits | None:
    """Return the bits at the first place of the path that is within a size, with what is left over spent.

    What is left over goes to the moves made last, undone where that still fits.

    Args:
        start: every layer at its most bits.
        moves: from ``path``.
        size: bytes of the whole model.
        limit: bytes that it may have.

    Returns:
        The bits, or None where even the end of the path is too large.
    """
    low, high = 0, len(moves)
    if size(after(start, moves)) > limit:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if size(after(start, moves[:middle])) <= limit else (middle + 1, high)
    bits = after(start, moves[:low])
    for place in range(low - 1, -1, -1):
        move = moves[place]
        if bits[move.layer] == move.bits:
            before = after(start, moves[:place])[move.layer]
            if size(bits | {move.layer: before}) <= limit:
                bits = bits | {move.layer: before}
    return bits
