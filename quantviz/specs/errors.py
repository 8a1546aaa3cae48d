"""The error tree.

Example of a message: what was wrong, with the value; what to do next.
"""

from __future__ import annotations

from quantviz.specs.text import brief


class QuantvizError(Exception):
    """Whatever quantviz refuses or cannot do, told in one sentence.

    Args:
        message: the sentence; what it quotes is cut to a length that can be read.
    """

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(brief(str(message)))


class UsageError(QuantvizError):
    """The request is wrong: a value out of range, an unknown name."""

    exit_status = 2


class ImageError(UsageError):
    """A picture or map file cannot be used."""


class CheckpointError(UsageError):
    """A weights file cannot be used with the model."""


class WeightsUnavailable(QuantvizError):
    """Weights are neither on disk nor reachable."""


class StoreError(QuantvizError):
    """The cache on disk cannot be used."""
