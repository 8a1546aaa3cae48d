"""A network's preprocessing from what its library declares: torchvision's transforms, timm's settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast

from quantviz.specs import Preprocessing, UsageError

IMAGENET: Final = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What most classifiers of ImageNet's classes were trained for."""

_WAYS = "give quantviz.Preprocessing(...), torchvision's weights or their transforms(), or timm's data settings"


def preprocessing_of(choice: object, module: object = None) -> tuple[Preprocessing, str]:
    """Return a preprocessing, and a note where it had to be assumed.

    Args:
        choice: a ``Preprocessing``; torchvision's weights (``MobileNet_V2_Weights.IMAGENET1K_V1``) or their
            ``transforms()``; timm's settings (``timm.data.resolve_data_config(...)``, ``model.pretrained_cfg``); or
            None: the settings that timm left in ``module``, else ``IMAGENET``.
        module: the network.

    Raises:
        UsageError: it is none of these, or has no square crop, or another interpolation than bilinear and bicubic.
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


def of_input(preprocessing: Preprocessing, height: int, width: int) -> Preprocessing:
    """Return the preprocessing of a picture that is an input (H, W) already: only mean and deviation matter."""
    return replace(preprocessing, resize=min(height, width), crop=min(height, width), fit="crop")


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
    preprocessing = _made([math.floor(crop[0] / part)], crop, str(settings.get("interpolation", "bicubic")), mean, std)
    return replace(preprocessing, fit="stretch") if mode == "squash" else preprocessing


def _made(resize: list[int], crop: list[int], interpolation: str, mean: list[float], std: list[float]) -> Preprocessing:
    if len(set(crop)) != 1 or len(set(resize)) != 1 or len(mean) != 3 or len(std) != 3:
        raise UsageError(f"Preprocessing with a crop of {crop} and {len(mean)} channels is not supported; {_WAYS}.")
    if interpolation not in ("bilinear", "bicubic"):
        raise UsageError(f"Interpolation {interpolation!r} is not supported; use bilinear or bicubic, or {_WAYS}.")
    return Preprocessing(
        int(resize[0]),
        int(crop[0]),
        cast(Literal["bilinear", "bicubic"], interpolation),
        cast("tuple[float, float, float]", tuple(map(float, mean))),
        cast("tuple[float, float, float]", tuple(map(float, std))),
    )
