"""Class activation maps by pytorch-grad-cam; its only importer, and where its traps are handled.

What differs here from calling the library directly, and why:

- Grad-CAM++ is the closed form of its paper. The library adds 1e-6 to a denominator that is often smaller than
  that (gradients of a logit are about 1e-3, squared), which changes the map: measured on SqueezeNet, the
  correlation with the closed form drops to 0.90-0.98.
- EigenCAM and EigenGradCAM have an arbitrary sign, so that two nearly equal networks can get opposite maps. The
  sign is fixed: towards the activation's energy, and towards positive evidence.
- AblationCAM sets a channel to zero, as its paper does. Where a layer has negative values the library instead writes
  -1e7, -2e7, ... by the channel's place in the batch, which says more about the next layer's signs (or clipping).
  And the drop is taken relative to the score's magnitude, so that a negative score does not turn the map around.
- The target's activation is shielded from in-place operations that follow it, the graph starts at the target
  (nothing is backpropagated to weights), hooks and swapped layers are undone however a call ends, and one model
  serves one call at a time.
- Sums are taken in float64, and maps that carry no evidence are flagged instead of being stretched to [0, 1].
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_grad_cam as library
import torch
from torch import Tensor, nn

from quantviz.specs import CamSpec, Heatmap, Progress, QuantvizError, UsageError, no_progress

Array = npt.NDArray[np.float64]

_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()
_REPORT: ContextVar[Progress] = ContextVar("report", default=no_progress)

# Rounding of float32 sums over a few thousand channels stays below this part of the summands.
_ROUNDING = 1e-5
# A logit's own resolution in float32: what moves it by less is no evidence.
_LEAST_EVIDENCE = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One model's map of one image.

    Attributes:
        heatmap: (H, W) at the input's resolution: ReLU, min-max, bilinear upsampling, min-max.
        native: (h, w) on the target layer's grid: ReLU, min-max.
        class_index: the class that the map explains.
        probabilities: softmax of the logits, float32 (classes,).
    """

    heatmap: Heatmap
    native: Heatmap
    class_index: int
    probabilities: npt.NDArray[np.float32]


def explain(
    model: nn.Module,
    image: Tensor,
    cam: CamSpec,
    class_index: int | None = None,
    progress: Progress = no_progress,
) -> Explanation:
    """Return the class activation map of one image.

    Args:
        model: classifier in eval mode, float or quantized. One call at a time runs a model; others wait.
        image: (1, 3, H, W) float32.
        cam: method and target layer; the layer must be named.
        class_index: the class to explain, or None for the model's own top-1.
        progress: told how far the methods with many forward passes are.

    Raises:
        UsageError: the layer or the class does not exist, or the layer gives no (N, C, h, w) tensor.
        QuantvizError: the model's logits are not finite.
    """
    if class_index is not None and class_index < 0:
        raise UsageError(f"Class {class_index} is negative; classes count from 0.")
    layer = _layer(model, cam.layer)
    method = _METHODS[cam.method]
    with lock_of(model), _reporting(progress), _undisturbed(model, layer, method.uses_gradients) as shield:
        maker = method.cam(model=model, target_layers=[layer])
        try:
            shield()
            with torch.set_grad_enabled(method.uses_gradients):
                return _run(maker, method, image, class_index)
        finally:
            maker.activations_and_grads.release()


@contextmanager
def lock_of(model: nn.Module) -> Iterator[None]:
    """Hold the lock under which a model is run while it carries hooks."""
    with _LOCKS_GUARD:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        yield


def _run(maker: Any, method: _Method, image: Tensor, class_index: int | None) -> Explanation:
    target = None if class_index is None else _score_of(class_index)
    with np.errstate(all="ignore"):
        values = maker(input_tensor=image, targets=target and [target])[0]
    logits = maker.outputs.detach()[0]
    if target is not None:
        target(logits)  # methods that explain no class never ask for its score
    if not bool(torch.isfinite(logits).all()):
        raise QuantvizError("The model's logits are not finite; use more bits or other weights.")
    raw, magnitude = maker.raw, maker.magnitude
    reason = _degenerate(raw, magnitude, method.uses_gradients)
    native = _min_max(np.maximum(raw, 0)) if not reason else np.zeros(raw.shape)
    heatmap = values if not reason else np.zeros(image.shape[-2:])
    return Explanation(
        heatmap=Heatmap(np.clip(heatmap, 0, 1).astype(np.float32), reason),
        native=Heatmap(native.astype(np.float32), reason),
        class_index=int(logits.argmax()) if class_index is None else class_index,
        probabilities=torch.softmax(logits, dim=0).numpy(),
    )


