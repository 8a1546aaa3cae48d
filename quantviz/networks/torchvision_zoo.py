"""The classifiers of torchvision, by their names there: ``torchvision:shufflenet_v2_x1_0``."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import Any

import torchvision.models as library
from torch import nn

from quantviz.networks.architecture import examined
from quantviz.networks.listed import ListedModel, unknown
from quantviz.networks.preprocessing import IMAGENET, preprocessing_of
from quantviz.specs import ModelSpec, PublishedWeights

# Their published weights take ImageNet's usual normalization and turn it into that which they were trained by.
_OF_ONE_SIZE = "vit_"
_TRANSFORMING = ("inception_v3", "googlenet")


def spec(rest: str) -> ModelSpec:
    """Return the entry of a classifier.

    The default weights are those that torchvision names first. A network that is made for one size of input, as vision
    transformers are, is made for theirs; ``build`` makes it for that of others.

    Raises:
        UsageError: torchvision has no such classifier, or no layer of it gives a grid.
    """
    names = _names()
    if rest not in names:
        raise unknown(rest, "torchvision", names)
    published = tuple(map(published_of, library.get_model_weights(rest)))
    if not published:
        published = (PublishedWeights("none", "", "", IMAGENET),)
    size = published[0].preprocessing.size
    entry = ModelSpec(f"torchvision:{rest}", _family(rest), "torchvision", rest, "", "", 0, published)
    found = examined(lambda classes: construct(entry, classes), size, entry.name)
    return replace(entry, layer=found.layer, head=found.head, parameters=found.parameters)


def construct(spec: ModelSpec, classes: int) -> nn.Module:
    """Return the network of an entry, for a number of classes."""
    settings: dict[str, Any] = {}
    if spec.constructor in _TRANSFORMING:
        settings = {"transform_input": True, "init_weights": True}
    if spec.constructor.startswith(_OF_ONE_SIZE):
        settings = {"image_size": spec.weights[0].preprocessing.size[0]}
    model: nn.Module = library.get_model(spec.constructor, weights=None, num_classes=classes, **settings)
    return model


def listed(pattern: str) -> list[ListedModel]:
    """Return the classifiers whose names match a pattern."""
    models = []
    for name in fnmatch.filter(_names(), pattern):
        weights = list(library.get_model_weights(name))
        parameters = int(weights[0].meta["num_params"]) if weights else None
        known = tuple(entry.name for entry in weights)
        models.append(ListedModel(f"torchvision:{name}", _family(name), parameters, known))
    return models


def _names() -> list[str]:
    return library.list_models(module=library)  # type: ignore[no-any-return]


def _family(name: str) -> str:
    module: str = library.get_model_builder(name).__module__
    return module.rpartition(".")[2]


def published_of(weights: Any) -> PublishedWeights:
    """Describe torchvision's weights; the file's name ends in the first eight digits of its sha256."""
    file = str(weights.url).rpartition("/")[2]
    prefix = file.rpartition("-")[2].removesuffix(".pth")
    return PublishedWeights(weights.name, file, prefix, preprocessing_of(weights)[0])
