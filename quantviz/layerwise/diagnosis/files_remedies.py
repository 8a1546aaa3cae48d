"""Remedies for a quantized ONNX file that are edits of its graph, measured on pictures they were not chosen on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from quantviz import images
from quantviz.comparison.files import pairs_of
from quantviz.comparison.files_request import FilesRequest, preprocessing_of_files
from quantviz.layerwise.diagnosis.causes import REACH, REMEDIES
from quantviz.layerwise.diagnosis.files import diagnose_files, diagnose_pair
from quantviz.layerwise.diagnosis.files_drift import FileDrifts, ranked
from quantviz.layerwise.diagnosis.remedies import MARGIN, Measured, Trial
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures, TensorHistogram
from quantviz.networks.onnx_files import Opened, pair_of
from quantviz.specs import ImageSample, Phase, Progress, UsageError, no_progress
from quantviz.statistics import paired
from quantviz.store import TensorStore

if TYPE_CHECKING:
    from quantviz.networks.onnx_files.editing import Draft, PairEditor

FILE_REMEDIES: Final = (
    "exclude",
    "per_channel",
    "recalibrate",
    "percentile",
    "full_range",
    "affine",
    "more_bits",
    "reduce_range",
    "fold",
)
"""The remedies that are edits of a file's graph."""
INSTEAD: Final = {"equalize": "more_bits"}
"""What stands in for a remedy that no edit of one tensor does, where one is chosen by itself."""
TAILS: Final = 0.001
"""Part of the values that ``percentile`` leaves out, half at either end."""
_FULL_BITS, _WIDE_BITS = 8, 16


@dataclass(frozen=True, slots=True)
class FileTrial:
    """What a remedy does to a quantized file.

    Attributes:
        diagnosis: before.
        trial: the measurement.
        model: the mended file's bytes.
    """

    diagnosis: Diagnosis
    trial: Trial
    model: bytes


def mended_file(editor: PairEditor, entry: TensorFigures | None, remedy: str, name: str) -> Opened:
    """Return a pair's quantized file with a remedy for one tensor, edited in memory.

    Args:
        editor: of the pair.
        entry: the tensor's figures, whose range and histogram set new ranges; None for ``fold`` of a tensor that is on
            no grid.
        remedy: of ``FILE_REMEDIES``.
        name: the tensor's name.

    Raises:
        UsageError: the remedy takes another file or another tensor.
    """
    if remedy not in FILE_REMEDIES:
        what = REMEDIES.get(remedy, "")
        advice = f"takes another file ({what})" if what else "is unknown"
        raise UsageError(f"Remedy {remedy!r} {advice}; an ONNX file takes one of {', '.join(FILE_REMEDIES)}.")
    from quantviz.networks.onnx_files import regrid

    draft = editor.draft()
    if remedy == "fold":
        regrid.fold_batch_norm(draft, name)
    elif name in editor.activations and entry is not None:
        _mend_activation(draft, entry, remedy)
    elif name in editor.stored and entry is not None:
        _mend_stored(draft, entry, remedy)
    else:
        raise UsageError(f"There is no tensor {name!r} on a grid in the quantized file; name another.")
    return draft.opened()


def _mend_activation(draft: Draft, entry: TensorFigures, remedy: str) -> None:
    from quantviz.networks.onnx_files import regrid

    tensor, low, high = draft.editor.activations[entry.name], entry.low, entry.high
    if remedy == "exclude":
        regrid.exclude(draft, tensor)
        return
    if remedy in ("per_channel", "reduce_range"):
        raise UsageError(f"Remedy {remedy!r} is one for a weight, and {entry.name} is an activation; try more_bits.")
    if remedy == "percentile":
        low, high = _middle(entry.histogram)
    bits = _wider(entry) if remedy == "more_bits" else max(entry.site.bits or 0, _FULL_BITS)
    symmetric = entry.site.symmetric and remedy not in ("affine", "more_bits")
    regrid.set_activation(draft, tensor, low, high, bits=bits, symmetric=symmetric)


def _mend_stored(draft: Draft, entry: TensorFigures, remedy: str) -> None:
    from quantviz.networks.onnx_files import regrid

    tensor = draft.editor.stored[entry.name]
    if remedy == "exclude":
        regrid.exclude(draft, tensor)
        return
    if entry.site.role == "bias" or remedy not in ("per_channel", "more_bits", "reduce_range"):
        fit = "exclude" if entry.site.role == "bias" else "exclude, per_channel, more_bits or reduce_range"
        raise UsageError(f"Remedy {remedy!r} does nothing for {entry.name}, a {entry.site.role}; try {fit}.")
    regrid.set_weight(
        draft,
        tensor,
        bits=_wider(entry) if remedy == "more_bits" else _FULL_BITS,
        per_channel=remedy == "per_channel" or entry.site.axis is not None,
        greatest=regrid.REDUCED if remedy == "reduce_range" else None,
    )