def _score_of(class_index: int) -> Callable[[Tensor], Tensor]:
    """Return the function that takes one image's logits (classes,) to the class's own."""

    def score(logits: Tensor) -> Tensor:
        if class_index >= len(logits):
            raise UsageError(f"Class {class_index} does not exist; this model has classes 0 to {len(logits) - 1}.")
        return logits[class_index]

    return score


def _degenerate(raw: Array, magnitude: float, in_logits: bool) -> str:
    """Tell why a raw map carries no evidence, or return ""."""
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


def _min_max(values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - low) / (high - low))


def _layer(model: nn.Module, name: str | None) -> nn.Module:
    try:
        if not name:
            raise AttributeError
        return model.get_submodule(name)
    except AttributeError:
        raise UsageError(f"Layer {name!r} does not exist in this model; name one of its layers.") from None


@contextmanager
def _reporting(progress: Progress) -> Iterator[None]:
    token = _REPORT.set(progress)
    try:
        yield
    finally:
        _REPORT.reset(token)


@contextmanager
def _undisturbed(model: nn.Module, layer: nn.Module, gradients: bool) -> Iterator[Callable[[], None]]:
    """Start the graph at the layer, shield its output, and leave the model as it was.

    The library's hooks must stand between the two of this block: the first makes the output the leaf whose
    gradient they read; the second, registered by calling the yielded function, hands a copy onwards, so that an
    in-place operation there (DenseNet's functional ReLU, say) cannot overwrite what they saved.
    """

    def begin(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise UsageError("The target layer gives no feature map; name a convolution-stage layer.")
        return output.detach().requires_grad_(gradients)

    def copy_on(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output.clone()

    places = [(parent, name) for parent in model.modules() for name, child in parent.named_children() if child is layer]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = [layer.register_forward_hook(begin)]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield lambda: handles.append(layer.register_forward_hook(copy_on))
    finally:
        for handle in handles:
            handle.remove()
        for parameter in learning:
            parameter.requires_grad_(True)
        for parent, name in places:
            setattr(parent, name, layer)


class _Recorder(library.base_cam.BaseCAM):  # type: ignore[misc]
    """Keeps the map before ReLU and scaling, and the size of what was summed to get it."""

    raw: Array
    magnitude: float
    weights: npt.NDArray[Any]

    def get_cam_image(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: Any,
        activations: npt.NDArray[Any],
        grads: npt.NDArray[Any] | None,
        eigen_smooth: bool = False,
    ) -> Array:
        if self.uses_gradients:
            activations, grads = activations.astype(np.float64), _present(grads).astype(np.float64)
        cam = super().get_cam_image(input_tensor, target_layer, targets, activations, grads, eigen_smooth)
        self.raw = np.asarray(cam[0], dtype=np.float64)
        self.magnitude = self.summands(activations, grads)
        return np.asarray(cam, dtype=np.float64)

    def get_cam_weights(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        weights: npt.NDArray[Any] = super().get_cam_weights(*args, **kwargs)
        self.weights = weights
        return weights

    def summands(self, activations: npt.NDArray[Any], grads: npt.NDArray[Any] | None) -> float:
        """Return the greatest sum of absolute summands at any position."""
        weights = np.abs(self.weights[0]).astype(np.float64)
        return float(np.einsum("c,chw->hw", weights, np.abs(activations[0])).max())


class _Elementwise(_Recorder):
    def summands(self, activations: npt.NDArray[Any], grads: npt.NDArray[Any] | None) -> float:
        return float(np.abs(_present(grads)[0] * activations[0]).sum(axis=0).max())


class _GradCAM(_Recorder, library.GradCAM):  # type: ignore[misc]
    pass


class _XGradCAM(_Recorder, library.XGradCAM):  # type: ignore[misc]
    pass


class _HiResCAM(_Elementwise, library.HiResCAM):  # type: ignore[misc]
    pass


class _LayerCAM(_Elementwise, library.LayerCAM):  # type: ignore[misc]
    pass


class _GradCAMPlusPlus(_Recorder, library.GradCAMPlusPlus):  # type: ignore[misc]
    def get_cam_weights(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: Any,
        activations: npt.NDArray[Any],
        grads: npt.NDArray[Any],
    ) -> npt.NDArray[Any]:
        """Equations 19 and 7 of Chattopadhyay et al. 2018 (arXiv 1710.11063), in float64.

        With one score Y, the derivatives of exp(Y) give alpha = g^2 / (2 g^2 + S g^3) = 1 / (2 + S g), where S is
        the channel's sum of activations, and the channel's weight is the sum of alpha * ReLU(g).
        """
        denominator = 2 + activations.sum(axis=(2, 3), keepdims=True) * grads
        alpha = np.divide(1.0, denominator, out=np.zeros_like(grads), where=denominator != 0)
        weights: npt.NDArray[Any] = (np.maximum(grads, 0) * alpha).sum(axis=(2, 3))
        self.weights = weights
        return weights


class _Principal(_Recorder):
    """Projection on the first principal component, with a sign that does not depend on rounding."""

    def get_cam_image(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: Any,
        activations: npt.NDArray[Any],
        grads: npt.NDArray[Any] | None,
        eigen_smooth: bool = False,
    ) -> Array:
        features = activations[0].astype(np.float64)
        if self.uses_gradients:
            features = features * _present(grads)[0]
        columns = features.reshape(features.shape[0], -1).T
        columns = columns - columns.mean(axis=0)
        if np.isfinite(columns).all():
            # The library asks for full matrices, which for an early layer takes minutes and gigabytes.
            projection = columns @ np.linalg.svd(columns, full_matrices=False)[2][0]
        else:  # numpy's decomposition would raise
            projection = np.full(len(columns), np.nan)
        guide = features.sum(axis=0) if self.uses_gradients else np.square(features).sum(axis=0)
        if projection @ (guide.ravel() - guide.mean()) < 0:
            projection = -projection
        self.raw = projection.reshape(features.shape[1:])
        self.magnitude = float(np.abs(columns).max())
        return self.raw[None]


class _EigenCAM(_Principal, library.EigenCAM):  # type: ignore[misc]
    pass


class _EigenGradCAM(_Principal, library.EigenGradCAM):  # type: ignore[misc]
    pass


class _ScoreCAM(_Recorder, library.ScoreCAM):  # type: ignore[misc]
    def get_cam_weights(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        # The hooks would keep every masked forward pass's activation.
        self.activations_and_grads.release()
        return super().get_cam_weights(*args, **kwargs)


class _ZeroingLayer(library.AblationLayer):  # type: ignore[misc]
    """Stands in for the target layer and gives its activation, each copy in the batch without another channel."""

    def __call__(self, _inputs: Any) -> Tensor:
        channels = torch.as_tensor(self.indices[: len(self.activations)]).long()
        self.activations[torch.arange(len(channels)), channels] = 0
        output: Tensor = self.activations
        return output


class _AblationCAM(_Recorder, library.AblationCAM):  # type: ignore[misc]
    def __init__(self, **kwargs: Any) -> None:
        # The library's default is one object shared by every instance and thread.
        super().__init__(ablation_layer=_ZeroingLayer(), **kwargs)

    def save_activation(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.activations = output.clone()

    def get_cam_weights(self, input_tensor: Tensor, target_layer: Any, targets: Any, *rest: Any) -> npt.NDArray[Any]:
        self.activations_and_grads.release()
        relative = super().get_cam_weights(input_tensor, target_layer, targets, *rest)
        self.weights = relative * np.sign(float(targets[0](self.outputs[0])))
        return self.weights


def _present(grads: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if grads is None:
        raise QuantvizError("The class does not depend on the target layer; name a layer that the output uses.")
    return grads


def _reported(steps: Iterable[Any]) -> Iterator[Any]:
    """Stand in for the library's progress bar, which writes to standard error, and report instead."""
    steps = list(steps)
    for done, step in enumerate(steps):
        _REPORT.get()("Scoring channels", done / len(steps))
        yield step


for _module in (library.score_cam, library.ablation_cam):
    _module.tqdm = SimpleNamespace(tqdm=_reported)


@dataclass(frozen=True, slots=True)
class _Method:
    cam: type[_Recorder]
    uses_gradients: bool = True


_METHODS = {
    "gradcam": _Method(_GradCAM),
    "gradcam++": _Method(_GradCAMPlusPlus),
    "xgradcam": _Method(_XGradCAM),
    "hirescam": _Method(_HiResCAM),
    "layercam": _Method(_LayerCAM),
    "eigencam": _Method(_EigenCAM, uses_gradients=False),
    "eigengradcam": _Method(_EigenGradCAM),
    "scorecam": _Method(_ScoreCAM, uses_gradients=False),
    "ablationcam": _Method(_AblationCAM, uses_gradients=False),
}
