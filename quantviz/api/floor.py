"""Measuring the noise floor of a study's networks on its own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.noise import noise_floor
from quantviz.specs import ImageError, ImageSample, Phase, Progress, UsageError, no_progress
from quantviz.study.floor import NetworkFloor, StudyFloor, write_floor
from quantviz.study.folder import StudyFolder
from quantviz.study.pictures import model_choice, pictures_folder, study_picture, weights_choice
from quantviz.study.specs.plan import StudyModel, StudyPlan


def measure_floor(
    bench: Workbench,
    study: Path,
    *,
    pictures: Path | None = None,
    limit: int | None = None,
    progress: Progress = no_progress,
) -> StudyFloor:
    """Measure how far the maps of a study's float networks move under a change that nobody sees, and keep it there.

    Args:
        bench: with the store, which keeps what was measured.
        study: folder of a finished study.
        pictures: folder of its pictures, where they are elsewhere than the study says.
        limit: measure at most so many of its pictures, evenly spaced; None for all.
        progress: reports what is being done; whatever it raises ends the call.

    Raises:
        UsageError: there is no finished study, none of its networks is a torch module, or another file than the
            study's is in the place of its weights.
        ImageError: its pictures are not here.
    """
    plan = StudyFolder(study).finished_plan()
    chosen = [model for model in plan.models if model.in_torch]
    if not chosen:
        raise UsageError("The study's networks are ONNX files, whose noise floor cannot be measured.")
    places, samples = _readable(plan, pictures_folder(plan, pictures), limit)
    networks = {}
    for at, model in enumerate(chosen):
        part = partial(_part, progress, f"Noise floor of {model.name}", at, len(chosen))
        networks[model.name] = _measured(bench, plan, model, samples, part)
    floor = StudyFloor(plan.digest, places, networks)
    write_floor(study, floor)
    return floor


def _readable(plan: StudyPlan, folder: Path, limit: int | None) -> tuple[tuple[int, ...], list[ImageSample]]:
    """Return the places and the pictures that can be read: a sweep has a row with the reason for each other one."""
    count = len(plan.images)
    wanted = range(count) if limit is None or limit >= count else [at * count // limit for at in range(limit)]
    found: dict[int, ImageSample] = {}
    problem = ImageError("The study has no picture.")
    for place in wanted:
        try:
            found[place] = study_picture(plan, place, folder)
        except ImageError as error:
            problem = error
    if not found:
        raise problem
    return tuple(found), list(found.values())


def _measured(
    bench: Workbench, plan: StudyPlan, model: StudyModel, samples: Sequence[ImageSample], progress: Progress
) -> NetworkFloor:
    request = CompareRequest(
        model_choice(plan, model),
        weights=weights_choice(plan, model),
        cam=replace(plan.cam, layer=model.layer),
        saliency=None,
        names=model.weights.names,
    )
    here = bench.subject(request, progress).ref.sha256
    if here != model.weights.sha256:
        raise UsageError(
            f"The weights of {model.name} here (sha256 {here[:12]}) are not the study's "
            f"({model.weights.sha256[:12]}); put the study's file in their place."
        )
    floor = noise_floor(bench, request, samples, progress, calibration=False)
    return NetworkFloor(floor.grey.cams, floor.shift.cams)


def _part(
    progress: Progress,
    what: str,
    at: int,
    parts: int,
    message: str,
    fraction: float | None = None,
    phase: Phase = Phase.WORKING,
) -> None:
    progress(f"{what}: {message}", (at + (fraction or 0.0)) / parts, phase)
