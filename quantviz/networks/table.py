"""The models that quantviz knows. Imports no torch.

File names, hash prefixes and preprocessing are those of torchvision's weights enums; for EfficientNet-Lite0
they are the package's and timm's. A test compares every entry with those libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from quantviz.specs import ModelSpec, Preprocessing, PublishedWeights

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


def _hub(
    version: int, file: str, resize: int = 256, interpolation: Literal["bilinear", "bicubic"] = "bilinear"
) -> PublishedWeights:
    """Describe one of torchvision's files; its name ends in the first eight digits of its sha256."""
    prefix = file.rpartition("-")[2].removesuffix(".pth")
    preprocessing = Preprocessing(resize, 224, interpolation, _IMAGENET_MEAN, _IMAGENET_STD)
    return PublishedWeights(f"IMAGENET1K_V{version}", file, prefix, preprocessing)


_TABLE = (
    ModelSpec(
        name="efficientnet_lite0",
        family="EfficientNet-Lite0",
        library="timm",
        constructor="tf_efficientnet_lite0",
        # The last convolution with its batch norm and activation: what features[-1] is in torchvision.
        layer="bn2",
        head="classifier",
        parameters=4_652_008,
        weights=(
            PublishedWeights(
                name="IMAGENET1K",
                file="efficientnet-lite0-57934424.pth",
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                preprocessing=Preprocessing(256, 224, "bicubic", _HALF, _HALF),
                bundled=True,
            ),
        ),
    ),
    ModelSpec(
        name="vgg16",
        family="VGG-16",
        library="torchvision",
        constructor="vgg16",
        layer="features.29",
        head="classifier.6",
        parameters=138_357_544,
        weights=(_hub(1, "vgg16-397923af.pth"),),
    ),
    ModelSpec(
        name="resnet50",
        family="ResNet-50",
        library="torchvision",
        constructor="resnet50",
        layer="layer4.2.conv3",
        head="fc",
        parameters=25_557_032,
        weights=(_hub(1, "resnet50-0676ba61.pth"), _hub(2, "resnet50-11ad3fa6.pth", resize=232)),
    ),
    ModelSpec(
        name="densenet121",
        family="DenseNet-121",
        library="torchvision",
        constructor="densenet121",
        layer="features.denseblock4",
        head="classifier",
        parameters=7_978_856,
        weights=(_hub(1, "densenet121-a639ec97.pth"),),
    ),
    ModelSpec(
        name="mobilenet_v2",
        family="MobileNetV2",
        library="torchvision",
        constructor="mobilenet_v2",
        layer="features.18",
        head="classifier.1",
        parameters=3_504_872,
        weights=(_hub(1, "mobilenet_v2-b0353104.pth"), _hub(2, "mobilenet_v2-7ebf99e0.pth", resize=232)),
    ),
    ModelSpec(
        name="squeezenet1_1",
        family="SqueezeNet 1.1",
        library="torchvision",
        constructor="squeezenet1_1",
        layer="features.12",
        head="classifier.1",
        parameters=1_235_496,
        weights=(_hub(1, "squeezenet1_1-b8a52dc0.pth"),),
    ),
    ModelSpec(
        name="efficientnet_b0",
        family="EfficientNet-B0",
        library="torchvision",
        constructor="efficientnet_b0",
        layer="features.8",
        head="classifier.1",
        parameters=5_288_548,
        weights=(_hub(1, "efficientnet_b0_rwightman-7f5810bc.pth", interpolation="bicubic"),),
    ),
)

MODELS: Mapping[str, ModelSpec] = MappingProxyType({entry.name: entry for entry in _TABLE})
"""Every model by name, the default first."""

DEFAULT_MODEL = _TABLE[0].name
"""The embedded model, whose weights need no network."""