def _wider(entry: TensorFigures) -> int:
    """Return the bits that ``more_bits`` gives: 8 where fewer are used, else 16."""
    narrow = entry.site.role == "weight" and entry.used is not None and entry.used < REACH
    return _FULL_BITS if narrow or (entry.site.bits or 0) < _FULL_BITS else _WIDE_BITS


def _middle(histogram: TensorHistogram) -> tuple[float, float]:
    """Return the range that all but ``TAILS`` of the float values lie in."""
    below = np.cumsum(histogram.reference) / max(int(histogram.reference.sum()), 1)
    first, last = np.searchsorted(below, [TAILS / 2, 1 - TAILS / 2])
    return float(histogram.edges[first]), float(histogram.edges[min(last + 1, len(histogram.edges) - 1)])


def try_file_remedy(
    files: FilesRequest,
    samples: Sequence[ImageSample],
    tensor: str | None = None,
    remedy: str | None = None,
    progress: Progress = no_progress,
    *,
    method: str = "gradcam++",
    store: TensorStore | None = None,
) -> FileTrial:
    """Diagnose a quantized file on every other picture, mend it in memory, and measure it on the pictures between.

    Args:
        files: a float file and one quantized file.
        samples: at least two pictures.
        tensor: that is to be mended; None for the one of the most severe cause, else the worst one.
        remedy: of ``FILE_REMEDIES``; None for the cause's, or what stands in for it, else to leave the operator in
            float.
        progress: reports what is being done.
        method: of the maps, one of ``CAM_METHODS``.
        store: where changes of maps are kept.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: fewer than two pictures, several quantized files, an unknown tensor; or as ``mended_file``.
    """
    _check(files, samples)
    chosen, held_out = samples[::2], samples[1::2]
    ((name, found),) = diagnose_files(files, chosen, progress).items()
    pair = pairs_of(files)[name]
    drifts = FileDrifts(files, name, pair, tuple(held_out), method, store)
    place, remedy = _chosen(found, tensor, remedy)
    entry = next((one for one in found.tensors if one.name == place), None)
    progress(f"Trying {remedy} for {place}", None, Phase.WORKING)
    mended = mended_file(drifts.editor, entry, remedy, place)
    inputs = (_input(files, sample) for sample in chosen)
    twin = _twin(diagnose_pair(pair_of(pair.reference, mended), inputs), entry)
    rows = [drifts.without(()), drifts.of(mended)]
    before, after = (
        Measured(None if one is None else one.sqnr_isolated, changes.drift(drifts.labels), opened.file.model.ByteSize())
        for one, changes, opened in zip((entry, twin), rows, (pair.quantized, mended), strict=True)
    )
    difference = paired(rows[1].cams, rows[0].cams, margin=MARGIN)
    trial = Trial(place, remedy, None, before, after, difference.mean, difference.interval, len(held_out))
    return FileTrial(found, trial, mended.file.model.SerializeToString())


def _check(files: FilesRequest, samples: Sequence[ImageSample]) -> None:
    if len(samples) < 2:
        raise UsageError("A remedy is tried on pictures that it was not chosen on; name two pictures or more.")
    if len(files.quantized) > 1:
        raise UsageError("A remedy is tried on one quantized file; name one.")


def _input(files: FilesRequest, sample: ImageSample) -> np.ndarray:
    preprocessing = preprocessing_of_files(files)
    return images.normalize(images.crop(sample.rgb, preprocessing), preprocessing)


def _chosen(found: Diagnosis, tensor: str | None, remedy: str | None) -> tuple[str, str]:
    """Return the name of the tensor to mend, and by what."""
    names = {entry.name for entry in found.tensors} | {cause.tensor for cause in found.causes}
    if tensor is not None and tensor not in names:
        raise UsageError(
            f"There is no tensor {tensor!r}; `quantviz diagnose --csv` lists them, {found.ranking[0]} say."
        )
    fitting = [cause for cause in found.causes if tensor in (None, cause.tensor)]
    mendable = [cause.tensor for cause in fitting if _has_place(found, cause.tensor, cause.remedy)]
    place = tensor or (mendable[0] if mendable else ranked(found)[0].name)
    cause = next((cause for cause in fitting if cause.tensor == place), None)
    own = "exclude" if cause is None else cause.remedy
    return place, remedy or INSTEAD.get(own, own)


def _has_place(found: Diagnosis, name: str, remedy: str) -> bool:
    """Tell whether an edit can mend a cause: its tensor lies on a grid, or its batch norm is to be folded."""
    if remedy not in FILE_REMEDIES and remedy not in INSTEAD:
        return False
    return remedy == "fold" or any(entry.name == name for entry in found.tensors)


def _twin(tensors: Iterable[TensorFigures], entry: TensorFigures | None) -> TensorFigures | None:
    """Return the tensor's figures in the mended file, where it may have another name."""
    if entry is None:
        return None
    role, layer = entry.site.role, entry.site.layer
    for one in tensors:
        if one.site.role != role:
            continue
        same = one.name in (entry.name, f"{entry.name}__real") if role == "activation" else False
        if same or (role != "activation" and one.site.layer.removesuffix("__real") == layer):
            return one
    return None
