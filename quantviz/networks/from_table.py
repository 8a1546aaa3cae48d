"""The networks of our table, each from the one file of its library that defines it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from torch import nn

from quantviz.networks.deferred import one_by_one
from quantviz.specs import ModelSpec

FILES: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("timm", "tf_efficientnet_lite0"): "timm.models.efficientnet",
        ("torchvision", "vgg16"): "torchvision.models.vgg",
        ("torchvision", "resnet50"): "torchvision.models.resnet",
        ("torchvision", "densenet121"): "torchvision.models.densenet",
        ("torchvision", "mobilenet_v2"): "torchvision.models.mobilenetv2",
        ("torchvision", "squeezenet1_1"): "torchvision.models.squeezenet",
        ("torchvision", "efficientnet_b0"): "torchvision.models.efficientnet",
    }
)
"""Library and constructor -> the module that has it."""


def construct(spec: ModelSpec, classes: int) -> nn.Module:
    """Return the network of an entry of ``FILES``, without published weights, on the default device.

    It is what ``timm.create_model`` or ``torchvision.models.get_model`` return, for which the libraries import all of
    their networks first.

    Args:
        spec: the model.
        classes: number of classes.
    """
    with one_by_one():
        module = import_module(FILES[spec.library, spec.constructor])
    model: nn.Module = getattr(module, spec.constructor)(num_classes=classes)
    return model
