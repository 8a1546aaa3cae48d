"""The noise floor: drift between twins that nobody would call different."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from quantviz import images
from quantviz.comparison.calibration import CalibrationSet
from quantviz.comparison.loaded import Subject
from quantviz.comparison.protocols import MANY_PASSES
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.drift import Changes, Drifts, MapAndLogits, decides, resolved
from quantviz.layerwise.specs import NoiseFloor
from quantviz.specs import (
    CALIBRATED,
    RGB,
    CalibrationRef,
    Comparison,
    Crop,
    ImageSample,
    Preprocessing,
    Progress,
    QuantSpec,
    digest_of,
    no_progress,
)

if TYPE_CHECKING:
    from torch import nn

    from quantviz.cam import Locked

_GREY, _SHIFT, _CALIBRATION = "grey twins", "shifted twins", "calibration twins"  # part of the store's keys
_MARGIN = 2  # of the wider crop; even, so that rounding its place halves the same way as the crop's own


def noise_floor(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
    *,
    calibration: bool = True,
) -> NoiseFloor:
    """Measure drift that is not quantization, over pictures.

    - grey: each channel of each pixel of the crop is moved by -1, 0 or +1 grey level, with equal chance, drawn with the
      picture's digest as seed, and clipped to 0..255.
    - shift: in the resized picture, the crop's window is moved by one pixel along the picture's longer side (to the
      right, or down). Where the window already reaches that edge, the line that enters is black. The maps are compared
      where both windows see the same pixels: without the first column (row) of the one and the last of the other.
    - calibration: the network is quantized twice, each time calibrated on every other calibration picture, and the
      second is compared with the first.

    All maps explain the class that the request names, or else what the float network saw in the unchanged picture.

    Args:
        bench: with the models and the store.
        request: model, weights, map, quantization and calibration pictures.
        samples: the pictures, at least one.
        progress: reports what is being done; whatever it raises ends the call.
        calibration: False leaves the third out, which takes two quantized networks (minutes where rounding is learned).

    Raises:
        UsageError: there is no picture; or as ``sensitivity``.
    """
    subject, cam = resolved(bench, request, progress)
    drifts, quant = Drifts(bench, subject, cam, samples, _class_of(request), request.crop), request.quant
    grey = drifts.cached(_GREY, {}, partial(_grey, drifts, progress))
    shift = drifts.cached(_SHIFT, {}, partial(_shift, drifts, progress))
    twins = None
    if calibration and _has_twins(subject, quant):
        measure = partial(_calibration, drifts, quant, progress)
        twins = drifts.cached(_CALIBRATION, decides(subject, quant), measure)
    return _floor(drifts, grey, shift, twins)


def with_floor(
    bench: Workbench, request: CompareRequest, comparison: Comparison, progress: Progress = no_progress
) -> Comparison:
    """Return a comparison with the noise floor of its picture, by which its verdict is decided.

    It takes two maps of the float network the first time, and none after that. The floor is that of the class that the
    float map explains. It is of eval mode and of a single pass, so that a protocol with deviations and methods of many
    passes have none.

    Args:
        bench: with the models and the store.
        request: what the comparison was made by.
        comparison: from ``bench.compare``.
        progress: reports what is being done; whatever it raises ends the call.

    Raises:
        as ``Workbench.compare``.
    """
    if request.quant.protocol != CALIBRATED or request.cam.method in MANY_PASSES:
        return comparison
    floor = noise_floor(bench, request, [comparison.sample], progress, calibration=False).floor
    return replace(comparison, floor=floor)


def stored_noise_floor(drifts: Drifts, quant: QuantSpec, *, calibration: bool = True) -> NoiseFloor | None:
    """Return what ``noise_floor`` would read from the store alone, or None where a part of it is missing.

    Args:
        drifts: of the pictures.
        quant: the quantization.
        calibration: as in ``noise_floor``.
    """
    grey, shift, twins = drifts.stored(_GREY, {}), drifts.stored(_SHIFT, {}), None
    if grey is None or shift is None:
        return None
    if calibration and _has_twins(drifts.subject, quant):
        twins = drifts.stored(_CALIBRATION, decides(drifts.subject, quant))
        if twins is None:
            return None
    return _floor(drifts, grey, shift, twins)


def _class_of(request: CompareRequest) -> int | None:
    return None if isinstance(request.target, str) else request.target


def _floor(drifts: Drifts, grey: Changes, shift: Changes, twins: Changes | None) -> NoiseFloor:
    labels = drifts.labels
    return NoiseFloor(grey.drift(labels), shift.drift(labels), None if twins is None else twins.drift(labels))


def _grey(drifts: Drifts, progress: Progress) -> Changes:
    before = drifts.before(progress)
    crops = [grey_moved(crop, sample.id) for crop, sample in zip(drifts.crops, drifts.samples, strict=True)]
    return Changes.of(before, drifts.answers(_float(drifts, progress), crops, progress, drifts.passes))


def grey_moved(crop: RGB, digest: str) -> RGB:
    """Return a crop of which each value is moved by -1, 0 or +1 grey level, drawn with the picture's digest as seed."""
    moved = crop.astype(np.int16) + np.random.default_rng(int(digest, 16)).integers(-1, 2, crop.shape)
    return moved.clip(0, 255).astype(np.uint8)


