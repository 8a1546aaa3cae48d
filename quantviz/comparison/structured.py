"""Dataclasses from JSON data. The only importer of cattrs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import numpy as np

from quantviz.specs import Extent

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

_PLAIN: dict[type, tuple[type, ...]] = {int: (int,), float: (float, int), str: (str,), bool: (bool,)}
"""Types of fields -> the types of JSON values that they take."""


def structured(kind: type[T], data: Any) -> T:
    """Return what ``asdict`` and JSON made ``data`` of: dataclasses, tuples, mappings and arrays as the types say.

    Numbers, texts and flags stay as they are, so that the value keeps its digest.

    Args:
        kind: a dataclass, or a container of dataclasses.
        data: from JSON.

    Raises:
        ValueError: a key is missing or unknown, or a value is of another type.
        QuantvizError: as the dataclass raises.
    """
    from cattrs.errors import ForbiddenExtraKeysError

    try:
        return _converter().structure(data, kind)
    except ForbiddenExtraKeysError as error:
        raise ValueError(f"{', '.join(sorted(error.extra_fields))} is unknown") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{error} is missing or of another type") from None


@lru_cache(maxsize=1)
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True, detailed_validation=False)
    for kind in _PLAIN:
        converter.register_structure_hook(kind, _plain)
    converter.register_structure_hook_func(_is_choice, _chosen)
    converter.register_structure_hook(Extent, _extent)
    converter.register_structure_hook_func(_is_array, _array)
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _kind: value)
    return converter


def _plain(value: Any, kind: type) -> Any:
    """Return a number, text or flag as it is: cattrs would turn one into another."""
    if type(value) not in _PLAIN[kind]:
        raise TypeError(repr(value))
    return value


def _is_choice(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Literal


def _chosen(value: Any, kind: Any) -> Any:
    """Return a value that is one of a ``Literal``'s."""
    if value not in get_args(kind):
        raise TypeError(repr(value))
    return value


def _is_array(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is np.ndarray


def _array(value: Any, kind: Any) -> Any:
    """Return a list of numbers as an array of the dtype that the type names."""
    (dtype,) = get_args(get_args(kind)[1])
    array = np.array(value)
    if not isinstance(value, list) or array.ndim != 1 or (array.size and not np.can_cast(array.dtype, dtype)):
        raise TypeError(repr(value))
    return array.astype(dtype)


def _extent(value: Any, _kind: Any) -> Extent:
    """Return a length as it is, and JSON's list of two as a tuple."""
    lengths = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if any(type(length) is not int for length in lengths):
        raise TypeError(repr(value))
    return lengths[0] if len(lengths) == 1 else (lengths[0], lengths[1])
