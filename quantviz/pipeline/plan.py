"""From what a user asks of a sweep to the plan of a study. Imports torch only for untrained weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from quantviz import images, saliency, zoo
from quantviz.pipeline.calibration import calibration_set
from quantviz.pipeline.networks import versions
from quantviz.pipeline.sources import SPECTRAL_RESIDUAL
from quantviz.specs import (
    CALIBRATED,
    COMPUTATION_VERSION,
    CamSpec,
    ImageError,
    ModelSpec,
    Progress,
    QuantSpec,
    StudyImage,
    StudyModel,
    StudyPlan,
    UsageError,
    WeightsRef,
    no_progress,
)

BATCH = 16


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What to sweep over.

    Attributes:
        dataset: a folder of pictures; those in folders with a synset's name have a label.
        models: names of architectures.
        quants: bit-widths and scheme; their protocol is not regarded.
        weights: model -> its weights, as in ``CompareRequest``; the default ones where absent.
        protocols: as in ``QuantSpec``.
        cam: the CAM method; each model's default layer is the target.
        calibration: folder of calibration pictures, or None for the bundled photographs.
        limit: at most so many pictures, or None.
        seed: draw them at random by this seed; None: evenly spaced ones.
        batch: pictures in a piece, which is what a killed sweep may have to compute again.
        command: the command line, for the record.

    Raises:
        UsageError: nothing to do, something named twice, or a value that is out of range.
    """

    dataset: Path
    models: tuple[str, ...]
    quants: tuple[QuantSpec, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    protocols: tuple[str, ...] = (CALIBRATED,)
    cam: CamSpec = field(default_factory=CamSpec)
    calibration: Path | None = None
    limit: int | None = None
    seed: int | None = None
    batch: int = BATCH
    command: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quants", tuple(replace(quant, protocol=CALIBRATED) for quant in self.quants))
        spelled = tuple(replace(QuantSpec(), protocol=protocol).protocol for protocol in self.protocols)
        object.__setattr__(self, "protocols", spelled)
        _once("Model", self.models)
        _once("Bit-width", tuple(quant.label for quant in self.quants))
        _once("Protocol", self.protocols)
        if self.cam.layer is not None:
            raise UsageError(f"Layer {self.cam.layer!r} is not in every model; leave it out.")
        for name in self.weights:
            if name not in self.models:
                raise UsageError(
                    f"Weights are given for {name!r}, which is not swept; its models are {', '.join(self.models)}."
                )
        for what, value, least in (("limit", self.limit, 1), ("batch", self.batch, 1), ("seed", self.seed, 0)):
            if value is not None and value < least:
                raise UsageError(f"The {what} {value} is below {least}; give {least} or more.")


def plan_of(request: SweepRequest, known: StudyPlan | None = None, progress: Progress = no_progress) -> StudyPlan:
    """Return the plan of a study: what is swept over, with the digest of everything that decides a result.

    Args:
        request: what to sweep over.
        known: the plan of a study that may be the same; the digest of untrained weights is taken from it, since they
            are decided by the library versions.
        progress: told how far reading the pictures is.

    Raises:
        UsageError: an unknown model; no picture; a value that is out of range.
        WeightsUnavailable: weights are neither on disk nor reachable.
    """
    for name in request.models:  # what is refused is refused before anything takes long
        zoo.spec(name)
    calibration, files = calibration_set(request.calibration).ref, _chosen(request)
    models = tuple(_model(name, request.weights.get(name), known, progress) for name in request.models)
    return StudyPlan(
        models=models,
        quants=request.quants,
        protocols=request.protocols,
        cam=request.cam,
        calibration=calibration,
        saliency=saliency.predictor(SPECTRAL_RESIDUAL).key,
        images=_pictures(request.dataset, files, progress),
        limit=request.limit,
        seed=request.seed,
        batch=request.batch,
        versions={**versions(), "pyarrow": version("pyarrow")},
        computation=COMPUTATION_VERSION,
        dataset=str(request.dataset),
        command=request.command,
    )


def _once(what: str, names: Sequence[str]) -> None:
    if not names:
        raise UsageError(f"No {what.lower()} is given; name one or more.")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{what} {name!r} is given twice; name it once.")


def _model(name: str, choice: str | None, known: StudyPlan | None, progress: Progress) -> StudyModel:
    spec = zoo.spec(name)
    located = zoo.resolve(spec, choice, progress=progress)
    ref = located.ref
    if not ref.sha256:
        ref = _known(name, known) or _built(spec, located)
    return StudyModel(name, ref, spec.layer)


def _known(name: str, plan: StudyPlan | None) -> WeightsRef | None:
    found = plan.models if plan is not None else ()
    return next((entry.weights for entry in found if entry.name == name and not entry.weights.trained), None)


def _built(spec: ModelSpec, located: zoo.LocatedWeights) -> WeightsRef:
    from quantviz.zoo.build import build

    return build(spec, located)[1]


def _chosen(request: SweepRequest) -> list[Path]:
    """Return the pictures of the folder, or those of them that the limit leaves, sorted by path."""
    files = images.folder(request.dataset)
    if request.limit is not None and request.limit < len(files):
        if request.seed is None:
            chosen = [place * len(files) // request.limit for place in range(request.limit)]
        else:
            drawn = np.random.default_rng(request.seed).choice(len(files), request.limit, replace=False)
            chosen = sorted(int(place) for place in drawn)
        files = [files[place] for place in chosen]
    return files


def _pictures(dataset: Path, files: Sequence[Path], progress: Progress) -> tuple[StudyImage, ...]:
    found = []
    for done, file in enumerate(files):
        progress("Reading the pictures", done / len(files))
        try:
            digest = images.digest(file)
        except ImageError:  # told in the picture's rows
            digest = ""
        label = zoo.synset_class(file.absolute().parent.name)
        found.append(StudyImage(file.relative_to(dataset).as_posix(), digest, label))
    return tuple(found)
