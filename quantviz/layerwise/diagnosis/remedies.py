"""Try a remedy on our own simulation, and show what it does on pictures that it was not chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.diagnosis.causes import REMEDIES
from quantviz.layerwise.diagnosis.run import diagnose
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures
from quantviz.layerwise.drift import Changes, Drifts, decides, resolved, subject_cost
from quantviz.layerwise.specs import Drift
from quantviz.specs import ImageSample, LayerBits, Progress, QuantSpec, UsageError, no_progress
from quantviz.statistics import Interval, paired

MARGIN = 0.01
"""Largest mean difference of drift that does not matter."""
FULL_BITS = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """A quantized network before or after a remedy.

    Attributes:
        sqnr_isolated: of the tensor, in dB, on the pictures that were diagnosed on; None where nothing is rounded.
        drift: of maps and logits, on the held-out pictures.
        bytes: size of the stored network.
    """

    sqnr_isolated: float | None
    drift: Drift
    bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What a remedy does.

    Attributes:
        tensor: that it was tried for.
        remedy: of ``causes.REMEDIES``.
        quant: the quantization with the remedy; None of a file, whose graph was edited.
        before: without it.
        after: with it.
        difference: mean of each held-out picture's drift after less before; None where no picture has both.
        interval: 95 % confidence interval of it (BCa bootstrap); None where there are too few pictures.
        held_out: number of pictures measured, none of which the remedy was chosen on.
    """

    tensor: str
    remedy: str
    quant: QuantSpec | None
    before: Measured
    after: Measured
    difference: float | None
    interval: Interval | None
    held_out: int


def remedied(quant: QuantSpec, remedy: str, layer: str) -> QuantSpec:
    """Return a quantization with a remedy for one layer.

    Args:
        quant: as it is.
        remedy: of ``causes.REMEDIES``.
        layer: dotted name of the layer whose weight or input is harmed.

    Raises:
        UsageError: the remedy is none that can be tried on a network that quantviz rounds, or it changes nothing.
    """
    changes = {
        "equalize": {"equalize": True},
        "per_channel": {"granularity": "per_channel"},
        "recalibrate": {"ranges": "mse"},
        "percentile": {"ranges": "percentile"},
        "full_range": {"ranges": "minmax"},
        "affine": {"act_scheme": "affine"},
    }
    others = tuple(bits for bits in quant.layer_bits if bits.name != layer)
    weight, act = quant.bits_of(layer)
    bits = {
        "exclude": (None, None),
        "more_bits": (max(weight or 0, FULL_BITS), None if quant.act_bits is None else max(act or 0, FULL_BITS)),
        "quantize": (quant.weight_bits, quant.act_bits),
    }
    if remedy in changes:
        changed = replace(quant, **changes[remedy])  # type: ignore[arg-type]
    elif remedy in bits:
        changed = replace(quant, layer_bits=(*others, LayerBits(layer, *bits[remedy])))
    else:
        known = ", ".join([*changes, *bits])
        what = REMEDIES.get(remedy, "")
        advice = f"it takes another file ({what})" if what else "it is unknown"
        raise UsageError(f"Remedy {remedy!r} cannot be tried on a network that quantviz rounds: {advice}; use {known}.")
    if changed == quant:
        raise UsageError(f"Remedy {remedy!r} changes nothing for {layer}: the network is so already.")
    return changed


def try_remedy(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    tensor: str | None = None,
    remedy: str | None = None,
    progress: Progress = no_progress,
) -> tuple[Diagnosis, Trial]:
    """Diagnose on every other picture, try a remedy, and measure it on the pictures between.

    Args:
        bench: with the models and the store.
        request: model, weights, quantization and calibration pictures.
        samples: at least two pictures.
        tensor: that is to be mended; None for the one of the most severe cause, else the worst one.
        remedy: of ``causes.REMEDIES``; None for the cause's, else to leave the layer in float.
        progress: reports what is being done.

    Returns:
        The diagnosis before, and the trial.

    Raises:
        UsageError: fewer than two pictures, an unknown tensor, or as ``remedied``; or as ``diagnose``.
    """
    if len(samples) < 2:
        raise UsageError("A remedy is tried on pictures that it was not chosen on; name two pictures or more.")
    chosen, held_out = samples[::2], samples[1::2]
    found = diagnose(bench, request, chosen, progress)
    entry, remedy = _chosen(found, tensor, remedy)
    quant = remedied(request.quant, remedy, entry.site.layer)
    after = replace(request, quant=quant)
    mended = diagnose(bench, after, chosen, progress)
    twin = next((other for other in mended.tensors if other.name == entry.name), None)
    rows = [_changes(bench, one, held_out, progress) for one in (request, after)]
    drifts = [changes.drift(_labels(bench, request, held_out, progress)) for changes in rows]
    subject, _ = resolved(bench, request, progress)
    sizes = [subject_cost(bench, subject, one, progress).bytes for one in (request.quant, quant)]
    ratios = [entry.sqnr_isolated, None if twin is None else twin.sqnr_isolated]
    before, later = (Measured(*row) for row in zip(ratios, drifts, sizes, strict=True))
    difference = paired(rows[1].cams, rows[0].cams, margin=MARGIN)
    trial = Trial(entry.name, remedy, quant, before, later, difference.mean, difference.interval, len(held_out))
    return found, trial


def _chosen(found: Diagnosis, tensor: str | None, remedy: str | None) -> tuple[TensorFigures, str]:
    """Return the tensor to mend, and by what."""
    name = tensor or found.ranking[0]
    entry = next((entry for entry in found.tensors if entry.name == name), None)
    if entry is None:
        raise UsageError(f"There is no tensor {name!r}; `quantviz diagnose --csv` lists them, {found.ranking[0]} say.")
    cause = next((cause for cause in found.causes if cause.tensor == name), None)
    return entry, remedy or (cause.remedy if cause is not None else "exclude")


def _changes(bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress) -> Changes:
    subject, cam = resolved(bench, request, progress)
    drifts = Drifts(bench, subject, cam, samples)
    quant = request.quant
    network = partial(bench.networks.quantized, subject, quant, progress)
    return drifts.changes(network, decides(subject, quant, quant), progress)


def _labels(
    bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress
) -> tuple[int | None, ...]:
    subject, cam = resolved(bench, request, progress)
    return Drifts(bench, subject, cam, samples).labels


def holds(trial: Trial) -> bool | None:
    """Tell whether a remedy lowers drift by its interval; None where there is none."""
    return None if trial.interval is None else bool(np.isfinite(trial.interval.high) and trial.interval.high < 0)
