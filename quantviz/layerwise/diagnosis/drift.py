"""What each tensor does to the maps: quantized alone, and every tensor but it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.diagnosis.specs import Diagnosis, Role, TensorDrift, TensorFigures
from quantviz.layerwise.drift import Drifts, decides, layers_of, resolved, switchboard
from quantviz.layerwise.noise import noise_floor
from quantviz.layerwise.sensitivity import step
from quantviz.specs import ImageSample, LayerBits, Progress, QuantSpec, no_progress


def with_drift(
    bench: Workbench,
    request: CompareRequest,
    diagnosis: Diagnosis,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
    *,
    most: int | None = None,
) -> Diagnosis:
    """Return a diagnosis of our simulation with each tensor's CAM drift beside its figures.

    Drift is the mean of 1 - CC of the changed and the float map, of the float network's top-1 class. Each is kept in
    the store, so that a call that was ended goes on where it was.

    Args:
        bench: with the models and the store.
        request: as in ``diagnose``.
        diagnosis: of the same request.
        samples: the pictures, at least one; two maps a tensor and picture.
        progress: reports the part done.
        most: how many of the worst tensors; None for all.

    Raises:
        as ``sensitivity``.
    """
    subject, cam = resolved(bench, request, progress)
    drifts = Drifts(bench, subject, cam, samples)
    floor = noise_floor(bench, request, samples, progress, calibration=False).floor
    quant = request.quant
    names = [layer.name for layer in layers_of(bench, subject, quant, progress)[0]]
    board = cache(lambda: switchboard(bench, subject, quant, progress))

    def drift(spec: QuantSpec, report: Progress) -> float | None:
        changes = drifts.changes(lambda: board().set(spec), decides(subject, spec, quant), report)
        return changes.drift(drifts.labels).cam

    chosen = _rounded(diagnosis, names)[:most]
    measured = {}
    for done, entry in enumerate(chosen):
        alone, all_but = (
            drift(spec, step(progress, f"Drift of {entry.name}", 2 * done + place, 2 * len(chosen)))
            for place, spec in enumerate(tensor_settings(quant, names, entry.site.layer, entry.site.role))
        )
        measured[entry.name] = TensorDrift(alone, all_but, floor)
    return _with(diagnosis, measured, floor)


def _with(diagnosis: Diagnosis, measured: Mapping[str, TensorDrift], floor: float | None) -> Diagnosis:
    tensors = tuple(replace(entry, drift=measured.get(entry.name)) for entry in diagnosis.tensors)
    return replace(diagnosis, tensors=tensors, floor=floor)


def _rounded(diagnosis: Diagnosis, layers: Sequence[str]) -> list[TensorFigures]:
    """Return the weights and layer inputs on a grid, worst first; readings go with their layer."""
    entries = [entry for name in diagnosis.ranking if (entry := known(diagnosis, name)) is not None]
    return [
        entry
        for entry in entries
        if entry.site.layer in layers
        and entry.site.bits is not None
        and entry.name.removeprefix(entry.site.layer) in (".input", ".weight")
    ]


def known(diagnosis: Diagnosis, name: str) -> TensorFigures | None:
    """Return a tensor's figures by its name, or None where only the structure names it."""
    return next((entry for entry in diagnosis.tensors if entry.name == name), None)


def tensor_settings(quant: QuantSpec, names: Sequence[str], layer: str, role: Role) -> tuple[QuantSpec, QuantSpec]:
    """Return the quantization of one tensor alone, and of all but it."""
    alone, all_but = [], []
    for name in names:
        weight, act = quant.bits_of(name)
        own = name == layer
        is_weight = role == "weight"
        alone.append(LayerBits(name, weight if own and is_weight else None, act if own and not is_weight else None))
        all_but.append(LayerBits(name, None if own and is_weight else weight, None if own and not is_weight else act))
    return replace(quant, layer_bits=tuple(alone)), replace(quant, layer_bits=tuple(all_but))
