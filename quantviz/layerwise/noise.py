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
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.drift import Changes, Drifts, MapAndLogits, decides, resolved
from quantviz.layerwise.specs import Drift, NoiseFloor
from quantviz.specs import RGB, CalibrationRef, ImageSample, Preprocessing, Progress, QuantSpec, digest_of, no_progress

if TYPE_CHECKING:
    from torch import nn

    from quantviz.cam import Locked

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

    All maps explain the class that the float network saw in the unchanged picture.

    Args:
        bench: with the models and the store.
        request: model, weights, map, quantization and calibration pictures.
        samples: the pictures, at least one.
        progress: told what is being done; whatever it raises ends the call.
        calibration: False leaves the third out, which takes two quantized networks (minutes where rounding is learned).

    Raises:
        UsageError: there is no picture; or as ``sensitivity``.
    """
    subject, cam = resolved(bench, request, progress)
    drifts = Drifts(bench, subject, cam, samples)
    grey = drifts.kept("grey twins", {}, partial(_grey, drifts, progress))
    shift = drifts.kept("shifted twins", {}, partial(_shift, drifts, progress))
    twins = _calibration(drifts, request.quant, progress) if calibration else None
    return NoiseFloor(grey.drift(drifts.labels), shift.drift(drifts.labels), twins)


def _grey(drifts: Drifts, progress: Progress) -> Changes:
    before = drifts.before(progress)
    crops = [_grey_moved(crop, sample.id) for crop, sample in zip(drifts.crops, drifts.samples, strict=True)]
    return Changes.of(before, drifts.answers(_float(drifts, progress), crops, progress, drifts.passes))


def _grey_moved(crop: RGB, digest: str) -> RGB:
    moved = crop.astype(np.int16) + np.random.default_rng(int(digest, 16)).integers(-1, 2, crop.shape)
    return moved.clip(0, 255).astype(np.uint8)


def _shift(drifts: Drifts, progress: Progress) -> Changes:
    before = drifts.before(progress)
    preprocessing = drifts.subject.ref.preprocessing
    crops = [_shifted(sample.rgb, preprocessing) for sample in drifts.samples]
    after = drifts.answers(_float(drifts, progress), crops, progress, drifts.passes)
    wide = [_is_wide(sample.rgb) for sample in drifts.samples]
    return Changes.of(
        [_overlap(found, across, slice(1, None)) for found, across in zip(before, wide, strict=True)],
        [_overlap(found, across, slice(None, -1)) for found, across in zip(after, wide, strict=True)],
    )


def _shifted(rgb: RGB, preprocessing: Preprocessing) -> RGB:
    """Return the crop whose window lies one pixel further along the picture's longer side."""
    side = preprocessing.crop
    wider = images.crop(rgb, replace(preprocessing, crop=side + 2 * _MARGIN))
    top, left = (_MARGIN, _MARGIN + 1) if _is_wide(rgb) else (_MARGIN + 1, _MARGIN)
    return np.ascontiguousarray(wider[top : top + side, left : left + side])


def _is_wide(rgb: RGB) -> bool:
    height, width = rgb.shape[:2]
    return bool(width >= height)


def _overlap(found: MapAndLogits, across: bool, part: slice) -> MapAndLogits:
    heatmap = found.heatmap[:, part] if across else found.heatmap[part]
    return replace(found, heatmap=np.ascontiguousarray(heatmap))


def _calibration(drifts: Drifts, quant: QuantSpec, progress: Progress) -> Drift | None:
    """Return the drift between networks calibrated on halves, or None where nothing is calibrated or halved."""
    calibrated = quant.learns or any(bits for bits in (quant.act_bits, *(b.act_bits for b in quant.layer_bits)))
    if not calibrated or len(drifts.subject.calibration.files) < 2:
        return None

    def measure() -> Changes:
        answers = []
        for half in _halves(drifts.subject):
            network = drifts.bench.networks.quantized(half, quant, progress)
            answers.append(drifts.answers(network, drifts.crops, progress))
        return Changes.of(*answers)

    found = drifts.kept("calibration twins", decides(drifts.subject, quant), measure)
    return found.drift(drifts.labels)


def _halves(subject: Subject) -> list[Subject]:
    """Return the subject twice, calibrated on every other picture and on the ones between."""
    whole = subject.calibration
    found = []
    for first in (0, 1):
        files, digests = whole.files[first::2], whole.digests[first::2]
        ref = CalibrationRef(
            f"{whole.ref.source}, every other one from number {first + 1}",
            whole.ref.images * len(files) // len(whole.files),
            digest_of([whole.ref.sha256, "half", first]),
        )
        found.append(replace(subject, calibration=CalibrationSet(ref, files, digests, whole.bundled)))
    return found


def _float(drifts: Drifts, progress: Progress) -> Locked[nn.Module]:
    return drifts.bench.networks.reference(drifts.subject, progress)
