"""References that maps are compared with: a picture's saliency, and the user's ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from quantviz import images, saliency
from quantviz.specs import (
    RGB,
    GroundTruth,
    Heatmap,
    ImageError,
    ImageSample,
    Preprocessing,
    Saliency,
    TruthKind,
)
from quantviz.truth import (
    check_lossy_mask,
    fixations_from_map,
    pair,
    read_boxes,
    read_fixations,
    same_aspect,
    to_mask,
    to_truth,
)

SPECTRAL_RESIDUAL = "spectral_residual"
MOST_OTHERS = 8
"""At most so many other pictures' ground truth is read for the baselines: the next ones in the folder's order."""

_TURNED_WITH = "the picture is stored turned, and so is this file: it was turned upright with the picture"
_AS_UPRIGHT = "the picture was turned upright by its orientation tag; this file is taken as of the upright picture"

TRUTH_KINDS: tuple[TruthKind, ...] = ("map", "mask", "fixations", "boxes")


@dataclass(frozen=True, slots=True)
class SaliencySource:
    """Where a picture's saliency comes from.

    Attributes:
        key: decides its maps together with the picture; None for no saliency.
        name: the method's or the file's, for display.
        data: a supplied file's bytes, or None for a prediction.
        predict: the method, or None for a supplied file.
    """

    key: str | None
    name: str
    data: bytes | None = None
    predict: Callable[[RGB], Heatmap] | None = None

    def heatmap(self, sample: ImageSample, crop: RGB, preprocessing: Preprocessing) -> Heatmap | None:
        """Return the saliency of the pixels that the network saw, at the input's resolution; None for no saliency.

        Raises:
            ImageError: a supplied map cannot be read or does not fit the picture.
        """
        if self.predict is not None:
            return self.predict(crop)
        if self.data is None:
            return None
        values, _ = self._upright(self.data, sample, preprocessing)
        return saliency.to_heatmap(images.align_map(values, sample.rgb.shape[:2], preprocessing))

    def notes(self, sample: ImageSample, preprocessing: Preprocessing) -> tuple[str, ...]:
        """Return what was decided about a supplied map of a picture that is stored turned; () for all else.

        Raises:
            ImageError: as ``heatmap``.
        """
        if self.data is None or sample.orientation == 1:
            return ()
        note = self._upright(self.data, sample, preprocessing)[1]
        return (f"Saliency {self.name}: {note}.",) if note else ()

    def _upright(self, data: bytes, sample: ImageSample, preprocessing: Preprocessing) -> tuple[npt.NDArray[Any], str]:
        """Return a supplied map's values in the upright picture's pixels, or the network input's, and a note."""
        values = images.read_map(data, name=self.name)
        if values.shape != sample.rgb.shape[:2] and values.shape == preprocessing.size:
            return values, ""
        return _upright_map(values, sample)

    def described(self, heatmap: Heatmap) -> Saliency:
        """Return the heatmap with its source."""
        return Saliency(heatmap, self.name, predicted=self.data is None)


def saliency_source(choice: Path | bytes | str | None, name: str = "") -> SaliencySource:
    """Return the source of saliency that a user chose.

    Args:
        choice: None; a method's name; the path of an .onnx network or of a map; or a map file's bytes.
        name: display name of a map given as bytes.

    Raises:
        UsageError: no such method.
        ImageError: the map's file cannot be read.
        CheckpointError: the network cannot be used.
    """
    if choice is None:
        return SaliencySource(None, "")
    if isinstance(choice, str) or (isinstance(choice, Path) and choice.suffix.lower() == ".onnx"):
        method = saliency.predictor(choice)
        return SaliencySource(method.key, method.title, predict=method.predict)
    name, data = images.read_bytes(choice, name)
    return SaliencySource(hashlib.sha256(data).hexdigest(), name, data)


def saliency_truth(salient: Saliency) -> GroundTruth:
    """Return a saliency as the ground truth that maps are scored against."""
    values = salient.heatmap.values
    return GroundTruth("map", (values.shape[0], values.shape[1]), salient.source, salient.predicted, values=values)


