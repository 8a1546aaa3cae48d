"""What a listing of a library's models says of each. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from quantviz.specs import UsageError


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that can be given for a model.

    Attributes:
        name: what users type.
        family: as in ``ModelSpec``.
        parameters: number of parameters, or None where that would take making the network.
        weights: names of the published weights, the default first.
    """

    name: str
    family: str
    parameters: int | None
    weights: tuple[str, ...]


def unknown(name: str, library: str, names: Sequence[str]) -> UsageError:
    """Return the error for a name that a library does not know, with near ones."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"near names: {', '.join(near)}; " if near else ""
    return UsageError(f"Model {name!r} is not in {library}; {hint}`quantviz models '{library}:*'` lists all.")
