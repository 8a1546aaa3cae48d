"""The methods that ask the network about every channel: ScoreCAM and AblationCAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quantviz.cam.features import Array, Features, Summed, module_of, weighted
from quantviz.cam.layout import from_grid, layout_of
from quantviz.cam.locked import let_others_pass
from quantviz.specs import Phase, Progress

# Of masked images: on a CPU four at a time take less than sixteen (measured). Of ablated activations: every batch runs
# what comes before the target layer once.
_MASKED, _ABLATED = 4, 32

Scored = Callable[[nn.Module, Tensor, str | None, Features, int, Progress], Summed]
"""Takes a model, its image (1, 3, H, W), the target layer, the image's features, and the class."""


def scorecam(
    model: nn.Module, image: Tensor, _layer: str | None, features: Features, class_index: int, progress: Progress
) -> Summed:
    """Wang et al. 2020 (arXiv 1910.01279): channels weigh the softmax of the class's logits on masked images.

    A mask is the channel's activation, min-max scaled and resized to the image (bilinear, corners aligned, as in
    pytorch-grad-cam). One batch of masked images exists at a time.
    """
    activation = features.leaf.detach()
    scores: list[Tensor] = []
    for channels in _batches(activation.shape[1], _MASKED, progress):
        own = activation[:, channels]
        wide = functional.interpolate(own, image.shape[-2:], mode="bilinear", align_corners=True)[0]
        low, high = wide.amin((1, 2), keepdim=True), wide.amax((1, 2), keepdim=True)
        masks = (wide - low) / (high - low + 1e-8)
        scores.append(model(image * masks[:, None])[:, class_index])
        _pause(model)
    weights = torch.softmax(torch.cat(scores), dim=0).double().numpy()
    return weighted(weights, features.activations()[0])


def ablationcam(
    model: nn.Module, image: Tensor, layer: str | None, features: Features, class_index: int, progress: Progress
) -> Summed:
    """Desai and Ramaswamy 2020 (doi 10.1109/WACV45572.2020.9093360): channels weigh the logit's relative drop.

    The drop is what setting the channel to zero costs, relative to the logit's magnitude, so that a negative logit
    does not turn the map around. What comes before the target layer is computed for one image, not for each channel.
    """
    activation, scores = features.leaf.detach(), list[Tensor]()
    for channels in _batches(activation.shape[1], _ABLATED, progress):
        count = len(channels)
        batch = activation.repeat(count, 1, 1, 1)
        batch[torch.arange(count), channels] = 0
        with _giving(model, layer, batch):
            scores.append(_beyond(model, image, count)[:, class_index])
        _pause(model)
    original = features.score(model, class_index)
    drops = original - torch.cat(scores).double().numpy()
    return weighted(_relative(drops, original), features.activations()[0])


@contextmanager
def _giving(model: nn.Module, layer: str | None, values: Tensor) -> Iterator[None]:
    """Let a layer give these values (N, C, h, w) in the block, whatever it reads."""
    handle = module_of(model, layer).register_forward_hook(
        lambda module, _inputs, output: _as(output, from_grid(values, output, layout_of(module)))
    )
    try:
        yield
    finally:
        handle.remove()


def _pause(model: nn.Module) -> None:
    """Let others have the network between two batches: a minute of them is not to hold up another's one pass.

    Not where dropout draws by a seed that the caller has set on the network.
    """
    if not hasattr(model, "chance"):
        let_others_pass(model)


def _as(output: Tensor, values: Tensor) -> Tensor:
    """Return values in place of a layer's output: a copy, or integers on the output's own grid."""
    if not output.is_quantized:
        return values.clone()
    scale, zero_point = float(output.q_scale()), int(output.q_zero_point())
    return torch.quantize_per_tensor(values, scale, zero_point, output.dtype)


def _beyond(model: nn.Module, image: Tensor, count: int) -> Tensor:
    """Return the logits (count, classes) of a model whose target layer gives a batch whatever it reads."""
    try:
        logits: Tensor = model(image)
        if len(logits) == count:
            return logits
    except RuntimeError:  # what goes round the target is joined to it, and does not stretch to the batch
        pass
    again: Tensor = model(image.expand(count, -1, -1, -1))
    return again


def _relative(drops: Array, original: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        relative: Array = drops / np.float64(abs(original))
    return relative


def _batches(channels: int, size: int, progress: Progress) -> Iterator[Tensor]:
    for batch in torch.split(torch.arange(channels), size):
        progress("Scoring channels", int(batch[0]) / channels, Phase.EXPLAINING)
        yield batch
