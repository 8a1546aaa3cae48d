"""ImageNet's classes by the names of their synsets. Imports neither torch nor timm."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

_SYNSET = re.compile(r"n\d{8}")
_FILE = ("data", "_info", "imagenet_synsets.txt")


def synset_class(name: str) -> int | None:
    """Return the class index, 0 to 999, of a WordNet synset such as ``n02123045``; None where it is none of ImageNet's.

    The order is that of timm's own list, in which every published ImageNet classifier has its outputs.
    """
    return _classes().get(name) if _SYNSET.fullmatch(name) else None


@lru_cache(maxsize=1)
def _classes() -> Mapping[str, int]:
    found = importlib.util.find_spec("timm")  # does not import it, which takes seconds
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder, *_FILE)).is_file():
            return {name: index for index, name in enumerate(path.read_text().split())}
    return {}
