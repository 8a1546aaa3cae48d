"""A network's preprocessing from what its library declares: torchvision's transforms, timm's settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast

from quantviz.specs import CENTRE, Extent, Preprocessing, UsageError, sides

IMAGENET: Final = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What most classifiers of ImageNet's classes were trained for."""

_ZERO, _HALF, _ONE = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
_USUAL: Final = (
    IMAGENET,
    replace(IMAGENET, mean=_HALF, std=_HALF),
    replace(IMAGENET, mean=_ZERO, std=_ONE),
    replace(IMAGENET, mean=_ZERO, std=_ONE, range="0-255"),
)
_SIDES = (16, 4096)
_WAYS = "give quantviz.Preprocessing(...), torchvision's weights or their transforms(), or timm's data settings"


def preprocessing_of(choice: object, module: object = None) -> tuple[Preprocessing, str]:
    """Return a preprocessing, and a note where it had to be assumed.

    Args:
        choice: a ``Preprocessing``; torchvision's weights (``MobileNet_V2_Weights.IMAGENET1K_V1``) or their
            ``transforms()``; timm's settings (``timm.data.resolve_data_config(...)``, ``model.pretrained_cfg``); or
            None: the settings that timm left in ``module``, else ``IMAGENET``.
        module: the network.

    Raises:
        UsageError: it is none of these, or has another interpolation than bilinear and bicubic.
    """
    if isinstance(choice, Preprocessing):
        return choice, ""
    if choice is None:
        settings = getattr(module, "pretrained_cfg", None)
        if isinstance(settings, Mapping) and "input_size" in settings:
            return _of_timm(settings), ""
        return IMAGENET, (
            "The preprocessing was not given: resized to 256, centre crop of 224, ImageNet's mean and standard "
            "deviation are assumed."
        )
    if isinstance(choice, Mapping):
        return _of_timm(choice), ""
    transforms = getattr(choice, "transforms", None)
    return _of_torchvision(transforms() if callable(transforms) else choice), ""


_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "interpolation": ("bilinear", "bicubic"),
    "fit": ("crop", "stretch", "pad"),
    "order": ("RGB", "BGR"),
    "range": ("0-1", "0-255"),
}
_KEYS = ("resize", "crop", "mean", "std", "place", *_CHOICES)


def of_words(text: str, usual: Preprocessing) -> Preprocessing:
    """Return the preprocessing that a user wrote: ``"resize=256,mean=0.5/0.5/0.5,std=0.5,interpolation=bicubic"``.

    Args:
        text: settings by the names of ``Preprocessing``, separated by commas; three values by slashes, or one for all
            channels; ``place`` as two parts from 0 to 1.
        usual: what holds where nothing is said.

    Raises:
        UsageError: a name or a value is wrong.
    """
    values: dict[str, Any] = {}
    for entry in text.split(","):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or name not in _KEYS or name in values:
            raise UsageError(f"Input {entry.strip()!r} is unclear; give each of {', '.join(_KEYS)} once, name=value.")
        values[name] = _value(name, value)
    if "crop" in values and "resize" not in values and isinstance(values["crop"], tuple):
        values["resize"] = resize_for(values["crop"], usual)
    made = replace(usual, **values)
    if not covers(made):
        raise UsageError(
            f"Input with a crop of {extent_words(made.crop)} of {extent_words(made.resize)} pixels is not possible; "
            "raise resize."
        )
    return made


def resize_for(crop: Extent, usual: Preprocessing) -> Extent:
    """Return what a picture is resized to before another crop, in the usual one's ratio."""
    if sides(crop) == usual.size:
        return usual.resize
    ratio = sides(usual.resize)[0] / usual.size[0]
    return round(crop * ratio) if isinstance(crop, int) else (round(crop[0] * ratio), round(crop[1] * ratio))


def covers(preprocessing: Preprocessing) -> bool:
    """Tell whether a picture of any shape fills the input, or is padded as its ``fit`` says, with nothing black."""
    wanted = zip(preprocessing.size, sides(preprocessing.resize), strict=True)
    return preprocessing.fit != "crop" or all(side <= resized for side, resized in wanted)


def extent_words(extent: Extent) -> str:
    """Return an extent as users write it: ``"224"``, or ``"224x320"``, height first."""
    return str(extent) if isinstance(extent, int) else "x".join(map(str, extent))


