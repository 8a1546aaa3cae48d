"""Names of classes: ImageNet's by their synsets, and those of a file. Imports neither torch nor timm."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from quantviz.specs import UsageError, foreign, limits, one_form

_SYNSET = re.compile(r"n\d{8}")
_FILE = ("data", "_info", "imagenet_synsets.txt")
_NAMES = "imagenet_synset_to_lemma.txt"
_SHOWN = 3


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
        with path.open("rb") as file:
            data = file.read(limits.CLASSES_BYTES + 1)
        if len(data) > limits.CLASSES_BYTES:
            raise UsageError(
                f"Class names {str(path)!r} have more than {limits.CLASSES_BYTES >> 20} MiB; give a name on each line."
            )
        if (found := foreign(data)) and found.remedy:
            raise UsageError(found.sentence(path.name, "a text of class names", ""))
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"Class names {str(path)!r} cannot be read ({reason}); give a name on each line.") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)


class ClassNames:
    """Finds classes by what people write: a name, ImageNet's synset, or an index.

    A name is found as it is; else without regard to capitals, and with ``_`` and ``-`` as spaces. A name that several
    classes have finds none.

    Args:
        names: of the classes, in the order of the logits; () for ImageNet's 1,000.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names) or class_names()
        self._imagenet = len(self.names) == 1000
        self._exact, self._plain = unique(self.names), unique([_plain(name) for name in self.names])

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.names)

    def find(self, text: str) -> int | None:
        """Return the index of a class, or None where the text names none."""
        found = self._exact.get(text)
        if found is None and self._imagenet:
            found = synset_class(text)
        if found is None:
            found = self._plain.get(_plain(text))
        if found is None and text.isascii() and text.isdigit() and int(text) < len(self.names):
            return int(text)
        return found

    def near(self, text: str) -> str:
        """Return a name that is nearly the text, for a message; else the first names."""
        close = difflib.get_close_matches(text, self.names, n=1)
        return f"{close[0]!r} is near" if close else f"the classes are {some_of(self.names)}"


def unique(names: Sequence[str]) -> Mapping[str, int]:
    """Return the places of the names that are there once."""
    counts = Counter(names)
    return {name: place for place, name in enumerate(names) if counts[name] == 1}


def some_of(names: Sequence[str]) -> str:
    """Return the first names in quotation marks, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _plain(name: str) -> str:
    return " ".join(one_form(name).casefold().replace("_", " ").replace("-", " ").split())


@lru_cache(maxsize=1)
def _classes() -> Mapping[str, int]:
    path = _list()
    return {} if path is None else {name: index for index, name in enumerate(path.read_text().split())}


def _list() -> Path | None:
    spec = importlib.util.find_spec("timm")  # does not import it, which takes seconds
    folders = (spec and spec.submodule_search_locations) or ()
    return next((path for folder in folders if (path := Path(folder, *_FILE)).is_file()), None)
