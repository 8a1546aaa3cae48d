"""Names of classes: ImageNet's by their synsets, and those of a file. Imports neither torch nor timm."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from quantviz.specs import UsageError

_SYNSET = re.compile(r"n\d{8}")
_FILE = ("data", "_info", "imagenet_synsets.txt")
_NAMES = "imagenet_synset_to_lemma.txt"


def synset_class(name: str) -> int | None:
    """Return the class index, 0 to 999, of a WordNet synset such as ``n02123045``; None where it is none of ImageNet's.

    The order is that of timm's own list, in which every published ImageNet classifier has its outputs.
    """
    return _classes().get(name) if _SYNSET.fullmatch(name) else None


@lru_cache(maxsize=1)
def class_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes: the first word that WordNet has for each; () without timm's list.

    A few are not the words of torchvision's list, from which predictions are named; the indices are the same.
    """
    path = _list()
    if path is None:
        return ()
    words = (line.split("\t") for line in path.with_name(_NAMES).read_text("utf-8").splitlines())
    named = {entry[0]: entry[1].partition(",")[0] for entry in words if len(entry) > 1}
    return tuple(named.get(synset, synset) for synset in _classes())


def names_of_file(path: Path) -> tuple[str, ...]:
    """Return the names of classes from a text file: one on each line, in the order of the logits.

    Raises:
        UsageError: the file cannot be read, or is no text.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"Class names {str(path)!r} cannot be read ({reason}); give a name on each line.") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)


@lru_cache(maxsize=1)
def _classes() -> Mapping[str, int]:
    path = _list()
    return {} if path is None else {name: index for index, name in enumerate(path.read_text().split())}


def _list() -> Path | None:
    spec = importlib.util.find_spec("timm")  # does not import it, which takes seconds
    folders = (spec and spec.submodule_search_locations) or ()
    return next((path for folder in folders if (path := Path(folder, *_FILE)).is_file()), None)
