"""Which precision is safe on a set of pictures: label flips by their upper bound, and drift over the noise floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantviz import statistics
from quantviz.specs import Comparison, UsageError


@dataclass(frozen=True, slots=True)
class Precision:
    """What one precision does to a set of pictures.

    Attributes:
        label: short name of the bit-widths, ``"W8A8"``.
        n: pictures.
        flips: pictures whose top-1 class changed.
        flips_high: upper end of the 95 % confidence interval of the part that flips (Wilson score), [0, 1].
        drift: mean of 1 - CC over the pictures whose maps both carry evidence; None where there is none.
        multiple: the drift over the noise floor; None where one of them is unknown, or the floor is 0.
        unscored: pictures of which a map carries no evidence.
    """

    label: str
    n: int
    flips: int
    flips_high: float
    drift: float | None
    multiple: float | None
    unscored: int

    def within(self, most_flips: float, most_multiple: float) -> bool:
        """Return whether the precision is within both limits.

        Args:
            most_flips: greatest part of pictures that may flip, by the interval's upper end, [0, 1].
            most_multiple: greatest drift, in noise floors.
        """
        return self.flips_high <= most_flips and self.multiple is not None and self.multiple <= most_multiple


def precision_of(comparisons: Sequence[Comparison], floor: float | None) -> Precision:
    """Return what one precision does to a set of pictures.

    Args:
        comparisons: one of each picture, all of the same two networks; one at least.
        floor: mean drift of the float network's own maps under a change that nobody sees (``NoiseFloor.floor``).

    Raises:
        UsageError: there is no comparison.
    """
    if not comparisons:
        raise UsageError("There is no picture to judge a precision by; give one or more.")
    agreement = [comparison.scores["quantized_v_float"].cc for comparison in comparisons]
    drifts = [1 - cc for cc in agreement if cc is not None]
    flips, n = sum(comparison.flipped for comparison in comparisons), len(comparisons)
    drift = max(float(np.mean(drifts)), 0.0) if drifts else None
    return Precision(
        label=comparisons[0].quant.label,
        n=n,
        flips=flips,
        flips_high=float(statistics.wilson([flips], [n])[1][0]),
        drift=drift,
        multiple=None if drift is None or not floor else drift / floor,
        unscored=n - len(drifts),
    )


def smallest_within(
    precisions: Sequence[Precision], most_flips: float, most_multiple: float
) -> tuple[Precision | None, str]:
    """Return the smallest precision that is within the limits, as every greater one is, and a sentence that says so.

    Args:
        precisions: the greatest first.
        most_flips: as in ``Precision.within``.
        most_multiple: as in ``Precision.within``.
    """
    safe: Precision | None = None
    for precision in precisions:
        if not precision.within(most_flips, most_multiple):
            break
        safe = precision
    if safe is None:
        return None, f"None of {', '.join(one.label for one in precisions)} is within your limits on these pictures."
    return safe, f"{safe.label} is the smallest tested precision within your limits on these {safe.n} pictures."
