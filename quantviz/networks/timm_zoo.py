"""The classifiers of timm, by their names there: ``timm:convnext_atto``, ``timm:resnet18.a1_in1k``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import nn

from quantviz.networks.architecture import examined
from quantviz.networks.listed import ListedModel, unknown
from quantviz.networks.preprocessing import preprocessing_of
from quantviz.specs import CheckpointError, ModelSpec, PublishedWeights, UsageError


def spec(rest: str) -> ModelSpec:
    """Return the entry of a classifier.

    Args:
        rest: an architecture, or one with a tag of its weights, whose settings then hold: input size, mean, ...

    Raises:
        UsageError: timm has no such architecture or tag, takes pictures in another way than quantviz can, or no layer
            gives a grid.
    """
    architecture, dot, tag = rest.partition(".")
    if not timm.is_model(architecture):
        raise unknown(rest, "timm", timm.list_models())
    tags = _tags(architecture)
    if dot and tag not in tags:
        raise UsageError(
            f"timm has no weights {tag!r} of {architecture}; use one of {', '.join(tags) or 'none, by its name alone'}."
        )
    settings = timm.get_pretrained_cfg(rest)
    default = _published(settings)
    size = default.preprocessing.size
    others = [other for other in _others(architecture, tags) if other.name != default.name]
    entry = ModelSpec(
        name=f"timm:{rest}",
        family=_family(architecture),
        library="timm",
        constructor=rest,
        layer="",
        head="",
        parameters=0,
        weights=(default, *others),
    )
    found = examined(lambda classes: construct(entry, classes), size, entry.name)
    return replace(entry, layer=found.layer, head=found.head, parameters=found.parameters)


def construct(spec: ModelSpec, classes: int) -> nn.Module:
    """Return the network of an entry, for a number of classes."""
    return timm.create_model(spec.constructor, pretrained=False, num_classes=classes)


def load(spec: ModelSpec, published: PublishedWeights, path: Path) -> nn.Module:
    """Return the network with published weights from a file, by timm's own loader.

    Many files of timm's name their entries as the authors' code did; only timm knows how they are renamed.

    Args:
        spec: the model.
        published: which weights they are.
        path: the file, checked.

    Raises:
        CheckpointError: timm cannot load it.
    """
    name = f"{spec.constructor.partition('.')[0]}.{published.name}"
    overlay = {"file": str(path), "custom_load": path.suffix == ".npz"}
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(
            f"timm cannot load {path} as {name} ({reason}); delete the file, and get it again."
        ) from error


def listed(pattern: str) -> list[ListedModel]:
    """Return the architectures whose names match a pattern."""
    names = fnmatch.filter(timm.list_models(), pattern)
    return [ListedModel(f"timm:{name}", _family(name), None, tuple(_tags(name))) for name in names]


def _tags(architecture: str) -> list[str]:
    """Return the tags of an architecture's published weights, the default first."""
    names = timm.list_models(f"{architecture}.*", pretrained=True)
    tags = [name.partition(".")[2] for name in names]
    default = getattr(timm.get_pretrained_cfg(architecture), "tag", None)
    return sorted(tags, key=lambda tag: tag != default)


def _others(architecture: str, tags: list[str]) -> Iterator[PublishedWeights]:
    """Yield the published weights that quantviz can use."""
    for tag in tags:
        try:
            published = _published(timm.get_pretrained_cfg(f"{architecture}.{tag}"))
        except UsageError:  # of an input that it cannot make; naming the tag says why
            continue
        if published.file:
            yield published


def _published(settings: Any) -> PublishedWeights:
    preprocessing, _ = preprocessing_of(settings.to_dict())
    known = settings.hf_hub_id or settings.url
    if not known or not settings.num_classes:  # without classes it gives features, and no logits
        return PublishedWeights("none", "", "", preprocessing)
    name = settings.tag or "default"
    if settings.hf_hub_id:
        file = settings.hf_hub_filename or "pytorch_model.bin"
        return PublishedWeights(name, file, "", preprocessing, source=settings.hf_hub_id)
    address = str(settings.url)
    return PublishedWeights(name, address.rpartition("/")[2], "", preprocessing, source=address)


def _family(architecture: str) -> str:
    module: str = timm.model_entrypoint(architecture).__module__
    return module.rpartition(".")[2]
