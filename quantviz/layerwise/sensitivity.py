"""What each layer's quantization does to the maps: one layer at a time, and all but one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.drift import (
    DRIFT,
    Changes,
    Drifts,
    decides,
    layers_of,
    resolved,
    stored_cost,
    stored_layers,
    subject_cost,
    switchboard,
)
from quantviz.layerwise.noise import noise_floor, stored_noise_floor
from quantviz.layerwise.specs import LayerDrift, NoiseFloor, Sensitivity
from quantviz.specs import Cost, ImageSample, LayerBits, LayerCost, Phase, Progress, QuantSpec, UsageError, no_progress

if TYPE_CHECKING:
    from torch import nn


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
        progress: reports what is being done and the part done; whatever it raises ends the call.

    Raises:
        UsageError: there is no picture, or the protocol is not the calibrated one; or as ``Workbench.compare``.
    """
    subject, cam = resolved(bench, request, progress)
    quant = request.quant
    drifts = Drifts(bench, subject, cam, samples)
    costs, _ = layers_of(bench, subject, quant, progress)
    # Calibrating twins of a network whose weights are learned would take learning them twice more.
    floor = noise_floor(bench, request, samples, progress, calibration=not quant.learns)
    board = cache(lambda: switchboard(bench, subject, quant, progress))

    def network(spec: QuantSpec) -> nn.Module:
        return board().set(spec)

    settings, changes = _settings(quant, costs), []
    for done, (what, spec) in enumerate(settings):
        report = step(progress, what, done, len(settings))
        changes.append(drifts.changes(partial(network, spec), decides(subject, spec, quant), report))
    return _sensitivity(drifts, quant, costs, floor, changes, subject_cost(bench, subject, quant, progress))


def stored_sensitivity(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
) -> Sensitivity | None:
    """Return what ``sensitivity`` would read from the store alone, or None where a part of it is missing.

    No network is run; to know which weights are meant, published ones may be downloaded and untrained ones drawn.

    Args:
        bench: with the store.
        request: as in ``sensitivity``.
        samples: the pictures.
        progress: reports a download; whatever it raises ends the call.

    Raises:
        as ``sensitivity``.
    """
    subject, cam = resolved(bench, request, progress)
    quant = request.quant
    drifts = Drifts(bench, subject, cam, samples)
    layers, cost = stored_layers(bench, subject, quant), stored_cost(bench, subject, quant)
    floor = stored_noise_floor(drifts, quant, calibration=not quant.learns)
    if layers is None or cost is None or floor is None:
        return None
    changes = []
    for _, spec in _settings(quant, layers[0]):
        stored = drifts.stored(DRIFT, decides(subject, spec, quant))
        if stored is None:
            return None
        changes.append(stored)
    return _sensitivity(drifts, quant, layers[0], floor, changes, cost)


def _settings(quant: QuantSpec, costs: Sequence[LayerCost]) -> list[tuple[str, QuantSpec]]:
    """Return what is measured, with its name: every layer, then for each layer it alone and all but it."""
    names = [layer.name for layer in costs]
    settings = [("Every layer", quant)]
    for name in names:
        settings.append((f"{name} alone", _only(quant, names, {name})))
        settings.append((f"All but {name}", _only(quant, names, {*names} - {name})))
    return settings


def _sensitivity(
    drifts: Drifts,
    quant: QuantSpec,
    costs: Sequence[LayerCost],
    floor: NoiseFloor,
    changes: Sequence[Changes],
    cost: Cost,
) -> Sensitivity:
    """Return the result; ``changes`` are in the order of ``_settings``."""
    network, *single = [each.drift(drifts.labels) for each in changes]
    pairs = zip(costs, single[::2], single[1::2], strict=True)
    return Sensitivity(
        model=drifts.subject.spec.name,
        weights=drifts.subject.ref,
        quant=quant,
        calibration=drifts.subject.calibration.ref,
        cam=drifts.cam,
        images=drifts.images,
        layers=tuple(LayerDrift(layer, depth, *both) for depth, (layer, *both) in enumerate(pairs)),
        network=network,
        floor=floor,
        cost=cost,
        labelled=sum(label is not None for label in drifts.labels),
    )


def only_layer(atlas: Sensitivity, name: str) -> QuantSpec:
    """Return the quantization of one layer alone, every other one in float.

    Raises:
        UsageError: there is no such layer.
    """
    names = [layer.cost.name for layer in atlas.layers]
    if name not in names:
        raise UsageError(f"Layer {name!r} is none that is quantized{near(name, names)}.")
    return _only(atlas.quant, names, {name})


def near(name: str, names: Iterable[str]) -> str:
    """Return what ends a sentence about an unknown name: the names that are like it, if any."""
    similar = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; near it: {', '.join(similar)}" if similar else ""


def step(progress: Progress, what: str, done: int, total: int) -> Progress:
    """Return the progress of one part of a longer work."""

    def report(_message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        progress(what, (done + (fraction or 0.0)) / total, phase)

    return report


def _only(quant: QuantSpec, names: Iterable[str], kept: set[str]) -> QuantSpec:
    """Return ``quant`` with the bits of every layer: its own for the ``kept`` ones, float for the others."""
    bits = [LayerBits(name, *(quant.bits_of(name) if name in kept else (None, None))) for name in names]
    return replace(quant, layer_bits=tuple(bits))
