"""The images that activation ranges are calibrated on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quantviz import images
from quantviz.specs import RGB, CalibrationRef, ImageError, Preprocessing, UsageError, digest_of

MAX_IMAGES = 256
_RECIPE = "whole; four corner squares of 0.6 of the shorter side"
_CORNER = 0.6
_VIEWS_SEED = 0
_LEAST_AREA, _MOST_LOG_RATIO = 0.15, 0.2


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Calibration images before they are read.

    Attributes:
        ref: describes them in results and decides keys in the store.
        files: the pictures.
        digests: sha256 in hex of each file's bytes.
        bundled: True for the bundled photographs, of which several crops are taken.
        notes: sentences on what of the folder counts several times, and what not at all.
    """

    ref: CalibrationRef
    files: tuple[Path, ...]
    digests: tuple[str, ...]
    bundled: bool
    notes: tuple[str, ...] = ()

    def inputs(self, preprocessing: Preprocessing) -> Iterator[npt.NDArray[np.float32]]:
        """Yield one network input (1, 3, height, width) after the other.

        Raises:
            ImageError: a picture cannot be used, or is no longer what it was.
        """
        for rgb in self._pictures():
            for window in _windows(rgb) if self.bundled else (rgb,):
                yield images.normalize(images.crop(window, preprocessing), preprocessing)

    def views(self, preprocessing: Preprocessing, count: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield ``count`` network inputs (1, 3, height, width) cut from the pictures at random, the same at every call.

        A view covers 0.15 to 1 of a picture's area at an aspect ratio of 0.82 to 1.22, and every other one is
        mirrored, so that learning from a few pictures does not overfit them.

        Raises:
            ImageError: as ``inputs``.
        """
        chance = np.random.default_rng(_VIEWS_SEED)
        pictures, stretched = list(self._pictures()), replace(preprocessing, fit="stretch")
        for index in range(count):
            view = _view(pictures[index % len(pictures)], chance)
            yield images.normalize(images.crop(view, stretched), preprocessing)

    def _pictures(self) -> Iterator[RGB]:
        for file, digest in zip(self.files, self.digests, strict=True):
            sample = images.load(file)
            if sample.id != digest:  # ranges would be kept under the wrong key
                raise ImageError(f"Calibration picture {file} changed while it was in use; try again.")
            yield sample.rgb


def calibration_set(folder: Path | None) -> CalibrationSet:
    """Return the calibration images: the bundled photographs, or those of a folder.

    Of a folder with more than ``MAX_IMAGES`` pictures, evenly spaced ones of the sorted list are taken.

    Raises:
        UsageError: the folder does not exist, holds no picture, or holds one that cannot be read.
    """
    if folder is None:
        return _bundled()
    if not folder.is_dir():
        raise UsageError(f"Calibration folder {str(folder)!r} does not exist; name a folder of pictures.")
    files, held = images.folder(folder), 0
    if len(files) > MAX_IMAGES:
        held = len(files)
        files = [files[index * held // MAX_IMAGES] for index in range(MAX_IMAGES)]
    digests = tuple(images.digest(file) for file in files)
    ref = CalibrationRef(folder.resolve().name, len(files), digest_of(digests))
    return CalibrationSet(ref, tuple(files), digests, bundled=False, notes=_notes(folder, files, digests, held))


def _notes(folder: Path, files: Sequence[Path], digests: Sequence[str], held: int) -> tuple[str, ...]:
    """Return what to say of a folder: pictures that repeat others, and those that are left out.

    Args:
        folder: of the pictures.
        files: those that are taken.
        digests: theirs.
        held: how many it holds, where not all are taken; else 0.
    """
    notes = [f"Of {held:,} calibration pictures {len(files)} are taken, evenly spaced."] if held else []
    first: dict[str, Path] = {}
    pairs = [(each, first.setdefault(digest, each)) for each, digest in zip(files, digests, strict=True)]
    if again := [pair for pair in pairs if pair[0] != pair[1]]:
        one, other = (str(path.relative_to(folder)) for path in again[0])
        which = f"{one!r} is {other!r}"
        few = "1 calibration picture repeats" if len(again) == 1 else f"{len(again)} calibration pictures repeat"
        notes.append(f"{few} another ({which}); each file counts.")
    return (*notes, *(f"Calibration: {note}" for note in images.left_out(folder)))


@lru_cache(maxsize=1)
def _bundled() -> CalibrationSet:
    files = tuple(images.bundled_path(name) for name in images.BUNDLED)
    digests = tuple(images.digest(file) for file in files)
    ref = CalibrationRef("bundled photographs", 5 * len(files), digest_of([_RECIPE, digests]))
    return CalibrationSet(ref, files, digests, bundled=True)


def _windows(rgb: RGB) -> tuple[RGB, ...]:
    """Return the whole picture and its four corners, for more content and scales from few photographs."""
    height, width = rgb.shape[:2]
    side = int(min(height, width) * _CORNER)
    corners = tuple(
        rgb[top : top + side, left : left + side] for top in (0, height - side) for left in (0, width - side)
    )
    return (rgb, *corners)


def _view(rgb: RGB, chance: np.random.Generator) -> RGB:
    """Return a random window of a picture, perhaps mirrored."""
    height, width = rgb.shape[:2]
    area = height * width * chance.uniform(_LEAST_AREA, 1)
    ratio = np.exp(chance.uniform(-_MOST_LOG_RATIO, _MOST_LOG_RATIO))
    across = min(max(int((area * ratio) ** 0.5), 1), width)
    down = min(max(int((area / ratio) ** 0.5), 1), height)
    left, top = int(chance.integers(0, width - across + 1)), int(chance.integers(0, height - down + 1))
    window = rgb[top : top + down, left : left + across]
    return window[:, ::-1] if chance.random() < 0.5 else window
