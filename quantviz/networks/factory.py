"""A network of the user's own, by the function that makes it: ``package.module:factory``."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from dataclasses import replace
from functools import lru_cache, reduce
from typing import NoReturn

from torch import nn

from quantviz.networks.architecture import examined
from quantviz.networks.module import check_module
from quantviz.networks.permission import check_allowed
from quantviz.networks.preprocessing import preprocessing_of
from quantviz.networks.skeleton import drawn
from quantviz.specs import ModelSpec, PublishedWeights, QuantvizError, UsageError

OWN = "as made"
"""Name of the weights that the function gave its network."""


def spec(name: str) -> ModelSpec:
    """Return the entry of the network that a function makes.

    The function is imported, from the working folder too, and called once, without arguments, with torch's generator
    seeded with 0. Preprocessing is what timm left in the network, else what classifiers of ImageNet usually take.

    Args:
        name: ``package.module:factory``.

    Raises:
        UsageError: it may not be run here, cannot be imported or called, or gives no classifier.
    """
    check_allowed(name)
    module = _made(name)
    check_module(module)
    preprocessing, note = preprocessing_of(None, module)
    entry = ModelSpec(
        name=name,
        family=type(module).__name__,
        library="module",
        constructor=name,
        layer="",
        head="",
        parameters=0,
        weights=(PublishedWeights(OWN, "", "", preprocessing),),
        note=note,
    )
    try:
        found = examined(lambda _classes: construct(entry, 0), preprocessing.size, name)
    except QuantvizError:
        raise
    except Exception as error:
        height, width = preprocessing.size
        _refuse(name, f"its network cannot take a picture (1, 3, {height}, {width})", error)
    return replace(entry, layer=found.layer, head=found.head, parameters=found.parameters)


def construct(spec: ModelSpec, _classes: int) -> nn.Module:
    """Return a copy of the network that the function made; it has the classes that it has."""
    check_allowed(spec.constructor)
    return copy.deepcopy(_made(spec.constructor))


@lru_cache(maxsize=4)
def _made(name: str) -> nn.Module:
    place, _, attributes = name.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # at the end, so that no file there takes a library's place
    try:
        factory = reduce(getattr, attributes.split("."), importlib.import_module(place))
    # A user's code may raise anything; SystemExit would end the command without a word.
    except (Exception, SystemExit) as error:
        _refuse(name, "it cannot be imported", error)
    if not callable(factory):
        raise UsageError(
            f"Model {name!r} cannot be used: {attributes} is a {type(factory).__name__}; name a function that makes "
            "a network."
        )
    try:
        with drawn():
            module = factory()
    except (Exception, SystemExit) as error:
        _refuse(name, "the call fails", error)
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"Model {name!r} cannot be used: the call gives a {type(module).__name__}, not a torch.nn.Module; return "
            "the network."
        )
    return module


def _refuse(name: str, what: str, error: BaseException) -> NoReturn:
    reason = " ".join(str(error).split())[:300]
    raise UsageError(
        f"Model {name!r} cannot be used: {what}: {type(error).__name__}: {reason.rstrip('.')}; mend it, or name "
        "another."
    ) from error
