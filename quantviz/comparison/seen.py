"""Which part of a picture the networks of a comparison saw, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quantviz import images
from quantviz.specs import ImageSample, Preprocessing

LITTLE: Final = 0.5
"""Part of a picture below which most of it is lost."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the networks see of a picture.

    Attributes:
        box: left, top, width and height of what is seen, in parts of the picture; beyond 0 and 1 where it is padded.
        part: the part of the picture's area that is seen, in [0, 1].
        empty: the part of the networks' input that shows no picture, in [0, 1].
        stretched: the whole picture is squeezed into the input's shape.
    """

    box: tuple[float, float, float, float]
    part: float
    empty: float
    stretched: bool

    @classmethod
    def of(cls, sample: ImageSample, preprocessing: Preprocessing) -> Seen:
        """Return what is seen of a picture that becomes the input by a preprocessing."""
        left, top, width, height = images.seen(sample.rgb.shape[:2], preprocessing)
        across, down = (max(min(start + span, 1) - max(start, 0), 0) for start, span in ((left, width), (top, height)))
        part, whole = across * down, width * height
        return cls((left, top, width, height), part, max(1 - part / whole, 0), preprocessing.fit == "stretch")

    @property
    def little(self) -> bool:
        """Whether most of the picture is lost."""
        return self.part < LITTLE

    @property
    def sentence(self) -> str:
        """What is seen, for a reader."""
        if self.stretched:
            return "The networks see the whole photograph, squeezed into a square."
        if self.part > 1 - 1e-6 and self.empty > 1e-6:
            return f"The networks see the whole photograph; {self.empty:.0%} of their input is empty."
        words = f"The networks see {self.part:.0%} of the photograph"
        return f"{words}: most of it is lost." if self.little else f"{words}."
