"""A study's own pictures and weights, looked for where its plan names them and checked by their digests."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from quantviz import images, networks
from quantviz.comparison.calibration import calibration_set
from quantviz.comparison.cards import compare_card
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.networks.card import is_card, read_card
from quantviz.specs import (
    Comparison,
    FileVariant,
    GivenQuant,
    ImageError,
    ImageSample,
    Progress,
    UsageError,
    no_progress,
)
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import StudyModel, StudyPlan

PACKAGED: Final = "pictures of installed packages"
"""Data set of a study whose pictures come with installed packages: they are ``images.PACKAGED_PICTURES``."""

_SHOWN = 12  # hex digits of a digest that tell two files apart for a reader


def plan_of_study(study: Path) -> StudyPlan:
    """Return the plan of a study, finished or not.

    Raises:
        UsageError: there is no study.
        StoreError: its plan cannot be read.
    """
    plan = StudyFolder(study).plan()
    if plan is None:
        raise UsageError(f"There is no study at {str(study)!r}; choose another, or make one by quantviz sweep.")
    return plan


def pictures_folder(plan: StudyPlan, elsewhere: Path | None = None) -> Path:
    """Return the folder of a study's pictures: another one where it is given, else the one that the plan names.

    That is ``PACKAGED`` itself, which is no folder but stands for all of them, where packages have the pictures.

    Raises:
        ImageError: it does not exist.
    """
    folder = elsewhere or Path(plan.dataset)
    if str(folder) == PACKAGED:
        return folder
    if not folder.is_dir():
        where = "is no folder" if elsewhere else "is not on this machine"
        raise ImageError(f"The study's pictures are not at hand: {str(folder)!r} {where}; name their folder.")
    return folder


def study_picture(plan: StudyPlan, index: int, folder: Path) -> ImageSample:
    """Return one picture of a study.

    Args:
        plan: of the study.
        index: the picture's place in the plan.
        folder: of the pictures.

    Raises:
        UsageError: the study has no such picture.
        ImageError: the file is missing, cannot be used, or is another one by its sha256.
    """
    if not 0 <= index < len(plan.images):
        raise UsageError(f"Picture {index} does not exist; the study has pictures 0 to {len(plan.images) - 1}.")
    image = plan.images[index]
    place = images.packaged_path(image.path) if str(folder) == PACKAGED else folder / image.path
    name, data = images.read_bytes(place, image.path)
    sample = images.load(data, name=name)
    if sample.id != image.sha256:
        raise ImageError(
            f"Picture {image.path!r} in {str(folder)!r} is another file than the study's (sha256 "
            f"{sample.id[:_SHOWN]}, not {image.sha256[:_SHOWN]}); name the folder that holds the study's."
        )
    return replace(sample, label=image.label)


def compare_request(plan: StudyPlan, cell: tuple[str, str, str]) -> CompareRequest:
    """Return the request that compares one picture like a cell of a study.

    The user's weights and calibration pictures are looked for where the study's command names them. Under a protocol
    whose observers go on from picture to picture, a comparison starts them anew: its maps are not those of the study.

    Args:
        plan: of the study.
        cell: (model, setting, protocol).

    Raises:
        UsageError: the study has no such cell, or its calibration pictures are not here.
        CheckpointError: as ``weights_choice``.
    """
    model, variant = plan.cell(cell)
    if isinstance(variant, FileVariant):
        raise UsageError(f"{variant.label} of {model.name} is a file; compare it by its card.")
    return CompareRequest(
        model=model_choice(plan, model),
        weights=weights_choice(plan, model),
        quant=variant.quant,
        cam=replace(plan.cam, layer=model.layer),
        calibration=calibration_folder(plan),
        deployed=variant.deployed,
        names=model.weights.names,
        backend=plan.backend,
    )


def model_choice(plan: StudyPlan, model: StudyModel) -> str:
    """Return a study's model as ``CompareRequest`` takes it: its name, or the path of its card.

    Raises:
        UsageError: the card is not where the study's command names it, or is another one.
    """
    if not model.origin:
        return model.name
    for path in (*_options(plan.command, "--card"), *",".join(_options(plan.command, "--models")).split(",")):
        if is_card(path) and Path(path).is_file() and read_card(Path(path)).name == model.name:
            return path
    raise UsageError(
        f"The card of {model.name} is not where the study's command names it on this machine; put it there, or name "
        "it by --card."
    )


def weights_choice(plan: StudyPlan, model: StudyModel) -> str:
    """Return the weights of a study's model, as ``CompareRequest`` takes them.

    Raises:
        UsageError: they are a file that is not where the study's command names it.
    """
    ref = model.weights
    if ref.source != "file":
        return ref.name
    if model.origin:
        located = networks.resolve(networks.spec(model_choice(plan, model)))
        return str(located.path or located.ref.name)
    named = dict(entry.partition("=")[::2] for entry in _options(plan.command, "--weights"))
    path = named.get(model.name)
    if path and Path(path).is_file():
        return path
    raise UsageError(
        f"The weights of {model.name} are the file {ref.name!r} (sha256 {ref.sha256[:_SHOWN]}), which is not at "
        f"{path or 'a place that the study names'!r} on this machine; put it there."
    )


def calibration_folder(plan: StudyPlan) -> Path | None:
    """Return the folder of a study's calibration pictures, None for the bundled photographs.

    Raises:
        UsageError: the pictures are not here, or are other ones.
    """
    named = _options(plan.command, "--calibration")
    folder = Path(named[-1]) if named else None
    ref = calibration_set(folder).ref
    if ref.sha256 != plan.calibration.sha256:
        raise UsageError(
            f"The study was calibrated on {plan.calibration.source} (sha256 {plan.calibration.sha256[:_SHOWN]}), which "
            f"is not what {ref.source} holds here (sha256 {ref.sha256[:_SHOWN]}); put the study's pictures there."
        )
    return folder


def picture_grid(
    bench: Workbench,
    plan: StudyPlan,
    index: int,
    folder: Path,
    cells: Sequence[tuple[str, str, str]],
    progress: Progress = no_progress,
) -> tuple[tuple[Comparison, ...], ...]:
    """Compare one picture like cells of a study.

    Args:
        bench: compares; comparisons that its store has are not computed again.
        plan: of the study.
        index: the picture's place in the plan.
        folder: of the pictures.
        cells: (model, setting, protocol) of one protocol.
        progress: reports what is being done; whatever it raises ends the call.

    Returns:
        For each model, in the order of the cells, its comparisons by bit-width.

    Raises:
        UsageError: as ``study_picture`` and ``compare_request``; or the weights are other ones than the study's.
        QuantvizError: as ``Workbench.compare``.
    """
    sample = study_picture(plan, index, folder)
    digests = {model.name: model.weights.sha256 for model in plan.models}
    rows: dict[str, list[Comparison]] = {}
    for cell in cells:
        comparison = _compared(bench, plan, cell, sample, progress)
        if comparison.weights.sha256 != digests[cell[0]]:
            raise UsageError(
                f"The weights of {cell[0]} here (sha256 {comparison.weights.sha256[:_SHOWN]}) are not the study's "
                f"({digests[cell[0]][:_SHOWN]}); put the study's file in their place."
            )
        rows.setdefault(cell[0], []).append(comparison)
    return tuple(map(tuple, rows.values()))


def _compared(
    bench: Workbench, plan: StudyPlan, cell: tuple[str, str, str], sample: ImageSample, progress: Progress
) -> Comparison:
    model, variant = plan.cell(cell)
    if not isinstance(variant, FileVariant):
        return bench.compare(compare_request(plan, cell), sample, progress)
    card = read_card(Path(model_choice(plan, model)))
    card = replace(card, variants=tuple(entry for entry in card.variants if entry.name == variant.label))
    request = CompareRequest(str(card.path), cam=replace(plan.cam, layer=model.layer), names=model.weights.names)
    comparison = compare_card(bench, card, request, sample, progress).get(variant.label)
    given = comparison.quant.details.get("sha256") if comparison and isinstance(comparison.quant, GivenQuant) else ""
    if comparison is None or given != variant.sha256:
        raise UsageError(f"File {variant.file!r} of card {card.path.name!r} is not the study's; put that in its place.")
    return comparison


def _options(command: str, name: str) -> list[str]:
    """Return the values of an option in a command line."""
    try:
        words = shlex.split(command)
    except ValueError:
        return []
    return [value for word, value in pairwise(words) if word == name]
