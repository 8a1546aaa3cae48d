"""Class activation maps: computed directly from one forward pass, by the published formulas.

The test suite holds them against pytorch-grad-cam, which computes the same. What differs here, and why:

- A map costs the forward pass and the part of the network after the target layer, there and back. The library
  differentiates all of the network, down to every weight.
- Grad-CAM++ is the closed form of its paper. The library adds 1e-6 to a denominator that is often smaller than
  that (gradients of a logit are about 1e-3, squared), which changes the map: measured on SqueezeNet, the
  correlation with the closed form drops to 0.90-0.98.
- EigenCAM and EigenGradCAM have an arbitrary sign, so that two nearly equal networks can get opposite maps. The
  sign is fixed: towards the activation's energy, and towards positive evidence.
- AblationCAM sets a channel to zero, as its paper does. Where a layer has negative values the library instead writes
  -1e7, -2e7, ... by the channel's place in the batch, which says more about the next layer's signs (or clipping).
  And the drop is taken relative to the score's magnitude, so that a negative score does not turn the map around.
- ScoreCAM masks a batch of images at a time, where the library makes one for every channel first.
- Sums are taken in float64, and maps that carry no evidence are flagged instead of being stretched to [0, 1].
- One model serves one call at a time, and is left as it was, however a call ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from quantviz.cam import features as formulas
from quantviz.cam.channels import Scored, ablationcam, scorecam
from quantviz.cam.features import Array, Features, Formula
from quantviz.cam.kept import KeptFeatures
from quantviz.cam.locked import Locked, lockable
from quantviz.cam.threads import cores
from quantviz.specs import CamSpec, Heatmap, Progress, QuantvizError, UsageError, no_progress

# Rounding of float32 sums over a few thousand channels stays below this part of the summands.
_ROUNDING = 1e-5
# A logit's own resolution in float32: what moves it by less is no evidence.
_LEAST_EVIDENCE = 1e-7

# Up to so many images share a pass: on a CPU 8 to 20 % faster than one by one, and than sixteen (measured).
_AT_ONCE = 4

_BY_GRADIENT: dict[str, Formula] = {
    "gradcam": formulas.gradcam,
    "gradcam++": formulas.gradcam_plus_plus,
    "xgradcam": formulas.xgradcam,
    "hirescam": formulas.hirescam,
    "layercam": formulas.layercam,
    "eigengradcam": formulas.eigengradcam,
}
_OWN = threading.local()

_BY_CHANNEL: dict[str, Scored] = {"scorecam": scorecam, "ablationcam": ablationcam}


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One model's map of one image.

    Attributes:
        heatmap: (H, W) at the input's resolution: ReLU, min-max, bilinear upsampling, min-max.
        native: (h, w) on the target layer's grid: ReLU, min-max.
        class_index: the class that the map explains.
        probabilities: softmax of the logits, float32 (classes,).
        logits: float32 (classes,).
    """

    heatmap: Heatmap
    native: Heatmap
    class_index: int
    probabilities: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]


def explain(
    model: nn.Module | Locked[nn.Module],
    image: Tensor,
    cam: CamSpec,
    class_index: int | None = None,
    progress: Progress = no_progress,
    kept: KeptFeatures | None = None,
) -> Explanation:
    """Return the class activation map of one image.

    Args:
        model: classifier in eval mode, float or quantized, bare or ``Locked``. One call at a time runs it; others wait.
        image: (1, 3, H, W) float32.
        cam: method and target layer; the layer must be named.
        class_index: the class to explain, or None for the model's own top-1.
        progress: reports how far the methods with many forward passes are.
        kept: of a model that does not change: where the image's forward pass is taken from, and kept. A map of an
            image that it holds costs the method's own work: a gradient at most, or the passes of single channels. The
            result is the same to the bit.

    Raises:
        UsageError: the layer or the class does not exist, or the layer gives no (N, C, h, w) tensor.
        QuantvizError: the model's logits are not finite, or do not depend on the layer.
    """
    return explain_many(model, image, [(cam, class_index)], progress, kept)[0]


