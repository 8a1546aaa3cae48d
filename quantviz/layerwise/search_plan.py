"""What a search over layers' bits is asked for, by what key the store keeps it, and its result from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.drift import Drifts, decides, resolved
from quantviz.layerwise.specs import Candidate, Drift, SearchResult
from quantviz.specs import MAX_BITS, MIN_BITS, Cost, ImageSample, LayerBits, Progress, UsageError

_VERSION = 2
"""Raised whenever a change of the code changes what a search finds, so that older results are not read."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a search may not exceed, and the weight bits that it chooses from; as in ``search``."""

    max_drift: float
    max_flips: float | None
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < self.max_drift < float("inf"):
            raise UsageError(f"A greatest drift of {self.max_drift!r} is no number above 0; give 0.01, say.")
        if self.max_flips is not None and not 0 <= self.max_flips <= 1:
            raise UsageError(f"A greatest part of flips of {self.max_flips!r} is not from 0 to 1; give 0.05, say.")
        for width in self.widths:
            if type(width) is not int or not MIN_BITS <= width <= MAX_BITS:
                raise UsageError(f"Width {width!r} is not a whole number from {MIN_BITS} to {MAX_BITS}.")
        if len(set(self.widths)) < 2:
            raise UsageError("Fewer than two widths leave nothing to search; give 2,3,4,5,6,8, say.")

    def allow(self, drift: Drift) -> bool:
        """Return whether a drift is within the budgets."""
        if drift.cam is None or drift.cam > self.max_drift:
            return False
        return self.max_flips is None or drift.flips <= self.max_flips


@dataclass(frozen=True, slots=True, eq=False)
class SearchPlan:
    """A search, with everything resolved that decides its result.

    Attributes:
        request: with the scheme that all candidates share.
        searched: measures on the searched pictures.
        held_out: measures on the others, or None where there are none.
        budgets: of the candidates.
    """

    request: CompareRequest
    searched: Drifts
    held_out: Drifts | None
    budgets: Budgets

    @classmethod
    def of(
        cls,
        bench: Workbench,
        request: CompareRequest,
        samples: Sequence[ImageSample],
        budgets: Budgets,
        progress: Progress,
    ) -> SearchPlan:
        """Resolve a search; the scheme's weights are rounded to nearest."""
        request = replace(request, quant=replace(request.quant, rounding="nearest", bias_correction=False))
        subject, cam = resolved(bench, request, progress)
        searched = Drifts(bench, subject, cam, samples[::2])
        held_out = Drifts(bench, subject, cam, samples[1::2]) if len(samples) > 1 else None
        return cls(request, searched, held_out, budgets)

    @property
    def key(self) -> str:
        """The store's key of the whole search."""
        held_out, budgets = self.held_out, self.budgets
        unseen = None if held_out is None else [[sample.id for sample in held_out.samples], held_out.labels]
        limits = {"max_drift": budgets.max_drift, "max_flips": budgets.max_flips, "widths": sorted(set(budgets.widths))}
        rest = {"searched labels": self.searched.labels, "held out": unseen, "search": _VERSION}
        return self.searched.key("search", **decides(self.searched.subject, self.request.quant), **limits, **rest)


def result_of(plan: SearchPlan, entry: Mapping[str, Any]) -> SearchResult:
    """Return the result from the store's metadata."""
    subject, held_out = plan.searched.subject, plan.held_out
    return SearchResult(
        model=subject.spec.name,
        weights=subject.ref,
        quant=plan.request.quant,
        calibration=subject.calibration.ref,
        cam=plan.searched.cam,
        max_drift=plan.budgets.max_drift,
        max_flips=plan.budgets.max_flips,
        searched=plan.searched.images,
        held_out=held_out.images if held_out else (),
        found=None if entry["found"] is None else _candidate(entry["found"]),
        front=tuple(_candidate(each) for each in entry["front"]),
        uniform=tuple(_candidate(each) for each in entry["uniform"]),
        float_accuracy=entry["float_accuracy"],
    )


def _candidate(entry: Mapping[str, Any]) -> Candidate:
    """Return a candidate from the store's metadata."""

    def drift(drift_entry: Mapping[str, Any] | None) -> Drift | None:
        return None if drift_entry is None else Drift(**{**drift_entry, "cams": tuple(drift_entry["cams"])})

    searched = drift(entry["searched"])
    assert searched is not None
    return Candidate(
        name=entry["name"],
        bits=tuple(LayerBits(**bits) for bits in entry["bits"]),
        cost=Cost(**entry["cost"]),
        searched=searched,
        held_out=drift(entry["held_out"]),
    )
