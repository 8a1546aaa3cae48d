"""How far a quantized network's logits lie from the float network's, on the pictures of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quantviz import images
from quantviz.comparison.files import networks_of, pairs_of
from quantviz.comparison.files_request import files_of_card, preprocessing_of_files
from quantviz.comparison.loaded import deciding_versions
from quantviz.comparison.machine import backend_versions, integer_kernels
from quantviz.comparison.workbench import Workbench
from quantviz.networks.card import read_card
from quantviz.specs import (
    CALIBRATED,
    CamSpec,
    FileVariant,
    Preprocessing,
    Progress,
    StoredRecord,
    UsageError,
    Variant,
    digest_of,
)
from quantviz.store import TensorStore
from quantviz.study.pictures import compare_request, model_choice, pictures_folder, study_picture
from quantviz.study.specs.plan import StudyModel, StudyPlan

if TYPE_CHECKING:
    from torch import nn

    from quantviz.cam import Locked

_VERSION = 1
Cell = tuple[str, str, str]
Float64 = npt.NDArray[np.float64]
Pair = tuple["Locked[nn.Module]", "Locked[nn.Module]"]


def picture_logits(
    store: TensorStore, plan: StudyPlan, cell: Cell, places: Sequence[int], progress: Progress
) -> Float64:
    """Return how far the logits lie from the float network's: sum (z_q - z)^2 / sum z^2 over the classes.

    The inverse of the logits' SQNR, as a ratio, of each picture. Unlike drift and flips it sees what lies behind the
    target layer, and unlike accuracy hardly needs pictures: rounding moves every logit of every picture.

    Args:
        store: where the values are kept.
        plan: of the study; pictures, weights and cards are looked for where it and its command name them.
        cell: (model, setting, protocol) of the plan, under the calibrated protocol, deployed, or a file.
        places: of the pictures in the plan.
        progress: reports what is being done; whatever it raises ends the call.

    Returns:
        float64 (n,); 1, as far as the signal, where logits are not finite.

    Raises:
        UsageError: the protocol has deviations, or something of the study is not here.
        ImageError: a picture is missing, or is another one.
    """
    model, variant = plan.cell(cell)
    if isinstance(variant, FileVariant):
        preprocessing, key, networks = _of_files(plan, model, variant)
    else:
        preprocessing, key, networks = _simulated(store, plan, cell, variant, progress)
    digest = digest_of({**key, "version": _VERSION, "images": [plan.images[place].sha256 for place in places]})
    record = store.get(digest)
    if record is None:
        values = _measured(plan, places, preprocessing, networks(), progress)
        record = StoredRecord({"noise": values})
        store.put(digest, record)
    return np.asarray(record.arrays["noise"], np.float64)


def _simulated(
    store: TensorStore, plan: StudyPlan, cell: Cell, variant: Variant, progress: Progress
) -> tuple[Preprocessing, dict[str, object], Callable[[], Pair]]:
    if variant.quant.protocol != CALIBRATED:
        raise UsageError(f"logit_noise needs the {CALIBRATED} protocol or deployed, not {cell[2]!r}; leave it out.")
    bench = Workbench(store, float_models=1, quantized_models=1)
    request = compare_request(plan, cell)
    subject = bench.subject(request, progress)

    def networks() -> Pair:
        cam = CamSpec(request.cam.method, subject.layer)
        return bench.networks.reference(subject, progress), bench.network(subject, variant, cam, progress)[0]

    kernels = integer_kernels() if variant.deployed else ""
    decides = {"quantization": variant.quant, "calibration": subject.calibration.ref.sha256, "kernels": kernels}
    key = subject.key("logit noise", **decides)
    return subject.ref.preprocessing, {"network": key}, networks


def _of_files(
    plan: StudyPlan, model: StudyModel, variant: FileVariant
) -> tuple[Preprocessing, dict[str, object], Callable[[], Pair]]:
    from quantviz.cam import Locked

    card = read_card(Path(model_choice(plan, model)))
    card = replace(card, variants=tuple(entry for entry in card.variants if entry.name == variant.label))
    files = files_of_card(card, model.layer)
    (name, pair), *_ = pairs_of(files).items()
    if pair.quantized.file.sha256 != variant.sha256:
        raise UsageError(f"File {variant.file!r} of card {card.path.name!r} is not the study's; put that in its place.")

    def networks() -> Pair:
        first, second = networks_of(files, name, pair)
        return Locked(first.module), Locked(second.module)

    preprocessing = preprocessing_of_files(files)
    key: dict[str, object] = {
        "kind": "logit noise",
        "files": [pair.reference.file.sha256, variant.sha256],
        "preprocessing": preprocessing,
        "versions": deciding_versions(),
        "backend": backend_versions("onnxruntime"),
        "kernels": integer_kernels(),
    }
    return preprocessing, key, networks


def _measured(
    plan: StudyPlan, places: Sequence[int], preprocessing: Preprocessing, networks: Pair, progress: Progress
) -> Float64:
    import torch

    folder, values = pictures_folder(plan), []
    for done, place in enumerate(places):
        progress("Logits", done / len(places))
        crop = images.crop(study_picture(plan, place, folder).rgb, preprocessing)
        picture = torch.from_numpy(images.normalize(crop, preprocessing))
        logits = []
        for network in networks:
            with network.locked() as module, torch.no_grad():
                logits.append(module(picture).double().numpy())
        values.append(_noise(*logits))
    return np.array(values, np.float64)


def _noise(first: Float64, second: Float64) -> float:
    noise, signal = float(np.square(second - first).sum()), float(np.square(first).sum())
    return noise / signal if np.isfinite(noise) and signal > 0 else 1.0
