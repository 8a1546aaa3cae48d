"""Whether a quantized network looks where its float one does: decided from the map drift over the noise floor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LIMITS: Final = (3.0, 10.0, 30.0)
"""Greatest multiples of the noise floor of drifts that are called the same, nearly the same, and partly elsewhere.

Chosen by what happens to labels: docs name the part of them that flips below, between and beyond these.
"""

LEAST_FLOOR: Final = 0.0015
"""Noise floor that is taken for a lower one, so that a drift too small to see is no multiple of next to nothing.

One in six of the pictures that were measured has a lower one.
"""

TYPICAL_FLOOR: Final = 0.0035
"""Noise floor that is taken where none was measured."""

UNSTABLE_FLOOR: Final = 0.05
"""Noise floor above which a picture is unstable: its float map moves that much with no quantization at all."""

LOST: Final = 0.5
"""Drift above which the quantized network looks elsewhere, whatever the floor: a CC below one half."""


class Attention(StrEnum):
    """Where a quantized network looks, beside the float one; the values stand in JSON and do not change."""

    SAME = "same"
    NEARLY = "nearly_same"
    PARTLY = "partly_elsewhere"
    ELSEWHERE = "elsewhere"
    UNSTABLE = "unstable"
    UNKNOWN = "unknown"


_IN_ORDER: Final = (Attention.SAME, Attention.NEARLY, Attention.PARTLY, Attention.ELSEWHERE)
_WORDS: Final = {
    Attention.SAME: "at the same places",
    Attention.NEARLY: "at nearly the same places",
    Attention.PARTLY: "partly elsewhere",
    Attention.ELSEWHERE: "elsewhere",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a quantized network's map of a picture stands to the float network's.

    Attributes:
        drift: 1 - CC of the two maps, 0 to 2; None where one of them carries no evidence.
        floor: drift of the float network's own map under a change that nobody sees; None where it was not measured.
    """

    drift: float | None
    floor: float | None = None

    @classmethod
    def of(cls, cc: float | None, floor: float | None = None) -> Verdict:
        """Return the verdict on two maps of correlation ``cc``, or None where they have none."""
        return cls(None if cc is None else max(1 - cc, 0.0), floor)

    @property
    def ratio(self) -> float | None:
        """The drift in noise floors, of ``LEAST_FLOOR`` at least; None where drift or floor is not known."""
        return None if self.drift is None or self.floor is None else self.drift / max(self.floor, LEAST_FLOOR)

    @property
    def attention(self) -> Attention:
        """The verdict itself.

        ``ratio`` is called by ``LIMITS``, and a drift above ``LOST`` elsewhere. A picture whose floor is above
        ``UNSTABLE_FLOOR`` is unstable at any lower drift. ``TYPICAL_FLOOR`` stands in where no floor was measured.
        """
        if self.drift is None:
            return Attention.UNKNOWN
        if self.drift > LOST:
            return Attention.ELSEWHERE
        if self.floor is not None and self.floor > UNSTABLE_FLOOR:
            return Attention.UNSTABLE
        floors = self.drift / TYPICAL_FLOOR if self.ratio is None else self.ratio
        return _IN_ORDER[sum(floors > most for most in LIMITS)]

    @property
    def words(self) -> str:
        """What completes "the network ...": "looks at the same places", say."""
        attention = self.attention
        if attention is Attention.UNKNOWN:
            return "cannot be compared: a map carries no evidence"
        if attention is Attention.UNSTABLE:
            return "cannot be judged: the picture is unstable"
        return f"looks {_WORDS[attention]}"

    @property
    def numbers(self) -> str:
        """What the verdict was decided from: "CC 0.997, 1.4 × the noise floor", say; "" where there is no CC."""
        if self.drift is None:
            return ""
        cc = f"CC {1 - self.drift:.3f}".replace("-", "−")
        if self.attention is Attention.UNSTABLE:
            return f"{cc}, noise floor {self.floor:.3f}"
        return cc if self.ratio is None else f"{cc}, {multiple(self.ratio)} the noise floor"

    @property
    def sentence(self) -> str:
        """The words with the numbers in parentheses, and a full stop."""
        return f"{self.words} ({self.numbers})." if self.numbers else f"{self.words}."


def multiple(ratio: float) -> str:
    """Return a multiple of the noise floor in words: "5.1 ×", "1,200 ×"."""
    return f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.1f} ×"
