"""Where the network looks in a picture: resize, centre crop and scaling, for pictures and for their maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quantviz.specs import RGB, FloatMap, ImageError, Preprocessing

ASPECT_TOLERANCE = 0.01
"""How far a map's aspect ratio may be from its picture's, as a fraction."""


def crop(rgb: RGB, preprocessing: Preprocessing) -> RGB:
    """Resize the shorter side and cut the centre, bit for bit as torchvision's Resize and CenterCrop on PIL images.

    Args:
        rgb: uint8 (H, W, 3).
        preprocessing: its ``resize``, ``crop`` and ``interpolation`` are used.

    Returns:
        uint8 (crop, crop, 3).
    """
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    return np.array(_cut(Image.fromarray(rgb), preprocessing, resample))


def crop_map(values: npt.NDArray[Any], image_size: tuple[int, int], preprocessing: Preprocessing) -> FloatMap:
    """Take a map of a whole picture to the crop's pixels, by the geometry of ``crop`` and bilinearly.

    Args:
        values: real (h, w); resized to ``image_size`` first where that differs.
        image_size: (H, W) of the picture.
        preprocessing: its ``resize`` and ``crop`` are used.

    Returns:
        float32 (crop, crop). A map whose largest magnitude float32 could not hold well is divided by it.
    """
    height, width = image_size
    picture = Image.fromarray(_as_float32(values))
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(_cut(picture, preprocessing, Image.Resampling.BILINEAR))


def align_map(values: npt.NDArray[Any], image_size: tuple[int, int], preprocessing: Preprocessing) -> FloatMap:
    """Take a supplied map to the crop's pixels, judging by its size what it is a map of.

    In this order: the picture's own size is the whole picture; (crop, crop) is the network's input, used as it
    is; the picture's aspect ratio to within 1 % is the whole picture at another scale.

    Args:
        values: real (h, w).
        image_size: (H, W) of the upright picture.
        preprocessing: its ``resize`` and ``crop`` are used.

    Returns:
        float32 (crop, crop), not scaled (but see ``crop_map`` for extreme magnitudes).

    Raises:
        ImageError: the size is none of these.
    """
    (h, w), (height, width), side = values.shape, image_size, preprocessing.crop
    if (h, w) == (side, side) != (height, width):
        return _as_float32(values)
    if abs((w * height) / (h * width) - 1.0) <= ASPECT_TOLERANCE:
        return crop_map(values, image_size, preprocessing)
    raise ImageError(
        f"The map's size {w} x {h} fits neither the image's {width} x {height} (by aspect ratio, within 1 %) nor "
        f"the model's input of {side} x {side}; resize the map to one of them."
    )


def resize_map(values: npt.NDArray[Any], shape: tuple[int, int]) -> FloatMap:
    """Resize a map to the resolution of another one of the same aspect ratio, bilinearly.

    Args:
        values: real (h, w).
        shape: (H, W), of the same aspect ratio to within 1 %.

    Returns:
        float32 (H, W), not scaled (but see ``crop_map`` for extreme magnitudes).

    Raises:
        ImageError: the aspect ratios differ.
    """
    (h, w), (height, width) = values.shape, shape
    if abs((w * height) / (h * width) - 1.0) > ASPECT_TOLERANCE:
        raise ImageError(
            f"The maps' sizes {w} x {h} and {width} x {height} differ in aspect ratio; crop or resize one of them first."
        )
    return np.array(Image.fromarray(_as_float32(values)).resize((width, height), Image.Resampling.BILINEAR))


def normalize(crop: RGB, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Scale to [0, 1], subtract the mean and divide by the standard deviation of each channel.

    Args:
        crop: uint8 (h, w, 3).
        preprocessing: its ``mean`` and ``std`` are used.

    Returns:
        float32 (1, 3, h, w), contiguous and writeable.
    """
    mean, std = np.array((preprocessing.mean, preprocessing.std), np.float32)
    scaled = (crop.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


def _cut(picture: Image.Image, preprocessing: Preprocessing, resample: Image.Resampling) -> Image.Image:
    short, long = sorted(picture.size)
    size = preprocessing.resize, int(preprocessing.resize * long / short)
    width, height = size if picture.width <= picture.height else size[::-1]
    side = preprocessing.crop
    left, top = _offset(width, side), _offset(height, side)
    return picture.resize((width, height), resample).crop((left, top, left + side, top + side))


def _offset(length: int, side: int) -> int:
    # torchvision rounds halves to even where it cuts, and down where it pads.
    return round((length - side) / 2.0) if length >= side else -((side - length) // 2)


def _as_float32(values: npt.NDArray[Any]) -> FloatMap:
    peak = float(np.abs(values).max())
    if peak > 0.0 and not 1e-30 < peak < 1e30:  # beyond it, float32 loses digits or overflows in the resizing
        values = values.astype(np.float64) / peak
    return np.ascontiguousarray(values, dtype=np.float32)
