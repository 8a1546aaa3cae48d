"""A request for a sweep, and the study's plan that is made of it. Imports torch only for untrained weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import numpy as np

from quantviz import images, networks, saliency, scores
from quantviz.comparison.calibration import calibration_set
from quantviz.comparison.cards import card_of
from quantviz.comparison.loaded import versions
from quantviz.comparison.machine import PROCESSOR, deployed_versions, simulation_versions
from quantviz.comparison.references import SPECTRAL_RESIDUAL
from quantviz.specs import (
    CALIBRATED,
    COMPUTATION_VERSION,
    DEPLOYED,
    GIVEN,
    AnyVariant,
    CamSpec,
    FileVariant,
    ImageError,
    Phase,
    Progress,
    QuantSpec,
    TruthKind,
    UsageError,
    no_progress,
    variants_of,
)
from quantviz.study.labels import class_folders, folder_labels, table_labels
from quantviz.study.layouts import Labels, labels_of, pictures_of
from quantviz.study.models import AskedModel, planned_model
from quantviz.study.specs.plan import IMAGENET_CLASSES, StudyImage, StudyModel, StudyPlan, StudyTruth, TruthFile
from quantviz.truth import pair

BATCH = 16

SWEEP_BACKENDS: Final = ("torch", "onnxruntime")
_BY_BACKENDS = (CALIBRATED, DEPLOYED)
_NEEDS_OTHERS = ("auc_shuffled",)  # has no value without other pictures' fixations


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What to sweep over, and how.

    Attributes:
        dataset: a folder of pictures, in a layout of ``study.layouts``, which also gives their labels.
        models: names of architectures, or paths of network cards.
        quants: bit-widths and scheme; their protocol is ignored.
        weights: model -> its weights, as in ``CompareRequest``; the default ones where absent.
        protocols: as in ``StudyPlan``; with ``GIVEN`` the files of cards are swept.
        cam: the CAM method; the layers are named by ``layers``.
        layers: model -> name of its target layer; its default where absent.
        calibration: folder of calibration pictures, or None for the bundled photographs.
        limit: at most so many pictures, or None.
        seed: draw them at random by this seed; None: evenly spaced ones.
        batch: pictures in a piece; a killed sweep may have to compute one piece again.
        command: the command line, for the record.
        truth: folder of ground truth, a file a picture with the picture's stem, or None.
        truth_kind: what its files hold.
        labels: CSV file of the pictures' labels, or None: their folders' names are looked at.
        names: of the classes of models that have so many and none of their own; () for ImageNet's.
        images: pictures of the dataset, as an earlier plan lists them; empty: those of the folder are listed, limited
            and labelled.
        backend: as in ``StudyPlan``.
        faithful: as in ``StudyPlan``; 52 forward passes more for each network and picture.

    Raises:
        UsageError: nothing to do, something named twice, a value that is out of range, nothing that can be deployed
            under the deployed protocol, a protocol that the backend does not run, or one whose observers would see the
            changed pictures of faithfulness.
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
    images: tuple[StudyImage, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    truth: Path | None = None
    truth_kind: TruthKind = "map"
    labels: Path | None = None
    names: tuple[str, ...] = ()
    backend: Literal["torch", "onnxruntime"] = "torch"
    faithful: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "quants", tuple(replace(quant, protocol=CALIBRATED) for quant in self.quants))
        _once("Model", self.models)
        if self.protocols != (GIVEN,):
            _once("Bit-width", tuple(quant.label for quant in self.quants))
        spelled = tuple(
            protocol if protocol == GIVEN else variants_of(protocol, self.quants)[0].protocol
            for protocol in self.protocols
        )
        object.__setattr__(self, "protocols", spelled)
        _once("Protocol", self.protocols)
        if self.backend not in SWEEP_BACKENDS:
            raise UsageError(f"Backend {self.backend!r} runs no sweep; use one of {', '.join(SWEEP_BACKENDS)}.")
        if self.backend != "torch" and not set(self.protocols) <= set(_BY_BACKENDS):
            raise UsageError(
                f"Backend {self.backend!r} does not run protocol {self.protocols[-1]!r}; "
                f"sweep {' and '.join(_BY_BACKENDS)} with it, and others with torch."
            )
        online = [one for one in spelled if one != GIVEN and variants_of(one, self.quants)[0].sequential]
        if self.faithful and online:
            raise UsageError(
                f"Faithfulness runs changed pictures, which the observers of protocol {online[0]!r} would see; "
                "sweep it without."
            )
        if self.cam.layer is not None:
            raise UsageError(f"Layer {self.cam.layer!r} is not in every model; name a layer for each model.")
        for what, names in (("Weights are", self.weights), ("A layer is", self.layers)):
            for name in names:
                if name not in self.models:
                    raise UsageError(
                        f"{what} given for {name!r}, which is not swept; its models are {', '.join(self.models)}."
                    )
        for what, value, least in (("limit", self.limit, 1), ("batch", self.batch, 1), ("seed", self.seed, 0)):
            if value is not None and value < least:
                raise UsageError(f"The {what} {value} is below {least}; give {least} or more.")


def plan_of(request: SweepRequest, known: StudyPlan | None = None, progress: Progress = no_progress) -> StudyPlan:
    """Return the plan of a study: what is swept over, with the digests of everything that decides a result.

    Args:
        request: what to sweep over.
        known: the plan of a study that may be the same. It saves drawing untrained weights anew: their digest is
            decided by the library versions.
        progress: reports how far reading the pictures is.

    Raises:
        UsageError: an unknown model or layer; a value that is out of range; several files of ground truth.
        ImageError: no picture, or no ground truth for any of them.
        WeightsUnavailable: weights are neither on disk nor reachable.
    """
    _check_named(request)
    calibration, files = calibration_set(request.calibration), [] if request.images else _chosen(request)
    places = [request.dataset / image.path for image in request.images] or files
    pairs = None if request.truth is None else _pairs(places, request.truth)
    found = labels_of(files, progress)
    models, notes = _models(request, _by_folders(request, found), known, progress)
    labels = _labels(request, files, models, found, progress)
    pictures = request.images or _pictures(request.dataset, files, labels, progress)
    plan = StudyPlan(
        models=models,
        quants=request.quants,
        protocols=request.protocols,
        cam=request.cam,
        calibration=calibration.ref,
        saliency=saliency.predictor(SPECTRAL_RESIDUAL).key,
        images=pictures,
        limit=request.limit,
        seed=request.seed,
        batch=request.batch,
        versions={},
        computation=COMPUTATION_VERSION,
        dataset=str(request.dataset),
        command=request.command,
        truth=None if pairs is None else _truth(request, places, pairs, progress),
        notes=(*labels.notes, *notes, *_repeated(pictures), *images.left_out(request.dataset), *calibration.notes),
        backend=request.backend,
        faithful=request.faithful,
    )
    return replace(plan, versions=_versions(plan, known), notes=(*plan.notes, *_without_accuracy(plan)))


def _versions(plan: StudyPlan, known: StudyPlan | None) -> dict[str, str]:
    found = {**deciding(plan.variants, plan.backend), "pyarrow": version("pyarrow")}
    if known is not None and PROCESSOR not in known.versions:  # a study from before processors were noted
        del found[PROCESSOR]
    return found


def _repeated(pictures: Sequence[StudyImage]) -> tuple[str, ...]:
    """Return a sentence about pictures that are there several times, byte for byte; () where there are none."""
    first: dict[str, str] = {}
    again = [one for one in pictures if one.sha256 and first.setdefault(one.sha256, one.path) != one.path]
    if not again:
        return ()
    count, one = "1 picture repeats" if len(again) == 1 else f"{len(again)} pictures repeat", again[0]
    return (f"{count} another ({one.path!r} is {first[one.sha256]!r}); each file counts.",)


def deciding(variants: Sequence[AnyVariant], backend: str = "torch") -> dict[str, str]:
    """Return the versions on this machine of everything that decides the numbers of some variants on a backend."""
    on_kernels = any(variant.deployed or isinstance(variant, FileVariant) for variant in variants)
    decides = versions() | (deployed_versions() if on_kernels else {})
    return decides if backend == "torch" else decides | simulation_versions()


def _once(what: str, names: Sequence[str]) -> None:
    if not names:
        raise UsageError(f"No {what.lower()} is given; name one or more.")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{what} {name!r} is given twice; name it once.")


def _models(
    request: SweepRequest, folders: tuple[str, ...], known: StudyPlan | None, progress: Progress
) -> tuple[tuple[StudyModel, ...], list[str]]:
    """Return the networks, and notes on them; ``folders`` are the names of those of the pictures."""
    labelled = request.labels is not None
    planned = [
        planned_model(
            AskedModel(name, request.weights.get(name), request.layers.get(name), request.names, folders, labelled),
            known,
            progress,
        )
        for name in request.models
    ]
    models = tuple(model for model, _ in planned)
    _check_models(request, models)
    told = ((model.name, note) for model, notes in planned for note in notes)
    return models, [note if note.startswith(name) else f"{name}: {note}" for name, note in told]


def _without_accuracy(plan: StudyPlan) -> list[str]:
    """Say which models have other classes than the labels, where those are of one's own."""
    others = [model.name for model in plan.models if not plan.counts_labels(model, model.weights.classes)]
    if not plan.classes or not others:
        return []
    return [f"The labels are not of the classes of {', '.join(others)}, so that no accuracy is counted there."]


