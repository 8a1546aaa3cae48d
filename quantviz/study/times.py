"""The time that one map takes on this machine by each path, for the models of a study with deployed networks.

Times depend on the machine and the moment, so they are kept in the store and are no part of a study.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from quantviz import images
from quantviz.cam import Locked
from quantviz.comparison.deploy import milliseconds, parted_layer
from quantviz.comparison.machine import integer_kernels, processor
from quantviz.comparison.protocols import MANY_PASSES, explained
from quantviz.comparison.workbench import Workbench
from quantviz.specs import (
    Phase,
    Progress,
    QuantvizError,
    StoredRecord,
    UsageError,
    Variant,
    digest_of,
    no_progress,
)
from quantviz.store import TensorStore
from quantviz.study.evidence import found_calibration, found_weights
from quantviz.study.pictures import model_choice
from quantviz.study.planning import deciding
from quantviz.study.specs.plan import StudyModel, StudyPlan
from quantviz.study.specs.summary import MapTimes
from quantviz.study.sweep.networks import study_subject

if TYPE_CHECKING:
    from torch import nn

    from quantviz.specs import CamSpec

PATHS: Final = {
    "float": "float, torch",
    "float_onnxruntime": "float, ONNX Runtime",
    "simulated": "simulated int8, torch",
    "deployed": "deployed int8, ONNX Runtime",
}
"""Paths to a map -> their titles; ONNX Runtime runs the network up to the target layer, torch the rest."""

_PICTURE: Final = "chelsea"

_apart: dict[Path, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}


def measure_times(
    store: TensorStore,
    plan: StudyPlan,
    *,
    weights: Mapping[str, str] | None = None,
    calibration: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[MapTimes, ...]:
    """Time one map of a bundled photograph by each path, in as many threads as torch has; the store keeps the times.

    Args:
        store: where times, exports and calibrated ranges are kept.
        plan: of the study.
        weights: model -> its weights, where they are not those of the plan and its command.
        calibration: folder of the calibration pictures; None for that of the study's command, or the bundled ones.
        progress: reports what is being done; whatever it raises ends the call.

    Raises:
        UsageError: the study has no deployed network, its method is not timed, or its weights or calibration pictures
            are not here.
        WeightsUnavailable: published weights are neither on disk nor reachable.
        QuantvizError: a network cannot be made.
    """
    if reason := untimed(plan):
        raise UsageError(reason)
    if unknown := sorted(set(weights or {}) - {model.name for model in plan.models}):
        raise UsageError(f"Weights are given for {unknown[0]!r}, which is not in the study; leave them out.")
    folder = found_calibration(plan, calibration)
    times = []
    for model in plan.models:
        if not model.in_torch:
            continue
        choice = found_weights(plan, model, (weights or {}).get(model.name), progress)
        for variant in plan.deployed:
            # Each model has a workbench of its own, so that its networks go when it is done.
            measured = _measured(Workbench(store, float_models=1), plan, model, variant, choice, folder, progress)
            key = _key(plan, model, variant)
            record = store.get(key)
            others = {} if record is None else dict(record.metadata["threads"])
            store.put(key, StoredRecord({}, {"threads": others | {str(measured.threads): dict(measured.milliseconds)}}))
            times.append(measured)
    return tuple(times)


def kept_times(store: TensorStore, plan: StudyPlan) -> tuple[MapTimes, ...]:
    """Return the times that the store has for a machine of this kind, by model and number of threads."""
    times = []
    for model in plan.models:
        for variant in plan.deployed:
            record = store.get(_key(plan, model, variant))
            by_threads: Mapping[str, Any] = {} if record is None else record.metadata["threads"]
            for threads in sorted(by_threads, key=int):
                times.append(MapTimes(model.name, variant.label, this_machine(), int(threads), by_threads[threads]))
    return tuple(times)


def untimed(plan: StudyPlan) -> str:
    """Say in one sentence why the maps of a study are not timed; "" where they can be."""
    if not plan.deployed:
        return "The study has no deployed protocol to time; sweep with --protocols calibrated,deployed."
    if plan.cam.method in MANY_PASSES:
        return f"Maps by {plan.cam.method} take many forward passes and are not timed; sweep with another --cam."
    return ""


def measure_apart(study: Path, cache: Path) -> None:
    """Measure the times of a study in a separate process, unless one is running.

    Other work in this process would slow the maps down, and an export to ONNX needs a process without other threads
    that use networks.

    Args:
        study: its folder.
        cache: folder of the cache, in which the store lies.
    """
    if not measuring(study):
        words = ["summary", str(study), "--times", "--cache", str(cache)]
        log = tempfile.TemporaryFile()
        nothing = subprocess.DEVNULL
        started = [sys.executable, "-m", "quantviz", *words]
        _apart[study] = subprocess.Popen(started, stdin=nothing, stdout=nothing, stderr=log), log


def measuring(study: Path) -> bool:
    """Tell whether a process that ``measure_apart`` started is still running."""
    return study in _apart and _apart[study][0].poll() is None


def measured_apart(study: Path) -> None:
    """Collect the process that ``measure_apart`` started, after it has ended.

    Raises:
        QuantvizError: it failed; its last line says why.
    """
    process, log = _apart.pop(study, (None, None))
    if process is None or log is None:
        return
    with log:
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    if process.wait():
        raise QuantvizError(said[-1].removeprefix("quantviz: ") if said else "The measurement ended without a word.")


def _measured(
    bench: Workbench,
    plan: StudyPlan,
    model: StudyModel,
    variant: Variant,
    weights: str,
    calibration: Path | None,
    progress: Progress,
) -> MapTimes:
    import torch

    asked = model_choice(plan, model)
    subject = study_subject(bench, plan, model, variant, weights, calibration, progress, asked)
    cam = replace(plan.cam, layer=subject.layer)
    split = bench.backends.reference(subject, progress)
    networks: dict[str, tuple[Locked[nn.Module], CamSpec]] = {
        "float": (bench.networks.reference(subject, progress), cam),
        "float_onnxruntime": (split, replace(cam, layer=parted_layer(split))),
        "simulated": bench.network(subject, Variant(variant.quant), cam, progress),
        "deployed": bench.network(subject, variant, cam, progress),
    }
    preprocessing = subject.ref.preprocessing
    crop = images.crop(images.bundled(_PICTURE).rgb, preprocessing)
    image = torch.from_numpy(images.normalize(crop, preprocessing))
    index = explained(networks["float"][0], image, cam, None, 0, no_progress, "float").class_index
    progress(f"Timing {model.name}", None, Phase.TIMING)
    taken = milliseconds(networks, image, index)
    return MapTimes(model.name, variant.label, this_machine(), torch.get_num_threads(), taken)


def this_machine() -> str:
    """Return the name of the processor, and the kind of its integer kernels."""
    return f"{processor()}; {integer_kernels()}"


def _key(plan: StudyPlan, model: StudyModel, variant: Variant) -> str:
    decides = {
        "kind": "map times",
        "versions": deciding([variant]),
        "model": model,
        "quantization": variant.quant,
        "calibration": plan.calibration.sha256,
        "cam": plan.cam,
        "machine": this_machine(),
    }
    return digest_of(decides)
