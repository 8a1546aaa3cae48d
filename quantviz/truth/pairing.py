"""Which file of ground truth belongs to which image, by the stems of their names."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantviz.specs import ImageError, files_below, one_form

SUFFIXES = frozenset(".npy .png .jpg .jpeg .bmp .gif .tif .tiff .webp .csv .tsv .txt .mat .xml".split())
"""Endings of the files that count as ground truth."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Images and files of ground truth, and what could not be paired; all sorted by path.

    Attributes:
        pairs: (image, its file).
        images_without_truth: images whose stem no file has.
        truths_without_image: files whose stem no image has.
        ambiguous: (image, the files that may be its) where stems repeat and folders do not tell them apart.
    """

    pairs: tuple[tuple[Path, Path], ...]
    images_without_truth: tuple[Path, ...]
    truths_without_image: tuple[Path, ...]
    ambiguous: tuple[tuple[Path, tuple[Path, ...]], ...]


def pair(images: Sequence[Path], truths: Path) -> Pairing:
    """Pair images with the files in a folder and the folders in it, by stem.

    ``ILSVRC2012_val_00000001.JPEG`` belongs to ``ILSVRC2012_val_00000001.xml``. Upper and lower case must agree; what
    finds nothing so is compared without case. Where a stem repeats (``Action/001.jpg``, ``Indoor/001.jpg``), the
    folders decide: a file belongs to the image whose folders end in the file's own, below ``truths``.

    Args:
        images: paths, which need not exist.
        truths: a folder; ``files_below`` says what of it counts.

    Raises:
        ImageError: there is no such folder, it holds no file of ground truth, or one in it cannot be read.
    """
    files, wanted = _listed(truths), list(dict.fromkeys(images))
    pairs: dict[Path, Path] = {}
    ambiguous: dict[Path, tuple[Path, ...]] = {}
    taken: set[Path] = set()
    for key in (_stem, _folded):
        groups: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
        for image in wanted:
            if image not in pairs and image not in ambiguous:
                groups[key(image)][0].append(image)
        for file in files:
            if file not in taken:
                groups[key(file)][1].append(file)
        for mine, theirs in groups.values():
            clear, unclear = _matched(mine, theirs, truths)
            pairs.update(clear)
            ambiguous.update(unclear)
            taken.update(clear.values(), *unclear.values())
    return Pairing(
        pairs=tuple(sorted(pairs.items())),
        images_without_truth=tuple(sorted(set(wanted) - set(pairs) - set(ambiguous))),
        truths_without_image=tuple(sorted(set(files) - taken)),
        ambiguous=tuple(sorted(ambiguous.items())),
    )


def _matched(images: list[Path], files: list[Path], top: Path) -> tuple[dict[Path, Path], dict[Path, tuple[Path, ...]]]:
    """Return the file of each of the images of one stem where it is clear, and the files it may be where it is not."""
    if len(images) == len(files) == 1:
        return {images[0]: files[0]}, {}
    fitting = {
        image: [file for file in files if _ends_in(image.parent.parts, file.parent.relative_to(top).parts)]
        for image in images
    }
    claims = Counter(file for fits in fitting.values() for file in fits)
    clear = {image: fits[0] for image, fits in fitting.items() if len(fits) == 1 and claims[fits[0]] == 1}
    left = tuple(sorted(set(files) - set(clear.values())))
    return clear, {image: left for image in images if left and image not in clear}


def _ends_in(parts: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return bool(end) and parts[-len(end) :] == end


def _listed(top: Path) -> list[Path]:
    if not os.path.isdir(top):
        what = "is not a folder" if os.path.exists(top) else "does not exist"
        raise ImageError(f"{top} {what}; give the path of a folder of ground truth.")
    paths = files_below(top, SUFFIXES, "files of ground truth")
    if not paths:
        raise ImageError(f"{top} holds no ground truth; its files must end in one of {' '.join(sorted(SUFFIXES))}.")
    return paths


def _stem(path: Path) -> str:
    return one_form(path.stem)


def _folded(path: Path) -> str:
    return one_form(path.stem).casefold()
