"""Which of the published code's steps makes how much of the drift: exact Shapley values over its seven switches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations
from math import factorial, floor, fsum

import numpy as np
import numpy.typing as npt

from quantviz import scores
from quantviz.comparison.loaded import Subject
from quantviz.comparison.protocols import finished, network_quant, subject_of, with_deviations
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.sequence import Step, sequence
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.intervals import Agreement, mean_intervals, share_intervals
from quantviz.layerwise.specs import Attribution, CommonShares
from quantviz.specs import (
    CALIBRATED,
    DEVIATIONS,
    ImageSample,
    Phase,
    Progress,
    QuantSpec,
    QuantvizError,
    StoredRecord,
    UsageError,
    no_progress,
)

_VERSION = 1
_MESSAGE = "Measuring the protocol's switches"
# What changes neither network nor input: one pass over the images gives the maps with and without them.
_ASKED = ("own_class", "eight_bit_maps")
_RUN = tuple(name for name in DEVIATIONS if name not in _ASKED)


@dataclass(frozen=True, slots=True)
class _Plan:
    bench: Workbench
    request: CompareRequest
    subject: Subject
    samples: tuple[ImageSample, ...]

    def quant(self, names: Iterable[str]) -> QuantSpec:
        return with_deviations(self.request.quant, frozenset(names))

    def key(self, quant: QuantSpec) -> str:
        """Return the store's key of one pass over the images."""
        return subject_of(self.subject, quant).key(
            "protocol pass",
            version=_VERSION,
            quantization=network_quant(quant),
            cam=replace(self.request.cam, layer=self.subject.layer),
            target=self.request.target,
            calibration=self.subject.calibration.ref.sha256,
            images=[sample.id for sample in self.samples],
        )


def attribution(
    bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress = no_progress
) -> Attribution:
    """Share the gap between the calibrated and the paper's protocol among the paper's seven deviations.

    With v(S) the mean CC under the switches S, the share of switch i is its Shapley value (Shapley 1953, A value for
    n-person games): sum over S without i of |S|! (6 - |S|)! / 7! * (v(S + i) - v(S)). All 128 subsets are measured, by
    32 passes over the images in their order; each pass is kept in the store, so that a call that was ended goes
    on where it was. A pair of which a map carries no evidence has no CC; v(S) is the mean over the other images, as
    anyone would measure it who knew S alone.

    Args:
        bench: with the models and the store.
        request: the model, bit-widths and maps; its own protocol is not regarded.
        samples: the pictures, in the order in which observers see them.
        progress: reports what is being done; whatever it raises ends the call.

    Raises:
        UsageError: no picture; class rule own; a scheme that the paper's protocol does not define; or as
            ``Workbench.compare``.
        QuantvizError: under some subset no image's maps carry evidence.
    """
    plan = _plan(bench, request, samples, progress)
    return _attribution(plan, _agreements(plan, progress))


def stored_attribution(
    bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress = no_progress
) -> Attribution | None:
    """Return what ``attribution`` would read from the store alone, or None where a pass is missing.

    No network is run; to know which weights are meant, published ones may be downloaded and untrained ones drawn.

    Args:
        bench: with the store.
        request: as in ``attribution``.
        samples: the pictures.
        progress: reports a download; whatever it raises ends the call.

    Raises:
        as ``attribution``.
    """
    plan = _plan(bench, request, samples, progress)
    agreement: dict[frozenset[str], npt.NDArray[np.float64]] = {}
    for names in _subsets(_RUN):
        of_pass = _stored_pass(plan, names)
        if of_pass is None:
            return None
        agreement |= of_pass
    return _attribution(plan, _ordered(agreement))


def _attribution(plan: _Plan, agreement: Agreement) -> Attribution:
    means, unscored = _means(plan, agreement)
    return Attribution(
        model=plan.subject.spec.name,
        weights=plan.subject.ref,
        quant=plan.quant(()),
        cam=replace(plan.request.cam, layer=plan.subject.layer),
        images=tuple((sample.id, sample.name) for sample in plan.samples),
        calibrated=means[frozenset()],
        paper=means[frozenset(DEVIATIONS)],
        share={name: shapley(means, name) for name in DEVIATIONS},
        alone={name: means[frozenset([name])] for name in DEVIATIONS},
        subsets={_name(names): mean for names, mean in means.items()},
        unscored=unscored,
        intervals=share_intervals(agreement),
        mean_intervals={_name(names): ends for names, ends in mean_intervals(agreement).items()},
        common=common_shares(agreement),
    )


def common_shares(agreement: Agreement) -> CommonShares | None:
    """Return the shares over those pictures alone that every subset scores, so that no share holds any selection.

    Args:
        agreement: every subset of the switches -> CC of each picture, NaN where it has none.

    Returns:
        The shares with their intervals; None where no picture is left.
    """
    known = ~np.isnan(np.array(list(agreement.values()))).any(axis=0)
    if not known.any():
        return None
    kept = {names: values[known] for names, values in agreement.items()}
    means = {names: fsum(values) / len(values) for names, values in kept.items()}
    return CommonShares(
        images=int(known.sum()),
        calibrated=means[frozenset()],
        paper=means[max(means, key=len)],
        share={name: shapley(means, name) for name in sorted(frozenset(chain.from_iterable(means)))},
        intervals=share_intervals(kept),
    )


