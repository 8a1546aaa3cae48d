"""Other libraries' maps, called as their own documentation does it: what the benchmark measures against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytorch_grad_cam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

Peer = Callable[[nn.Module, nn.Module, Tensor, Sequence[int]], Any]
"""Takes a model, its target layer, images (N, 3, H, W), and the class of each; returns maps."""


def library_maps(model: nn.Module, layer: nn.Module, images: Tensor, classes: Sequence[int]) -> Any:
    """Return pytorch-grad-cam's Grad-CAM++ maps, float32 (N, H, W), as its README takes them."""
    with pytorch_grad_cam.GradCAMPlusPlus(model=model, target_layers=[layer]) as cam:
        return cam(input_tensor=images, targets=[ClassifierOutputTarget(index) for index in classes])


def peers() -> dict[str, Peer]:
    """Return the installed ones of torch-cam (Grad-CAM++) and Captum (Grad-CAM) by name; none is a dependency."""
    known: dict[str, tuple[str, Peer]] = {"torch-cam": ("torchcam", _torch_cam), "Captum": ("captum", _captum)}
    return {name: peer for name, (module, peer) in known.items() if find_spec(module) is not None}


def _torch_cam(model: nn.Module, layer: nn.Module, images: Tensor, classes: Sequence[int]) -> Any:
    methods = import_module("torchcam.methods")
    with methods.GradCAMpp(model, target_layer=layer, input_shape=tuple(images.shape[1:])) as cam:
        logits = model(images)
        return cam(list(classes), logits)


def _captum(model: nn.Module, layer: nn.Module, images: Tensor, classes: Sequence[int]) -> Any:
    attr = import_module("captum.attr")
    return attr.LayerGradCam(model, layer).attribute(images, target=list(classes), relu_attributions=True)
