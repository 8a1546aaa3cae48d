"""What decides a result: models and weights, maps, calibration images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from quantviz.specs.basics import LATER
from quantviz.specs.errors import UsageError

CAM_METHODS = (
    "gradcam",
    "gradcam++",
    "xgradcam",
    "hirescam",
    "layercam",
    "eigencam",
    "eigengradcam",
    "scorecam",
    "ablationcam",
)
GRADIENT_FREE = ("eigencam", "scorecam", "ablationcam")
"""The methods that need no gradient of the network."""


Extent = int | tuple[int, int]
"""A length in pixels of a square's sides, or (height, width)."""


def sides(extent: Extent) -> tuple[int, int]:
    """Return (height, width) of an extent."""
    return extent if isinstance(extent, tuple) else (extent, extent)


CENTRE: Final = (0.5, 0.5)
"""Where a crop lies that is cut from the middle, from left to right and from top to bottom."""


@dataclass(frozen=True, slots=True)
class Crop:
    """Which part of one picture the networks see, where it is not the centre that their preprocessing cuts.

    Attributes:
        fit: the whole picture is scaled to fit into the input, and the rest of the input is filled with the mean.
        x: where the crop lies from left to right, from 0 (at the picture's left edge) to 1 (at its right edge).
        y: where the crop lies from top to bottom, likewise.

    Raises:
        UsageError: a place is not within the picture, or is given for a picture that is fitted.
    """

    fit: bool = False
    x: float = CENTRE[0]
    y: float = CENTRE[1]

    def __post_init__(self) -> None:
        if not all(math.isfinite(part) and 0 <= part <= 1 for part in (self.x, self.y)):
            raise UsageError(f"Crop {self.x:g},{self.y:g} is not within the picture; give two parts from 0 to 1.")
        if self.fit and (self.x, self.y) != CENTRE:
            raise UsageError("A picture that is fitted has no place to be cut at; leave the place out.")

    @classmethod
    def of_words(cls, text: str) -> Crop:
        """Return the crop that a user wrote: ``"centre"``, ``"fit"``, or its place as ``"0.2,0.5"``.

        Raises:
            UsageError: it is none of these.
        """
        if text in ("centre", "center", "fit"):
            return cls(fit=text == "fit")
        try:
            x, y = (float(part) for part in text.split(","))
        except ValueError:
            raise UsageError(
                f"Crop {text!r} is unknown; give centre, fit, or its place from left and top as 0.2,0.5."
            ) from None
        return cls(x=x, y=y)

    @property
    def words(self) -> str:
        """As ``of_words`` reads it."""
        if self.fit:
            return "fit"
        return "centre" if (self.x, self.y) == CENTRE else f"{self.x:g},{self.y:g}"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Attributes:
        resize: length in pixels that the shorter side is resized to; or (height, width) that the picture is to cover,
            its aspect ratio kept.
        crop: side in pixels of the square centre crop, which is the input's resolution; or its (height, width). Two
            equal sides are one.
        interpolation: ``"bilinear"`` or ``"bicubic"``, both antialiased.
        mean: per channel in the network's ``order``, subtracted after scaling to ``range``.
        std: per channel in the network's ``order``, divided by afterwards.
        fit: ``"crop"``; ``"stretch"``: the whole picture is resized to the crop's size, its aspect ratio lost; or
            ``"pad"``: the whole picture is resized to fit into the crop's size, and the rest filled with ``mean``.
        order: of the input's channels, ``"RGB"`` or ``"BGR"``.
        range: what a channel's levels are scaled to, ``"0-1"`` or ``"0-255"`` (left as they are).
        place: where the crop is cut, from left to right and from top to bottom, each from 0 (left, top) to 1.
    """

    resize: Extent
    crop: Extent
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Literal["crop", "stretch", "pad"] = "crop"
    order: Literal["RGB", "BGR"] = field(default="RGB", metadata=LATER)
    range: Literal["0-1", "0-255"] = field(default="0-1", metadata=LATER)
    place: tuple[float, float] = field(default=CENTRE, metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", tuple(self.place))
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if isinstance(value, tuple | list):
                height, width = value
                object.__setattr__(self, name, height if height == width else (height, width))

    @property
    def size(self) -> tuple[int, int]:
        """The input's (height, width) in pixels."""
        return sides(self.crop)

    def at(self, crop: Crop) -> Preprocessing:
        """Return how one picture becomes the input by another crop; a stretched picture has no place to be cut at."""
        if crop == Crop():
            return self
        if crop.fit:
            return replace(self, fit="pad", place=CENTRE)
        return self if self.fit == "stretch" else replace(self, fit="crop", place=(crop.x, crop.y))


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One set of published weights of a model.

    Attributes:
        name: as its library calls it, ``"IMAGENET1K_V1"`` for instance.
        file: the file's name; for torch hub it ends in the first eight digits of its sha256; "" where the library
            publishes no weights of the network.
        sha256: the whole digest, or its published prefix; "" where none is published.
        preprocessing: what these weights were evaluated with.
        bundled: True when an installed package holds the file.
        source: where timm has the file: a repository of Hugging Face, or an address; "" for torch hub.
    """

    name: str
    file: str
    sha256: str
    preprocessing: Preprocessing
    bundled: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One architecture, of whatever origin.

    Attributes:
        name: what users type.
        family: the name readers of the paper know it by; of a network that is not in the table, the
            library's module, or the class.
        library: ``"torchvision"``, ``"timm"``, or ``"module"`` for a Python module of the user's.
        constructor: what that library makes the network by: a function's name, in timm with the tag of its settings, of
            the user's with its module.
        layer: default CAM target layer, a module's dotted name (the paper's, where it has the model).
        head: dotted name of the module whose weight's first dimension is the number of classes.
        parameters: number of parameters at 1,000 classes.
        weights: the published weights, the default first.
        chosen_weights: what a network card names in place of the default, as users give it; else None.
        class_names: of a network card, in the order of the logits; () elsewhere.
        note: what had to be assumed, or "".
    """

    name: str
    family: str
    library: Literal["torchvision", "timm", "module"]
    constructor: str
    layer: str
    head: str
    parameters: int
    weights: tuple[PublishedWeights, ...]
    chosen_weights: str | None = None
    class_names: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class WeightsRef:
    """Which weights are in a model: everything a reader needs to get the same ones.

    Attributes:
        source: ``"bundled"``, ``"file"`` (the user's), ``"hub"``, ``"untrained"`` or ``"memory"`` (a module's own).
        name: name of the published weights, the user's file name, or ``"untrained"``.
        sha256: of the file's bytes, and of the entry where one of several was picked; for untrained weights and a
            module's own, of the tensors' names and bytes.
        preprocessing: the matching preprocessing.
        classes: number of classes.
        note: what was adapted while loading (observer entries ignored, say), or "".
        names: the classes' names in the order of the logits, where the user gave them; () elsewhere.
    """

    source: Literal["bundled", "file", "hub", "untrained", "memory"]
    name: str
    sha256: str
    preprocessing: Preprocessing
    classes: int = 1000
    note: str = ""
    names: tuple[str, ...] = field(default=(), metadata=LATER)

    @property
    def trained(self) -> bool:
        """False for seeded random weights, which must be labelled wherever they show."""
        return self.source != "untrained"


@dataclass(frozen=True, slots=True)
class CamSpec:
    """Which class activation map is taken, and where.

    Attributes:
        method: one of ``CAM_METHODS``.
        layer: dotted name of the target layer, or None for the model's default.

    Raises:
        UsageError: the method is unknown.
    """

    method: str = "gradcam++"
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.method not in CAM_METHODS:
            raise UsageError(f"CAM method {self.method!r} is unknown; use one of {', '.join(CAM_METHODS)}.")


@dataclass(frozen=True, slots=True)
class CalibrationRef:
    """Which images the activation ranges come from.

    Attributes:
        source: ``"bundled photographs"`` or the user's folder name.
        images: number of network inputs made from them.
        sha256: over the files' digests and the way crops are taken.
    """

    source: str
    images: int
    sha256: str