def _check_named(request: SweepRequest) -> None:
    """Refuse unknown models and wrong cards, before anything takes long."""
    for name in request.models:
        card = card_of(name)
        if card is None or card.float_file is None:
            networks.spec(name)


def _check_models(request: SweepRequest, models: Sequence[StudyModel]) -> None:
    """Refuse models of one name, those that no protocol runs, and class names that are of none of them."""
    _once("Model", tuple(model.name for model in models))
    simulated = any(protocol != GIVEN for protocol in request.protocols)
    for model in models:
        if not (model.in_torch and simulated) and not (model.files and GIVEN in request.protocols):
            how = f"protocol {GIVEN!r}" if model.files else "a quantized file, or a model in torch"
            raise UsageError(f"Nothing of {model.name} would be swept; it needs {how}.")
    if request.names and not any(model.weights.names == request.names for model in models):
        counts = ", ".join(f"{model.name} has {model.weights.classes:,}" for model in models)
        raise UsageError(f"{len(request.names):,} class names were given, but {counts}; give a name for each class.")


def _by_folders(request: SweepRequest, found: Labels) -> tuple[str, ...]:
    """Return the names of the folders of pictures whose classes are not known otherwise; () for others."""
    if request.labels is not None or not found.classes or any(label is not None for label in found.classes):
        return ()
    folders = class_folders(request.dataset)
    return folders if len(folders) > 1 else ()


