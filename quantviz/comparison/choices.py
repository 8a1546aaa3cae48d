"""What a user wrote for a request's saliency and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantviz import scores
from quantviz.saliency import PREDICTORS
from quantviz.specs import UsageError


def metric_names(choice: str | Sequence[str] | None) -> list[str] | None:
    """Return the metrics that a user listed; None, which stands for all, for ``"all"`` and for nothing.

    Args:
        choice: names, or one text of names separated by commas.

    Raises:
        UsageError: a name is unknown.
    """
    if choice is None or choice == "all":
        return None
    names = [name.strip() for name in choice.split(",")] if isinstance(choice, str) else list(choice)
    for name in names:
        if name not in scores.METRICS:
            raise UsageError(f"Metric {name!r} is unknown; use all, or some of {', '.join(scores.METRICS)}.")
    return names


def saliency_choice(choice: str | Path | None) -> str | Path | None:
    """Return the ``saliency`` of a request: None for ``"none"``, a method's name, or the path of a network or a map."""
    if choice is None or choice == "none":
        return None
    return str(choice) if str(choice) in PREDICTORS else Path(choice)
