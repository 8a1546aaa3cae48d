"""The studies that quantviz comes with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parents[1] / "studies"
"""Folder of the studies and attributions that come with quantviz."""


def shipped_studies() -> dict[str, Path]:
    """Return name -> folder of the studies that quantviz comes with."""
    return {plan.parent.name: plan.parent for plan in sorted(SHIPPED.glob("*/plan.json"))}
