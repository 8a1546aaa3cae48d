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
from quantviz.layerwise.specs import Attribution
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

Agreement = Mapping[frozenset[str], npt.NDArray[np.float64]]
"""Switches that are on -> CC of quantized v float map of each image, NaN where a map carries no evidence."""

Tell = Callable[[float], None]

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
        progress: told what is being done; whatever it raises ends the call.

    Raises:
        UsageError: no picture; class rule own; a scheme that the paper's protocol does not define; or as
            ``Workbench.compare``.
        QuantvizError: under some subset no image's maps carry evidence.
    """
    plan = _plan(bench, request, samples, progress)
    means, unscored = _means(plan, _agreements(plan, progress))
    return Attribution(
        model=plan.subject.spec.name,
        weights=plan.subject.ref,
        quant=plan.quant(()),
        cam=replace(request.cam, layer=plan.subject.layer),
        images=tuple((sample.id, sample.name) for sample in samples),
        calibrated=means[frozenset()],
        paper=means[frozenset(DEVIATIONS)],
        share={name: shapley(means, name) for name in DEVIATIONS},
        alone={name: means[frozenset([name])] for name in DEVIATIONS},
        subsets={_name(names): mean for names, mean in means.items()},
        unscored=unscored,
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


def rounded_shares(found: Attribution, digits: int) -> dict[str, float]:
    """Return the shares with so many digits that the rounded calibrated CC and they add up to the rounded paper's.

    Each is rounded down, and the units that are missing go to those that lost most.
    """
    unit = 10**digits
    exact = {name: share * unit for name, share in found.share.items()}
    whole = {name: floor(share) for name, share in exact.items()}
    missing = round(found.paper * unit) - round(found.calibrated * unit) - sum(whole.values())
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
    found: dict[frozenset[str], npt.NDArray[np.float64]] = {}
    passes = _subsets(_RUN)
    for done, names in enumerate(passes):
        by_asked = _pass(plan, names, partial(_tell, progress, done / len(passes), 1 / len(passes)))
        found |= {names | asked: values for asked, values in by_asked.items()}
    return {names: found[names] for names in _subsets(tuple(DEVIATIONS))}


def _tell(progress: Progress, start: float, part: float, fraction: float) -> None:
    progress(_MESSAGE, start + part * fraction, Phase.EXPLAINING)


def _pass(plan: _Plan, names: frozenset[str], tell: Tell) -> dict[frozenset[str], npt.NDArray[np.float64]]:
    """Return the CC of each image under ``names`` and each subset of ``_ASKED``, from the store if it is there."""
    quant, asked = plan.quant(names), _subsets(_ASKED)
    tell(0.0)
    key = plan.key(quant)
    record = plan.bench.store.get(key)
    if record is None:
        columns = []
        steps = sequence(plan.bench, replace(plan.request, quant=quant), plan.samples)
        for place, (sample, step) in enumerate(zip(plan.samples, steps, strict=True)):
            columns.append([_agreement(step, plan.quant(names | more), sample) for more in asked])
            tell((place + 1) / len(plan.samples))
        record = StoredRecord({"cc": np.array(columns, np.float64).T}, {})
        plan.bench.store.put(key, record)
    return {more: np.asarray(row) for more, row in zip(asked, record.arrays["cc"], strict=True)}


def _agreement(step: Step, quant: QuantSpec, sample: ImageSample) -> float:
    """Return the CC of the two maps at the input's resolution, as a comparison has it; NaN where it has none."""
    pair = step.own if "own_class" in quant.deviations else step.fixed
    height, width = sample.rgb.shape[:2]
    first, second = (finished(result, quant, (height, width)).heatmap.values for result in pair)
    found = scores.compare(second, first).cc
    return float("nan") if found is None else found


def _name(names: frozenset[str]) -> str:
    return "+".join(name for name in DEVIATIONS if name in names)


def _subsets(names: tuple[str, ...]) -> list[frozenset[str]]:
    """Return every subset, the empty one first."""
    return [frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]
