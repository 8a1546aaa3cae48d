"""One forward pass, and what every map of it is made of: the target layer's activation and the logits' gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quantviz.cam.layout import from_grid, layout_of, to_grid
from quantviz.cam.saved import SavedTensors
from quantviz.cam.sparse import SparseGradients
from quantviz.specs import GRADIENT_FREE, QuantvizError, UsageError

Array = npt.NDArray[np.float64]

_WITHOUT = f"use a method that needs none: {', '.join(GRADIENT_FREE)}"


class Headed(Protocol):
    """A network parted at its target layer: a backend gives all logits, and torch one of them, to differentiate.

    Attributes:
        gives_logits: True; other networks do not have it.
        layer: dotted name of the target layer.
    """

    gives_logits: ClassVar[bool]
    layer: str

    def before(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what is read behind the target, its activation first, and the logits (N, classes), float32."""

    def scores(self, values: Sequence[Tensor], classes: Sequence[int]) -> Tensor:
        """Return the logit of each image's class, (N,) float32, from the values that ``before`` gave."""

    def gradient(self, values: Sequence[Tensor], classes: Sequence[int]) -> Tensor | None:
        """Return the gradient of ``scores`` with respect to the activation, or None where they do not depend on it."""


def is_headed(model: object) -> TypeGuard[Headed]:
    """Return whether a network is ``Headed``."""
    return getattr(type(model), "gives_logits", False) is True