def words_of(preprocessing: Preprocessing) -> str:
    """Return a preprocessing in words: "shorter side 256 (bilinear), centre crop of 224, mean ..., std ...".

    Channel order and range follow where they are not RGB and 0-1.
    """
    crop, resize = extent_words(preprocessing.crop), extent_words(preprocessing.resize)
    resized = f"shorter side {resize}" if isinstance(preprocessing.resize, int) else f"scaled to cover {resize}"
    fit = f"{resized} ({preprocessing.interpolation}), centre crop of {crop}"
    if preprocessing.fit == "crop" and preprocessing.place != CENTRE:
        fit = fit.replace("centre crop", "crop at {:g}/{:g}".format(*preprocessing.place))
    if preprocessing.fit == "stretch":
        fit = f"stretched to {crop} ({preprocessing.interpolation})"
    if preprocessing.fit == "pad":
        fit = f"fitted into {crop} ({preprocessing.interpolation}), the rest filled with the mean"
    if not isinstance(preprocessing.crop, int):
        fit += " (height x width)"
    mean, std = ("/".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    unusual = [value for value in (preprocessing.order, preprocessing.range) if value not in ("RGB", "0-1")]
    return ", ".join((fit, f"mean {mean}", f"std {std}", *unusual))


def normalization_words(preprocessing: Preprocessing) -> str:
    """Return what ``words_of`` says of mean, deviation, channel order and range."""
    return "mean" + words_of(preprocessing).rpartition("mean")[2]


def usual_normalizations(given: Preprocessing) -> list[Preprocessing]:
    """Return a preprocessing with the other normalizations that are usual, each in its channels' order."""

    def in_order(values: tuple[float, float, float]) -> tuple[float, float, float]:
        red, green, blue = values
        return values if given.order == "RGB" else (blue, green, red)

    usual = [replace(given, mean=in_order(one.mean), std=in_order(one.std), range=one.range) for one in _USUAL]
    return [other for other in usual if other != given]


def _value(name: str, text: str) -> object:
    if choices := _CHOICES.get(name):
        if text not in choices:
            raise UsageError(f"Input {name}={text} is unknown; use {' or '.join(choices)}.")
        return text
    try:
        if name in ("resize", "crop"):
            lengths = [int(part) for part in text.lower().split("x")]
            if len(lengths) > 2 or not all(_SIDES[0] <= length <= _SIDES[1] for length in lengths):
                raise ValueError
            return lengths[0] if len(set(lengths)) == 1 else tuple(lengths)
        values = [float(part) for part in text.split("/")]
    except ValueError:
        raise UsageError(
            f"Input {name}={text} is no number that can be used; give one such as 256 or 0.485, or height and width "
            "as 224x320."
        ) from None
    if name == "place":
        if len(values) != 2 or not all(0 <= part <= 1 for part in values):
            raise UsageError(f"Input {name}={text} cannot be used; give two parts from 0 to 1, as 0.5/0.2.")
        return tuple(values)
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
        raise UsageError(f"Input {name}={text} cannot be used; give three values as 0.485/0.456/0.406, or one.")
    return tuple(values)


def of_input(preprocessing: Preprocessing, height: int, width: int) -> Preprocessing:
    """Return the preprocessing of a picture that is an input (H, W) already: only mean and deviation matter."""
    return replace(preprocessing, resize=(height, width), crop=(height, width), fit="crop", place=CENTRE)


def _of_torchvision(transforms: Any) -> Preprocessing:
    try:
        crop, resize = list(transforms.crop_size), list(transforms.resize_size)
        mean, std, interpolation = list(transforms.mean), list(transforms.std), transforms.interpolation.value
    except (AttributeError, TypeError):
        raise UsageError(f"Preprocessing {type(transforms).__name__} is none that can be read; {_WAYS}.") from None
    return _made(resize, crop, str(interpolation), mean, std)


def _of_timm(settings: Mapping[str, Any]) -> Preprocessing:
    try:
        crop, mean, std = list(settings["input_size"])[1:], list(settings["mean"]), list(settings["std"])
    except (KeyError, TypeError):
        raise UsageError(
            f"Preprocessing with {', '.join(map(str, settings)) or 'nothing'} is unclear; {_WAYS}."
        ) from None
    mode, part = settings.get("crop_mode") or "center", float(settings.get("crop_pct") or 0.875)
    if mode != "center" and not (mode == "squash" and part == 1):
        raise UsageError(f"Crop mode {mode!r} of {part:g} is not supported; {_WAYS}.")
    resize = [math.floor(side / part) for side in crop]
    preprocessing = _made(resize, crop, str(settings.get("interpolation", "bicubic")), mean, std)
    return replace(preprocessing, fit="stretch") if mode == "squash" else preprocessing


def _made(resize: list[int], crop: list[int], interpolation: str, mean: list[float], std: list[float]) -> Preprocessing:
    if len(crop) not in (1, 2) or len(resize) not in (1, 2) or len(mean) != 3 or len(std) != 3:
        raise UsageError(f"Preprocessing with a crop of {crop} and {len(mean)} channels is not supported; {_WAYS}.")
    if interpolation not in ("bilinear", "bicubic"):
        raise UsageError(f"Interpolation {interpolation!r} is not supported; use bilinear or bicubic, or {_WAYS}.")
    return Preprocessing(
        _extent(resize),
        _extent(crop),
        cast(Literal["bilinear", "bicubic"], interpolation),
        cast("tuple[float, float, float]", tuple(map(float, mean))),
        cast("tuple[float, float, float]", tuple(map(float, std))),
    )


def _extent(lengths: list[int]) -> Extent:
    """Return torchvision's list, one length or height and width, as an extent."""
    return int(lengths[0]) if len(set(lengths)) == 1 else (int(lengths[0]), int(lengths[1]))
