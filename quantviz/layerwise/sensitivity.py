"""What each layer's quantization does to the maps: one layer at a time, and all but one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.drift import Drifts, decides, layers_of, resolved, subject_cost, switchboard
from quantviz.layerwise.noise import noise_floor
from quantviz.layerwise.specs import Drift, LayerDrift, Sensitivity
from quantviz.specs import ImageSample, LayerBits, LayerCost, Phase, Progress, QuantSpec, UsageError, no_progress


def sensitivity(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
) -> Sensitivity:
    """Measure the drift of each layer's rounding, of weight and input: alone, and of all layers but it.

    Both maps explain the float network's top-1 class, whatever ``request.target`` says. Where rounding is learned or
    biases are corrected, a layer has the weight and bias that were learned for the whole network.

    Each network's drift is kept in the store, so that an interrupted call goes on where it ended.

    Args:
        bench: with the models and the store.
        request: model, weights, map, quantization and calibration pictures.
        samples: the pictures, at least one.
        progress: told what is being done and the part done; whatever it raises ends the call.

    Raises:
        UsageError: there is no picture, or the protocol is not the calibrated one; or as ``Workbench.compare``.
    """
    subject, cam = resolved(bench, request, progress)
    quant = request.quant
    drifts = Drifts(bench, subject, cam, samples)
    costs, _ = layers_of(bench, subject, quant, progress)
    # Calibrating twins of a network whose weights are learned would take learning them twice more.
    floor = noise_floor(bench, request, samples, progress, calibration=not quant.learns)
    network, layers = _measured(drifts, quant, costs, progress)
    return Sensitivity(
        model=subject.spec.name,
        weights=subject.ref,
        quant=quant,
        calibration=subject.calibration.ref,
        cam=cam,
        images=drifts.images,
        layers=layers,
        network=network,
        floor=floor,
        cost=subject_cost(bench, subject, quant, progress),
        labelled=sum(label is not None for label in drifts.labels),
    )


def _measured(
    drifts: Drifts, quant: QuantSpec, costs: Sequence[LayerCost], progress: Progress
) -> tuple[Drift, tuple[LayerDrift, ...]]:
    """Return the drift of the whole network and each layer's."""
    names = [layer.name for layer in costs]
    board = cache(lambda: switchboard(drifts.bench, drifts.subject, quant, progress))
    total = 2 * len(costs) + 1

    def measure(spec: QuantSpec, what: str, done: int) -> Drift:
        tell = step(progress, what, done, total)
        marks = drifts.marks(lambda: board().set(spec), decides(drifts.subject, spec, quant), tell)
        return marks.drift(drifts.labels)

    network = measure(quant, "Every layer", 0)
    layers = []
    for depth, layer in enumerate(costs):
        alone = measure(_only(quant, names, {layer.name}), f"{layer.name} alone", 2 * depth + 1)
        all_but = measure(_only(quant, names, {*names} - {layer.name}), f"All but {layer.name}", 2 * depth + 2)
        layers.append(LayerDrift(layer, depth, alone, all_but))
    return network, tuple(layers)


def only_layer(found: Sensitivity, name: str) -> QuantSpec:
    """Return the quantization of one layer alone, every other one in float.

    Raises:
        UsageError: there is no such layer.
    """
    names = [layer.cost.name for layer in found.layers]
    if name not in names:
        raise UsageError(f"Layer {name!r} is none that is quantized{near(name, names)}.")
    return _only(found.quant, names, {name})


def near(name: str, names: Iterable[str]) -> str:
    """Return what ends a sentence about an unknown name: the names that are like it, if any."""
    found = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; near it: {', '.join(found)}" if found else ""


def step(progress: Progress, what: str, done: int, total: int) -> Progress:
    """Return the progress of one part of a longer work."""

    def report(_message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        progress(what, (done + (fraction or 0.0)) / total, phase)

    return report


def _only(quant: QuantSpec, names: Iterable[str], kept: set[str]) -> QuantSpec:
    """Return ``quant`` with the bits of every layer told, those that are not kept in float."""
    bits = [LayerBits(name, *(quant.bits_of(name) if name in kept else (None, None))) for name in names]
    return replace(quant, layer_bits=tuple(bits))
