"""A study's files on this machine, looked for and checked by their sha256."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from quantviz import images, networks
from quantviz.comparison.calibration import calibration_set
from quantviz.specs import ImageError, Phase, Progress, UsageError
from quantviz.study.pictures import calibration_folder, model_choice, weights_choice
from quantviz.study.specs.plan import StudyModel, StudyPlan

_NAMED = 3  # files that a sentence names


def found_weights(plan: StudyPlan, model: StudyModel, given: str | None, progress: Progress) -> str:
    """Return the weights of a study's model, as ``CompareRequest`` takes them; their sha256 is checked first.

    Args:
        plan: of the study.
        model: of the plan.
        given: the user's choice; None for that of the plan and its command.
        progress: reports how a download goes.

    Raises:
        UsageError: they are not here, or other ones than the study's.
        WeightsUnavailable: published weights are neither on disk nor reachable.
    """
    ref, again = model.weights, f"name the right file by --weights {model.name}=FILE"
    try:
        choice = given or weights_choice(plan, model)
    except UsageError:
        raise UsageError(
            f"The weights of {model.name} are the file {ref.name!r} (sha256 {ref.sha256}), which is not where the "
            f"study's command names it; {again}."
        ) from None
    digest = networks.resolve(networks.spec(model_choice(plan, model)), choice, progress=progress).ref.sha256
    if digest != (ref.sha256 if ref.trained else ""):  # untrained weights have no file to tell them by
        raise UsageError(
            f"The weights {choice!r} of {model.name} have the sha256 {digest or 'of none'}, not the study's "
            f"{ref.sha256}; {again}."
        )
    return choice


def found_calibration(plan: StudyPlan, given: Path | None) -> Path | None:
    """Return the folder of a study's calibration pictures, None for the bundled photographs.

    Raises:
        UsageError: they are not here, or other ones.
    """
    wanted = plan.calibration
    try:
        folder = given or calibration_folder(plan)
        if calibration_set(folder).ref.sha256 == wanted.sha256:
            return folder
    except UsageError:  # there is no folder, or it holds other pictures
        pass
    where = f"in {str(given)!r}" if given else "here"
    raise UsageError(
        f"The study was calibrated on {wanted.source!r} ({wanted.images} inputs, sha256 {wanted.sha256}), which is not "
        f"{where}; name its folder by --calibration."
    )


def gathered(wanted: Sequence[tuple[str, str]], folder: Path, place: Path, option: str, progress: Progress) -> Path:
    """Link files into a new folder under their old paths, and return the folder.

    A file is looked for under its old path in ``folder``, then under its name anywhere in it.

    Args:
        wanted: (path relative to the folder that it was in, sha256 in hex) of each file.
        folder: where they are now.
        place: the new folder.
        option: of the command line, that names another folder.
        progress: reports how far it is.

    Raises:
        UsageError: files are missing or other ones.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise UsageError(f"Folder {str(folder)!r} does not exist on this machine; name the right one by {option}.")
    elsewhere: dict[str, list[Path]] | None = None
    wrong: list[str] = []
    for done, (path, sha256) in enumerate(wanted):
        progress("Looking for the study's files", done / len(wanted), Phase.READING)
        file: Path | None = folder / path
        if not _is(folder / path, sha256):
            elsewhere = _by_name(folder) if elsewhere is None else elsewhere
            same = elsewhere.get(Path(path).name, [])
            file = next((other for other in same if _is(other, sha256)), None)
        if file is None:
            wrong.append(f"{path!r} is {'another file' if (folder / path).exists() else 'missing'}")
            continue
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).symlink_to(file)
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise UsageError(
            f"{len(wrong)} of {len(wanted)} files of the study are not in {str(folder)!r}, by their sha256: "
            f"{', '.join(wrong[:_NAMED])}{more}; name the right folder by {option}."
        )
    return place


def _is(file: Path, sha256: str) -> bool:
    try:
        return images.digest(file) == sha256
    except ImageError:
        return False


def _by_name(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for top, _, names in os.walk(folder):
        for name in names:
            files.setdefault(name, []).append(Path(top, name))
    return files
