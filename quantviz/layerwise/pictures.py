"""Pictures of a folder, with their classes where the folders' names tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quantviz import images, networks
from quantviz.networks.classes import ClassNames
from quantviz.specs import ImageSample, UsageError

MOST_PICTURES = 1000
"""How many are held in memory at most."""


def dataset(path: Path, limit: int | None = None, names: Sequence[str] = ()) -> list[ImageSample]:
    """Return one picture, or the pictures of a folder and the folders in it, sorted by path.

    A picture in a folder that is named as a class, or as one of ImageNet's 1,000 synsets (``n02123045``), has that
    class as its label.

    Args:
        path: a picture or a folder.
        limit: at most so many of a folder, evenly spaced in the sorted list.
        names: of the classes; () for ImageNet's synsets.

    Raises:
        ImageError: there is no such path, a folder holds no picture, or a picture cannot be used.
        UsageError: the limit is below 1, or more than ``MOST_PICTURES`` would be read.
    """
    classes = ClassNames(names) if names else None
    if not path.is_dir():
        return [_labelled(path, classes)]
    files = images.folder(path)
    if limit is not None:
        images.folder(path, limit)  # refuses a limit below 1
        count = min(limit, len(files))
        files = [files[place * len(files) // count] for place in range(count)]
    if len(files) > MOST_PICTURES:
        raise UsageError(
            f"{path} holds {len(files):,} pictures to read, more than {MOST_PICTURES:,}; limit them to fewer."
        )
    return [_labelled(file, classes) for file in files]


def _labelled(file: Path, classes: ClassNames | None) -> ImageSample:
    folder = file.absolute().parent.name
    return replace(images.load(file), label=networks.synset_class(folder) if classes is None else classes.find(folder))