def _shift(drifts: Drifts, progress: Progress) -> Changes:
    before = drifts.before(progress)
    preprocessing = drifts.preprocessing
    crops = [_shifted(sample.rgb, preprocessing, drifts.crop) for sample in drifts.samples]
    after = drifts.answers(_float(drifts, progress), crops, progress, drifts.passes)
    wide = [is_wide(sample.rgb) for sample in drifts.samples]
    return Changes.of(
        [overlap(answer, across, slice(1, None)) for answer, across in zip(before, wide, strict=True)],
        [overlap(answer, across, slice(None, -1)) for answer, across in zip(after, wide, strict=True)],
    )


def _shifted(rgb: RGB, preprocessing: Preprocessing, chosen: Crop) -> RGB:
    """Return the crop whose window lies one pixel further along the picture's longer side."""
    if chosen != Crop():
        return images.crop(rgb, preprocessing, shift=(1, 0) if is_wide(rgb) else (0, 1))
    height, width = preprocessing.size
    wider = images.crop(rgb, replace(preprocessing, crop=(height + 2 * _MARGIN, width + 2 * _MARGIN)))
    top, left = (_MARGIN, _MARGIN + 1) if is_wide(rgb) else (_MARGIN + 1, _MARGIN)
    return np.ascontiguousarray(wider[top : top + height, left : left + width])


def is_wide(rgb: RGB) -> bool:
    """Tell whether a picture is at least as wide as it is high."""
    height, width = rgb.shape[:2]
    return bool(width >= height)


def overlap(answer: MapAndLogits, across: bool, part: slice) -> MapAndLogits:
    """Return an answer whose map is cut to a part of its columns, or of its rows."""
    heatmap = answer.heatmap[:, part] if across else answer.heatmap[part]
    return replace(answer, heatmap=np.ascontiguousarray(heatmap))


def _has_twins(subject: Subject, quant: QuantSpec) -> bool:
    """Return whether something is calibrated, on pictures that can be halved."""
    calibrated = quant.learns or any((quant.act_bits, *(bits.act_bits for bits in quant.layer_bits)))
    return calibrated and len(subject.calibration.files) > 1


def _calibration(drifts: Drifts, quant: QuantSpec, progress: Progress) -> Changes:
    """Return the changes between networks that are calibrated on halves of the calibration pictures."""
    answers = []
    for half in _halves(drifts.subject):
        network = drifts.bench.networks.quantized(half, quant, progress)
        answers.append(drifts.answers(network, drifts.crops, progress))
    return Changes.of(*answers)


def _halves(subject: Subject) -> list[Subject]:
    """Return the subject twice, calibrated on every other picture and on the ones between."""
    whole = subject.calibration
    halves = []
    for first in (0, 1):
        files, digests = whole.files[first::2], whole.digests[first::2]
        ref = CalibrationRef(
            f"{whole.ref.source}, every other one from number {first + 1}",
            whole.ref.images * len(files) // len(whole.files),
            digest_of([whole.ref.sha256, "half", first]),
        )
        halves.append(replace(subject, calibration=CalibrationSet(ref, files, digests, whole.bundled)))
    return halves


def _float(drifts: Drifts, progress: Progress) -> Locked[nn.Module]:
    return drifts.bench.networks.reference(drifts.subject, progress)