def explain_many(
    model: nn.Module | Locked[nn.Module],
    image: Tensor,
    wanted: Sequence[tuple[CamSpec, int | None]],
    progress: Progress = no_progress,
    kept: KeptFeatures | None = None,
) -> list[Explanation]:
    """Return several maps of one image: other methods, other classes, other layers.

    All maps of one layer come from one forward pass, and all methods of one class from one gradient; each is what
    ``explain`` gives of it alone.

    Args:
        model: as in ``explain``.
        image: (1, 3, H, W) float32.
        wanted: method and target layer, and the class or None, of each map.
        progress: as in ``explain``.
        kept: as in ``explain``.

    Raises:
        UsageError: a layer or class does not exist, or a layer gives no (N, C, h, w) tensor.
        QuantvizError: logits are not finite, or do not depend on a layer.
    """
    for _, index in wanted:
        _check_class(index)
    passes: dict[str | None, Features] = {}
    explanations = []
    try:
        with lockable(model).locked() as module:
            for cam, index in wanted:
                if cam.layer not in passes:
                    recorded = any(other.method in _BY_GRADIENT for other, _ in wanted if other.layer == cam.layer)
                    passes[cam.layer] = _features(module, image, cam.layer, recorded, kept)
                explanations.append(_explanations(module, image, cam, passes[cam.layer], [index], progress)[0])
    finally:
        if kept is not None:
            kept.trim()
    return explanations


def explain_batch(
    model: nn.Module | Locked[nn.Module],
    images: Tensor,
    cam: CamSpec,
    class_indices: Sequence[int | None] | None = None,
) -> list[Explanation]:
    """Return one map of each image of a batch, four images to a forward pass; not by the methods with many passes.

    The same maps as ``explain`` gives image by image, but for float32's rounding, which depends on how many images
    share a pass: within 1e-4 for float networks. Where values are rounded to few bits, such a difference can move one
    to the next level.

    Args:
        model: as in ``explain``.
        images: (N, 3, H, W) float32.
        cam: method and target layer; the layer must be named.
        class_indices: the class of each image, or None for its top-1; None for the top-1 of all.

    Raises:
        UsageError: the method is ScoreCAM or AblationCAM, the layer or a class does not exist, or the layer gives no
            (N, C, h, w) tensor.
        QuantvizError: logits are not finite, or do not depend on the layer.
    """
    classes = [None] * len(images) if class_indices is None else list(class_indices)
    if cam.method in _BY_CHANNEL:
        raise UsageError(f"Method {cam.method!r} takes one image at a time; use another for a batch.")
    if len(classes) != len(images):
        raise UsageError(f"{len(classes)} classes were given for {len(images)} images; give one for each.")
    for index in classes:
        _check_class(index)
    explanations: list[Explanation] = []
    with lockable(model).locked() as module:
        for start in range(0, len(classes), _AT_ONCE):
            part, wanted = images[start : start + _AT_ONCE], classes[start : start + _AT_ONCE]
            features = _features(module, part, cam.layer, cam.method in _BY_GRADIENT)
            explanations += _explanations(module, part, cam, features, wanted, no_progress)
    return explanations


def explain_each(
    wanted: Sequence[tuple[nn.Module | Locked[nn.Module], CamSpec]],
    image: Tensor,
    class_index: int | None = None,
    *,
    shared: bool = False,
) -> list[Explanation]:
    """Return one map of an image by each of several networks, at the same time, in a thread each.

    The same maps as ``explain`` gives, to the bit: every network runs in one thread. With fewer torch threads than
    networks, one network runs after another.

    Args:
        wanted: different networks, each with its map's method and layer.
        image: as in ``explain``.
        class_index: the class to explain, or None for each network's own top-1.
        shared: where no class is given: explain the first network's top-1 of all that have this class.

    Raises:
        UsageError: a layer or class does not exist, or a layer gives no (N, C, h, w) tensor.
        QuantvizError: logits are not finite, or do not depend on a layer.
    """
    _check_class(class_index)
    shared, (own, *others) = shared and class_index is None, wanted
    if cores() < len(wanted):
        first = explain(own[0], image, own[1], class_index)
        index = first.class_index if shared else class_index
        return [first, *(_when_known(model, image, cam, lambda: index, shared) for model, cam in others)]
    known: Future[int | None] = Future()

    def other(model: Any, cam: CamSpec) -> Explanation:
        return _when_known(model, image, cam, known.result if shared else lambda: class_index, shared)

    waiting = [_helpers().submit(other, *one) for one in others]
    try:
        first = _when_known(own[0], image, own[1], lambda: class_index, False, known.set_result)
    finally:
        if not known.done():  # it failed before its class was known
            known.set_result(None)
        wait(waiting)
    return [first, *(one.result() for one in waiting)]


def _when_known(
    model: Any,
    image: Tensor,
    cam: CamSpec,
    index: Callable[[], int | None],
    if_it_has: bool,
    tell: Callable[[int], None] | None = None,
) -> Explanation:
    """Return the map of the class that ``index`` gives behind the forward pass; its own for one that it lacks."""
    with lockable(model).locked() as module:
        features = _features(module, image, cam.layer, cam.method in _BY_GRADIENT)
        wanted = index()
        wanted = None if if_it_has and (wanted or 0) >= features.logits.shape[1] else wanted
        if tell is not None:
            tell(features.check([wanted])[0])
        return _explanations(module, image, cam, features, [wanted], no_progress)[0]