@dataclass(frozen=True, slots=True)
class TruthSource:
    """A ground-truth file of the user's.

    Attributes:
        data: its bytes.
        name: its name, which also tells its format.
        kind: what it holds.
        others: other pictures of the same folder with their files, for the baselines.
    """

    data: bytes
    name: str
    kind: TruthKind
    others: tuple[tuple[Path, Path], ...] = ()

    def key(self, sample: ImageSample) -> list[str]:
        """Return everything that decides the ground truth: kind, files, and the names that select rows and parsers."""
        files = [images.digest(path) for pair_ in self.others for path in pair_]
        names = [path.name for pair_ in self.others for path in pair_]
        return [self.kind, self.name, sample.name, hashlib.sha256(self.data).hexdigest(), *files, *names]

    def read_others(self, preprocessing: Preprocessing) -> list[GroundTruth]:
        """Return the other pictures' ground truth, each in the pixels of its own crop.

        Raises:
            ImageError: a file cannot be used or does not fit its picture.
        """
        truths = []
        for picture, file in self.others:
            name, data = images.read_bytes(file, "")
            truths.append(TruthSource(data, name, self.kind).read(images.load(picture), preprocessing))
        return truths

    def read(self, sample: ImageSample, preprocessing: Preprocessing) -> GroundTruth:
        """Return the ground truth in the crop's pixels.

        Raises:
            ImageError: the file cannot be used or does not fit the picture.
        """
        height, width = sample.rgb.shape[:2]
        size, shape = (height, width), preprocessing.size
        array, notes = self._upright(sample, size)
        left_out = 0
        if self.kind == "map":
            array = images.align_map(array, size, preprocessing)
        elif self.kind == "mask":
            array = images.align_mask(array, size, preprocessing)
        elif self.kind == "fixations":
            array, left_out = images.crop_points(array, size, preprocessing)
        else:
            array, left_out = images.crop_boxes(array, size, preprocessing)
        return to_truth(self.kind, array, shape, source=self.name, notes=notes, left_out=left_out)

    def _upright(self, sample: ImageSample, size: tuple[int, int]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
        """Return the file's content in the upright picture's pixels, and notes.

        Where a picture was stored lying, the file's own size says of which of the two it is. Where it was stored upside
        down or mirrored, nothing does: it is taken as of the upright picture, and a note says so.
        """
        stored, turn = size[::-1], sample.orientation
        lying = turn >= 5 and size[0] != size[1]
        if lying and self.kind in ("map", "mask"):
            array, notes = read_truth(self.data, self.name, self.kind, size, sample.name)
            array, note = _upright_map(array, sample)
            return array, (*notes, note)
        try:
            array, notes = read_truth(self.data, self.name, self.kind, size, sample.name)
        except ImageError:
            if not lying:
                raise
            array, notes = read_truth(self.data, self.name, self.kind, stored, sample.name)
            turned = images.turned_boxes if self.kind == "boxes" else images.turned_points
            return turned(array, stored, turn), (*notes, _TURNED_WITH)
        return array, (*notes, _AS_UPRIGHT) if turn > 1 else notes


_OF_POINTS = (".csv", ".json", ".xml", ".mat", ".txt", ".tsv")
"""Endings of files that hold points or boxes, and never a map or a mask."""


def _upright_map(values: npt.NDArray[Any], sample: ImageSample) -> tuple[npt.NDArray[Any], str]:
    """Return a map (h, w) in the upright picture's pixels, and what was decided; "" where the picture was not turned.

    Where a picture was stored lying, the map's own size says of which of the two it is.
    """
    size, turn = sample.rgb.shape[:2], sample.orientation
    if turn >= 5 and same_aspect(values.shape, size[::-1]) and not same_aspect(values.shape, size):
        return images.turned_map(values, turn), _TURNED_WITH
    return values, _AS_UPRIGHT if turn > 1 else ""


def read_truth(
    data: bytes, name: str, kind: TruthKind, size: tuple[int, int], image: str = ""
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Read a ground-truth file in the picture's own pixels.

    Args:
        data: the file's bytes.
        name: the file's name.
        kind: what it holds.
        size: (H, W) of the picture.
        image: the picture's name, for tables of several images.

    Returns:
        A map's or mask's values (h, w), points (n, 2) or boxes (n, 4), float; and notes.

    Raises:
        ImageError: the file cannot be used or does not fit the picture.
    """
    if kind == "boxes":
        return read_boxes(data, size, name=name, image=image)
    if kind == "fixations":
        if name.lower().endswith((".npy", ".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")):
            return fixations_from_map(images.read_map(data, name=name), size, name=name)
        return read_fixations(data, size, name=name, image=image)
    if name.lower().endswith(_OF_POINTS):
        raise ImageError(
            f"{name} is no picture, as a ground truth of kind {kind} is; name its kind: fixations (points) or boxes."
        )
    values = images.read_map(data, name=name, indexed=kind == "mask")
    if kind == "map":
        return values, ()
    if lossy := images.is_lossy(data):
        check_lossy_mask(values, name)
    return to_mask(values, lossy=lossy)


def truth_source(path: Path, kind: TruthKind, image: Path | None = None) -> TruthSource:
    """Open a ground-truth file, or the one of a folder that belongs to an image by its stem.

    Raises:
        ImageError: there is no such file, or the folder holds none or several for the image.
    """
    others: tuple[tuple[Path, Path], ...] = ()
    if path.is_dir():
        beside = images.folder(image.parent) if image and image.is_file() else []
        pairing = pair([image, *beside] if image else [], path)
        own = [index for index, (picture, _) in enumerate(pairing.pairs) if picture == image]
        if not own:
            unclear = dict(pairing.ambiguous).get(image, ()) if image else ()
            files = ", ".join(str(file) for file in unclear)
            holds = f"several files ({files})" if files else "no file"
            raise ImageError(f"Folder {str(path)!r} holds {holds} for {image}; name one file.")
        path = pairing.pairs[own[0]][1]
        after = pairing.pairs[own[0] + 1 :] + pairing.pairs[: own[0]]
        others = tuple(entry for entry in after if entry[0] != image)[:MOST_OTHERS]
    name, data = images.read_bytes(path, "")
    return TruthSource(data, name, kind, others)