def _means(plan: _Plan, agreement: Agreement) -> tuple[dict[frozenset[str], float], dict[str, tuple[str, ...]]]:
    """Return each subset's mean CC, and the names of the pictures that it leaves out, where it leaves out any."""
    means, unscored = {}, {}
    for names, values in agreement.items():
        scored = values[~np.isnan(values)]
        if not len(scored):
            raise QuantvizError(
                f"None of {len(plan.samples)} images has maps with evidence under {plan.quant(names).protocol}; "
                "use more images, more bits or trained weights."
            )
        means[names] = fsum(scored) / len(scored)
        if len(scored) < len(values):
            left_out = np.flatnonzero(np.isnan(values)).tolist()
            unscored[_name(names)] = tuple(plan.samples[place].name for place in left_out)
    return means, unscored


def shapley(means: Mapping[frozenset[str], float], name: str) -> float:
    """Return one switch's Shapley value.

    Args:
        means: every subset of the switches -> its value.
        name: the switch.
    """
    switches = frozenset(chain.from_iterable(means))
    count = len(switches)
    terms = []
    for size in range(count):
        weight = factorial(size) * factorial(count - size - 1) / factorial(count)
        for others in combinations(sorted(switches - {name}), size):
            without = frozenset(others)
            terms.append(weight * (means[without | {name}] - means[without]))
    return fsum(terms)


def rounded_shares(attribution: Attribution, digits: int) -> dict[str, float]:
    """Return the shares with so many digits that the rounded calibrated CC and they add up to the rounded paper's.

    Each is rounded down, and the units that are missing go to those that lost most.
    """
    unit = 10**digits
    exact = {name: share * unit for name, share in attribution.share.items()}
    whole = {name: floor(share) for name, share in exact.items()}
    missing = round(attribution.paper * unit) - round(attribution.calibrated * unit) - sum(whole.values())
    by_loss = sorted(exact, key=lambda name: whole[name] - exact[name])
    for place in range(abs(missing)):
        whole[by_loss[place % len(by_loss)]] += 1 if missing > 0 else -1
    return {name: count / unit for name, count in whole.items()}


def _plan(bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress) -> _Plan:
    if not samples:
        raise UsageError("There is no picture; name a folder or a picture.")
    if request.target == "own":
        raise UsageError("Class rule 'own' is one of the switches that are measured; use float or a class index.")
    request = replace(request, quant=replace(request.quant, protocol=CALIBRATED), saliency=None)
    plan = _Plan(bench, request, bench.subject(request, progress), tuple(samples))
    for names in _subsets(_RUN):  # refused before anything is computed, not half way
        network_quant(plan.quant(names))
    return plan


def _agreements(plan: _Plan, progress: Progress) -> Agreement:
    agreement: dict[frozenset[str], npt.NDArray[np.float64]] = {}
    passes = _subsets(_RUN)
    for done, names in enumerate(passes):
        agreement |= _pass(plan, names, partial(_report, progress, done / len(passes), 1 / len(passes)))
    return _ordered(agreement)


def _ordered(agreement: Agreement) -> Agreement:
    """Return the agreement with the subsets in their order, the empty one first."""
    return {names: agreement[names] for names in _subsets(tuple(DEVIATIONS))}


def _report(progress: Progress, start: float, part: float, fraction: float) -> None:
    progress(_MESSAGE, start + part * fraction, Phase.EXPLAINING)


def _pass(
    plan: _Plan, names: frozenset[str], report: Callable[[float], None]
) -> dict[frozenset[str], npt.NDArray[np.float64]]:
    """Return the CC of each image under ``names`` with each subset of ``_ASKED``, from the store if it is there."""
    report(0.0)
    stored = _stored_pass(plan, names)
    if stored is not None:
        return stored
    quant, columns = plan.quant(names), []
    steps = sequence(plan.bench, replace(plan.request, quant=quant), plan.samples)
    for place, (sample, step) in enumerate(zip(plan.samples, steps, strict=True)):
        columns.append([_agreement(step, plan.quant(names | more), sample) for more in _subsets(_ASKED)])
        report((place + 1) / len(plan.samples))
    rows = np.array(columns, np.float64).T
    plan.bench.store.put(plan.key(quant), StoredRecord({"cc": rows}, {}))
    return _by_subset(names, rows)


def _stored_pass(plan: _Plan, names: frozenset[str]) -> dict[frozenset[str], npt.NDArray[np.float64]] | None:
    """Return what ``_pass`` would read from the store, or None."""
    record = plan.bench.store.get(plan.key(plan.quant(names)))
    return None if record is None else _by_subset(names, record.arrays["cc"])


def _by_subset(names: frozenset[str], rows: npt.NDArray[np.float64]) -> dict[frozenset[str], npt.NDArray[np.float64]]:
    """Return the rows of a pass by the switches that are on."""
    return {names | asked: np.asarray(row) for asked, row in zip(_subsets(_ASKED), rows, strict=True)}


def _agreement(step: Step, quant: QuantSpec, sample: ImageSample) -> float:
    """Return the CC of the two maps at the input's resolution, as a comparison has it; NaN where it has none."""
    pair = step.own if "own_class" in quant.deviations else step.fixed
    height, width = sample.rgb.shape[:2]
    first, second = (finished(result, quant, (height, width)).heatmap.values for result in pair)
    cc = scores.compare(second, first).cc
    return float("nan") if cc is None else cc


def _name(names: frozenset[str]) -> str:
    return "+".join(name for name in DEVIATIONS if name in names)


def _subsets(names: tuple[str, ...]) -> list[frozenset[str]]:
    """Return every subset, the empty one first."""
    return [frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]