def gives_gradient(model: nn.Module | Locked[nn.Module], image: Tensor, layer: str | None) -> bool:
    """Tell whether logits have a gradient with respect to a layer's activation that is not zero throughout.

    Rounding without a straight-through gradient gives zeros, and integers give none.

    Args:
        model: as in ``explain``.
        image: (1, 3, H, W) float32.
        layer: dotted name of the target layer.
    """
    with lockable(model).locked() as module:
        try:
            features = _features(module, image, layer, differentiated=True)
            count = features.logits.shape[1]
            return any(features.gradients(module, (index,)).any() for index in range(0, count, max(1, count // 8)))
        except QuantvizError:
            return False


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "explain_each")


def _check_class(index: int | None) -> None:
    if index is not None and index < 0:
        raise UsageError(f"Class {index} is negative; classes count from 0.")


def _features(
    model: nn.Module, images: Tensor, layer: str | None, differentiated: bool, kept: KeptFeatures | None = None
) -> Features:
    if model.training:
        model.eval()
    if kept is not None:
        return kept.features(model, images, layer)
    return Features(model, images, layer, gradients=differentiated)


def _explanations(
    model: nn.Module,
    images: Tensor,
    cam: CamSpec,
    features: Features,
    wanted: Sequence[int | None],
    progress: Progress,
) -> list[Explanation]:
    """Return the map of each image by one method."""
    classes = features.check(wanted)
    activations, probabilities = features.activations(), features.probabilities()
    logits: npt.NDArray[np.float32] = features.logits.detach().numpy().copy()
    gradients = features.gradients(model, classes) if cam.method in _BY_GRADIENT else None
    explanations = []
    for at, index in enumerate(classes):
        with np.errstate(all="ignore"):
            if gradients is not None:
                summed = _BY_GRADIENT[cam.method](activations[at], gradients[at])
            elif cam.method in _BY_CHANNEL:
                with torch.no_grad():
                    summed = _BY_CHANNEL[cam.method](model, images, cam.layer, features, index, progress)
            else:
                summed = formulas.eigencam(activations[at])
            heatmap, native = _heatmaps(*summed, gradients is not None, features.size)
        explanations.append(Explanation(heatmap, native, index, probabilities[at], logits[at]))
    return explanations


def _heatmaps(raw: Array, magnitude: float, in_logits: bool, size: tuple[int, int]) -> tuple[Heatmap, Heatmap]:
    """Return a raw map (h, w) at the input's resolution and on its own grid."""
    if reason := _degenerate(raw, magnitude, in_logits):
        return Heatmap(np.zeros(size, np.float32), reason), Heatmap(np.zeros(raw.shape, np.float32), reason)
    native = _min_max(np.maximum(raw, 0))
    rows, columns = (_interpolation(*sides) for sides in zip(native.shape, size, strict=True))
    return _heatmap(_min_max(np.matmul(rows.T @ native, columns, out=_scratch(size)), in_place=True)), _heatmap(native)


def _scratch(size: tuple[int, int]) -> Array:
    """Return this thread's own float64 array of a size: a new one for each map takes as long as what is done to it."""
    if getattr(_OWN, "size", None) != size:
        _OWN.size, _OWN.values = size, np.empty(size)
    values: Array = _OWN.values
    return values


@lru_cache(maxsize=64)
def _interpolation(side: int, length: int) -> Array:
    """Return the matrix (side, length) that interpolates one dimension as torch does, linearly between centres.

    Two products of it take a quarter of the time of torch's bilinear interpolation of one map.
    """
    each = torch.eye(side, dtype=torch.float64)[None]
    matrix: Array = functional.interpolate(each, length, mode="linear", align_corners=False)[0].numpy()
    return matrix


def _heatmap(values: Array) -> Heatmap:
    frozen = values.astype(np.float32)
    frozen.setflags(write=False)  # nobody else has it: it need not be copied
    return Heatmap(frozen)


def _degenerate(raw: Array, magnitude: float, in_logits: bool) -> str:
    """Return why a raw map carries no evidence, or ""."""
    if not np.isfinite(raw).all():
        return "not finite"
    peak = float(raw.max())
    if peak <= 0:
        return "no positive evidence for the class"
    if peak - max(float(raw.min()), 0.0) <= _ROUNDING * peak:
        return "constant"
    if peak <= _ROUNDING * magnitude or (in_logits and peak <= _LEAST_EVIDENCE):
        return "evidence below the rounding of float32"
    return ""


def _min_max(values: Array, *, in_place: bool = False) -> Array:
    low, high = float(values.min()), float(values.max())
    scaled = np.subtract(values, low, out=values if in_place else None)
    scaled /= high - low
    return scaled