class Features:
    """What one forward pass of N images leaves for their maps, of whatever class and method.

    The pass is recorded for differentiation from the target layer on and not before. What follows the target gets a
    copy of its output, so that an in-place operation there (DenseNet's functional ReLU, say) cannot overwrite what is
    kept. No parameter gets a gradient, and the hook is gone when the pass ends, however it ends. Of a ``Headed``
    network nothing is recorded here: what follows its target runs for the classes that are explained, when they are.

    Args:
        model: in eval mode; the caller holds its lock.
        images: (N, C, H, W) float32.
        layer: dotted name of the target layer.
        gradients: whether ``gradients`` is going to be called.

    Raises:
        UsageError: the layer does not exist or gives no (N, C, h, w) tensor.
        QuantvizError: the output does not use the layer, or the logits are not finite (``check`` raises it).

    Attributes:
        leaf: the target layer's output, (N, C, h, w) float32.
        logits: (N, classes) float32.
        size: (H, W) of the images.
        nbytes: what ``measure`` found, and the arrays made since.
    """

    def __init__(self, model: nn.Module, images: Tensor, layer: str | None, *, gradients: bool) -> None:
        self.size = (int(images.shape[-2]), int(images.shape[-1]))
        self.nbytes = 0
        self._activations: Array | None = None
        self._gradients: dict[tuple[int, ...], Array] = {}
        self._values: tuple[Tensor, ...] = ()
        self._integers = ""
        if is_headed(model) and layer == model.layer:
            with torch.no_grad():
                self._values, self.logits = model.before(images)
            self.leaf = self._values[0]
        else:
            self._run(model, images, layer, gradients)

    def _run(self, model: nn.Module, images: Tensor, layer: str | None, gradients: bool) -> None:
        leaves: list[Tensor] = []
        recorded = ExitStack()

        def begin(module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            layout = layout_of(module)
            if not isinstance(output, Tensor):
                raise UsageError("The target layer gives no feature map; name a convolution-stage layer.")
            real = output
            if output.is_quantized:
                self._integers, real = str(output.dtype), output.dequantize()
            grid = to_grid(real, layout)
            leaves.append(grid.detach().requires_grad_(gradients))
            if output.is_quantized and not gradients:
                return output
            torch.set_grad_enabled(gradients)  # the block below, which this is called in, turns it back
            if gradients and len(leaves) == 1:
                recorded.enter_context(SparseGradients())
            values = from_grid(leaves[-1], real, layout).clone()
            return _rounded_as(values, output) if output.is_quantized else values

        target = module_of(model, layer)
        handle = target.register_forward_hook(begin)
        try:
            with torch.no_grad(), recorded:
                logits = model(images)
        finally:
            handle.remove()
        if not leaves:
            raise _unused()
        self.leaf, self.logits = leaves[-1], logits

    def check(self, classes: Sequence[int | None]) -> tuple[int, ...]:
        """Return the class of each image, the top-1 for None.

        Raises:
            UsageError: a class does not exist.
            QuantvizError: the logits are not finite.
        """
        count = self.logits.shape[1]
        for index in classes:
            if index is not None and not 0 <= index < count:
                raise UsageError(f"Class {index} does not exist; this model has classes 0 to {count - 1}.")
        values = self.logits.detach().numpy()
        if not np.isfinite(values).all():
            raise QuantvizError("The model's logits are not finite; use more bits or other weights.")
        own = values.argmax(axis=1)
        return tuple(int(own[at]) if index is None else index for at, index in enumerate(classes))

    def activations(self) -> Array:
        """Return the target layer's output, float64 (N, C, h, w)."""
        if self._activations is None:
            self._activations = np.ascontiguousarray(self.leaf.detach().numpy(), dtype=np.float64)
            self.nbytes += self._activations.nbytes
        return self._activations

    def gradients(self, model: nn.Module, classes: tuple[int, ...]) -> Array:
        """Return the gradient of each image's logit of its class with respect to ``activations``.

        It has their shape, or (N, C, 1, 1) where a ``Headed`` network says that it is the same at every place, as
        behind pooling: the formulas then need one product a channel instead of one a place. The images of a batch do
        not see each other, so that the gradient of the logits' sum is that of each.

        Args:
            model: whose pass this is.
            classes: of each image.

        Raises:
            QuantvizError: the logits do not depend on the target layer.
        """
        if classes not in self._gradients:
            if is_headed(model) and self._values:
                gradient = model.gradient(self._values, classes)
            else:
                gradient = self._back(classes)
            if gradient is None:
                raise _unused()
            if gradient.stride()[2:] == (0, 0):  # a view of one value for each channel
                gradient = gradient[:, :, :1, :1]
            self._gradients[classes] = np.ascontiguousarray(gradient.numpy(), dtype=np.float64)
            self.nbytes += self._gradients[classes].nbytes
        return self._gradients[classes]

    def _back(self, classes: tuple[int, ...]) -> Tensor | None:
        """Return the gradient by what was recorded."""
        if not self.logits.requires_grad:
            if self._integers:
                raise UsageError(f"The target layer gives {self._integers}, which has no gradient; {_WITHOUT}.")
            raise _unused()
        with torch.enable_grad():
            # A number, whose gradient is that of the logits with one 1 a row: of a tensor, torch asks for the shape's
            # symbols, and imports sympy for it.
            chosen = self.logits[range(len(classes)), list(classes)].sum()
        try:
            return torch.autograd.grad(chosen, self.leaf, retain_graph=True, allow_unused=True)[0]
        except RuntimeError as error:  # an operation behind the target has none
            raise QuantvizError(f"There is no gradient behind the target layer ({error}); {_WITHOUT}.") from None

    def score(self, model: nn.Module, index: int) -> float:
        """Return the first image's logit of a class, as torch computes it: what its other logits are compared with.

        Args:
            model: whose pass this is.
            index: the class.
        """
        if is_headed(model) and self._values:
            with torch.no_grad():
                return float(model.scores(self._values, (index,) * len(self.leaf))[0])
        return float(self.logits[0, index])

    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return the softmax of the logits, float32 (N, classes)."""
        probabilities: npt.NDArray[np.float32] = torch.softmax(self.logits.detach(), dim=1).numpy()
        return probabilities

    def measure(self, model: nn.Module, saved: SavedTensors) -> None:
        """Set ``nbytes`` to what the pass holds: the activation, the logits, and what was saved for gradients.

        The model's own weights, which are saved there too, are not counted.

        Args:
            model: whose pass this is.
            saved: was active during the pass.
        """
        own = (*model.parameters(), *model.buffers())
        self.nbytes = saved.nbytes((self.leaf, self.logits, *self._values), own)


Summed = tuple[Array, float]
"""A map before ReLU, float64 (h, w), and the greatest size of what was summed at any position of it."""

Formula = Callable[[Array, Array], Summed]
"""Takes one image's activation, float64 (C, h, w), and gradient, of its shape or (C, 1, 1)."""


def gradcam(activation: Array, gradient: Array) -> Summed:
    """Selvaraju et al. 2017 (arXiv 1610.02391), equations 1 and 2: each channel weighs its gradient's mean."""
    return weighted(gradient.mean(axis=(1, 2)), activation)


def gradcam_plus_plus(activation: Array, gradient: Array) -> Summed:
    """Chattopadhyay et al. 2018 (arXiv 1710.11063), equations 19 and 7.

    With one score Y, the derivatives of exp(Y) give alpha = g^2 / (2 g^2 + S g^3) = 1 / (2 + S g), where S is the
    channel's sum of activations, and the channel's weight is the sum of alpha * ReLU(g).
    """
    alpha = activation.sum(axis=(1, 2), keepdims=True) * gradient
    alpha += 2
    # Where a quotient is 1 / 0 it is 0. Told to leave places out, the division takes three times as long.
    nowhere = None if alpha.all() else alpha == 0
    np.divide(1.0, alpha, out=alpha)
    if nowhere is not None:
        alpha[nowhere] = 0
    alpha *= np.maximum(gradient, 0)
    places = activation[0].size // gradient[0].size
    return weighted(alpha.sum(axis=(1, 2)) * places, activation)


def xgradcam(activation: Array, gradient: Array) -> Summed:
    """Fu et al. 2020 (arXiv 2008.02312), equation 8: the gradient's mean, weighted by the activation's share."""
    total = activation.sum(axis=(1, 2))
    shared = (gradient * activation).sum(axis=(1, 2))
    return weighted(np.divide(shared, total, out=np.zeros_like(total), where=total != 0), activation)


def hirescam(activation: Array, gradient: Array) -> Summed:
    """Draelos and Carin 2020 (arXiv 2011.08891): the sum over channels of gradient times activation."""
    return _elementwise(activation, gradient)


def layercam(activation: Array, gradient: Array) -> Summed:
    """Jiang et al. 2021 (doi 10.1109/TIP.2021.3089943): as HiResCAM, with the positive gradients only."""
    products = np.maximum(gradient, 0) * activation
    return products.sum(axis=0), float(np.abs(gradient * activation).sum(axis=0).max())


def eigengradcam(activation: Array, gradient: Array) -> Summed:
    """EigenCAM's projection of gradient times activation, its sign towards positive evidence."""
    return _principal(activation * gradient, signed=True)


def eigencam(activation: Array) -> Summed:
    """Muhammad and Yeasin 2020 (arXiv 2008.00299): projection on the first principal component over positions.

    A component has no sign of its own, and two nearly equal networks could get opposite maps: here it points towards
    the activation's energy.
    """
    return _principal(activation, signed=False)


def weighted(weights: Array, activation: Array) -> Summed:
    """Return the sum over channels of weight (C,) times activation (C, h, w)."""
    summed = np.einsum("c,chw->hw", weights, activation)
    if weights.min() >= 0 and activation.min() >= 0:  # behind a ReLU: nothing cancels
        return summed, float(summed.max())
    return summed, float(np.einsum("c,chw->hw", np.abs(weights), np.abs(activation)).max())


def module_of(model: nn.Module, name: str | None) -> nn.Module:
    """Return a module by its dotted name.

    Raises:
        UsageError: there is none.
    """
    try:
        if not name:
            raise AttributeError
        return model.get_submodule(name)
    except AttributeError:
        raise UsageError(f"Layer {name!r} does not exist in this model; name one of its layers.") from None


def _elementwise(activation: Array, gradient: Array) -> Summed:
    products = gradient * activation
    return products.sum(axis=0), float(np.abs(products).sum(axis=0).max())


def _principal(features: Array, *, signed: bool) -> Summed:
    columns = features.reshape(features.shape[0], -1).T
    columns = columns - columns.mean(axis=0)
    if np.isfinite(columns).all():
        # Full matrices would take minutes and gigabytes for an early layer.
        projection = columns @ np.linalg.svd(columns, full_matrices=False)[2][0]
    else:  # numpy's decomposition would raise
        projection = np.full(len(columns), np.nan)
    guide = features.sum(axis=0) if signed else np.square(features).sum(axis=0)
    if projection @ (guide.ravel() - guide.mean()) < 0:
        projection = -projection
    return projection.reshape(features.shape[1:]), float(np.abs(columns).max())


def _rounded_as(values: Tensor, integers: Tensor) -> Tensor:
    """Return values as integers on the grid of others; whoever gives rounding a gradient finds them behind it."""
    grid = (integers.q_scale(), integers.q_zero_point(), integers.dtype)
    return torch.quantize_per_tensor(values, *grid)


def _unused() -> QuantvizError:
    return QuantvizError("The class does not depend on the target layer; name a layer that the output uses.")
