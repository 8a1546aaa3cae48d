"""Where networks come from: a name to its entry, and the names that there are. Imports no torch for our own table.

An origin is a module of this package with two functions: ``spec(rest)`` finds what stands behind its prefix, and
``construct(spec, classes)`` makes the network, without published weights. One that can list its names has ``listed``
as well. Nothing outside this package knows of origins.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from quantviz.networks.card import Card, is_card, read_card
from quantviz.networks.listed import ListedModel
from quantviz.networks.permission import check_allowed
from quantviz.networks.table import MODELS
from quantviz.specs import ModelSpec, PublishedWeights, UsageError

if TYPE_CHECKING:
    from torch import nn


class Origin(Protocol):
    """What a module must have to be an origin."""

    def spec(self, rest: str) -> ModelSpec:
        """Return the entry of what stands behind the prefix."""

    def construct(self, spec: ModelSpec, classes: int) -> nn.Module:
        """Return the network of an entry, for a number of classes."""


class Library(Origin, Protocol):
    """An origin that lists its names."""

    def listed(self, pattern: str) -> list[ListedModel]:
        """Return the models that match a pattern with ``*`` and ``?``."""


_LIBRARIES = ("timm", "torchvision")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def spec(name: str) -> ModelSpec:
    """Look a model up by name.

    Args:
        name: one of the keys of ``MODELS``; or ``timm:NAME``, with timm's tag of the weights or without, or
            ``torchvision:NAME``; or ``package.module:factory``, a function that makes a network; or the path of a
            network card, which names one of these.

    Returns:
        The model's entry.

    Raises:
        UsageError: no model has this name; the message lists those that exist, or near ones. Or the card is wrong, or
            of ONNX files.
    """
    if name in MODELS:
        return MODELS[name]
    if is_card(name):
        return _of_card(read_card(Path(name)))
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _LIBRARIES:
        return _found(prefix, rest)
    if _FACTORY.fullmatch(name):
        return _of_factory(name)
    near = difflib.get_close_matches(name.lower(), MODELS, n=1)
    hint = f"did you mean {near[0]}? Known" if near else "known"
    raise UsageError(
        f"Model {name!r} is unknown; {hint} models: {', '.join(MODELS)}, and those of timm and torchvision by "
        "timm:NAME and torchvision:NAME; a function of yours that makes one is package.module:function."
    )


def listed(pattern: str) -> list[ListedModel]:
    """Return the models that match a pattern.

    Args:
        pattern: with ``*`` and ``?`` as in file names: ``"*mobile*"`` of our table, ``"timm:*mobile*"``,
            ``"torchvision:*"``.
    """
    prefix, colon, rest = pattern.partition(":")
    if colon and prefix in _LIBRARIES:
        return _library(prefix).listed(rest)
    return [
        ListedModel(name, entry.family, entry.parameters, tuple(weights.name for weights in entry.weights))
        for name, entry in MODELS.items()
        if fnmatch.fnmatchcase(name, pattern)
    ]


def construct(spec: ModelSpec, classes: int) -> nn.Module:
    """Return the network of an entry as its library makes it, on the default device.

    Args:
        spec: the model.
        classes: number of classes.
    """
    if spec.library == "module":
        from quantviz.networks import factory

        return factory.construct(spec, classes)
    from quantviz.networks import from_table

    if (spec.library, spec.constructor) in from_table.FILES:
        return from_table.construct(spec, classes)
    return _library(spec.library).construct(spec, classes)


def load(spec: ModelSpec, published: PublishedWeights, path: Path) -> nn.Module:
    """Return the network of an entry with weights from its library's own cache, by the library's own loader.

    Args:
        spec: the model.
        published: with a ``source``.
        path: their file, checked.

    Raises:
        CheckpointError: the library cannot load it.
    """
    from quantviz.networks import timm_zoo

    return timm_zoo.load(spec, published, path)


def _of_card(card: Card) -> ModelSpec:
    if card.float_file is not None:
        raise UsageError(
            f"Card {card.path.name!r} is of ONNX files, which `quantviz compare` and `quantviz sweep` take; here it "
            "has to name a model."
        )
    return card.of_spec(spec(card.model))


@lru_cache(maxsize=64)
def _found(prefix: str, rest: str) -> ModelSpec:
    return _library(prefix).spec(rest)


def _of_factory(name: str) -> ModelSpec:
    check_allowed(name)  # before what is known of it is given to somebody else
    return _made(name)


@lru_cache(maxsize=4)
def _made(name: str) -> ModelSpec:
    from quantviz.networks import factory

    return factory.spec(name)


def _library(prefix: str) -> Library:
    """Import a library's module, which takes seconds the first time."""
    if prefix == "timm":
        from quantviz.networks import timm_zoo

        return timm_zoo
    from quantviz.networks import torchvision_zoo

    return torchvision_zoo