def _labels(
    request: SweepRequest, files: Sequence[Path], models: Sequence[StudyModel], found: Labels, progress: Progress
) -> Labels:
    """Return the pictures' classes; ``found`` are those of ImageNet."""
    names = next((model.weights.names for model in models if model.weights.names), ())
    if not files or (not names and request.labels is None):
        return found
    if request.labels is not None:
        return table_labels(request.labels, request.dataset, files, names)
    if len(names) == IMAGENET_CLASSES and any(label is not None for label in found.classes):
        return found
    labels = folder_labels(request.dataset, files, names)
    if request.names or names != class_folders(request.dataset):
        return labels
    note = "The classes are the folders in the order of their names, as torchvision's ImageFolder counts them."
    return replace(labels, notes=(note, *labels.notes))


def _chosen(request: SweepRequest) -> list[Path]:
    """Return the pictures of the folder, sorted by path, at most as many as the limit."""
    files = pictures_of(request.dataset)
    if request.limit is not None and request.limit < len(files):
        if request.seed is None:
            chosen = [place * len(files) // request.limit for place in range(request.limit)]
        else:
            drawn = np.random.default_rng(request.seed).choice(len(files), request.limit, replace=False)
            chosen = sorted(int(place) for place in drawn)
        files = [files[place] for place in chosen]
    return files


def _pictures(dataset: Path, files: Sequence[Path], labels: Labels, progress: Progress) -> tuple[StudyImage, ...]:
    pictures = []
    for done, (file, label) in enumerate(zip(files, labels.classes, strict=True)):
        progress("Reading the pictures", done / len(files), Phase.READING)
        pictures.append(StudyImage(file.relative_to(dataset).as_posix(), _digest(file), label))
    return tuple(pictures)


def _digest(file: Path) -> str:
    try:
        return images.digest(file)
    except ImageError:  # the picture's rows say why
        return ""


def _pairs(places: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return the pictures that have ground truth, with its file."""
    pairing = pair(places, folder)
    if pairing.ambiguous:
        picture, several = pairing.ambiguous[0]
        raise UsageError(
            f"Picture {str(picture)!r} has several files of ground truth ({', '.join(map(str, several))}); "
            "keep one; `quantviz pair` lists such pictures."
        )
    if not pairing.pairs:
        raise ImageError(f"{folder} holds no file with a picture's stem; `quantviz pair` lists what it holds.")
    return dict(pairing.pairs)


def _truth(request: SweepRequest, places: Sequence[Path], pairs: Mapping[Path, Path], progress: Progress) -> StudyTruth:
    """Return the files of ground truth, and the metrics of their kind that need no other picture's."""
    folder, kind = request.truth or Path(), request.truth_kind
    files = {}
    for done, (picture, file) in enumerate(pairs.items()):
        progress("Reading the ground truth", done / len(pairs), Phase.READING)
        files[picture] = TruthFile(file.relative_to(folder).as_posix(), _digest(file))
    metrics = (name for name, metric in scores.METRICS.items() if kind in metric.truths and name not in _NEEDS_OTHERS)
    return StudyTruth(kind, tuple(metrics), tuple(files.get(place) for place in places), str(folder))
