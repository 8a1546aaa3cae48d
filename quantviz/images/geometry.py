"""Where the network looks in a picture: resize, crop and scaling, for pictures, maps, masks, points and boxes.

Coordinates are continuous: a picture spans [0, W) x [0, H), and the centre of pixel (row, column) is at
x = column + 0.5, y = row + 0.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quantviz.specs import RGB, FloatMap, ImageError, Preprocessing

ASPECT_TOLERANCE = 0.01
"""How far a map's aspect ratio may be from its picture's, as a fraction."""

_ROUNDING = 1e-5  # half a pixel's area, or one pixel's length, may come out this much smaller


def crop(rgb: RGB, preprocessing: Preprocessing, *, shift: tuple[int, int] = (0, 0)) -> RGB:
    """Resize the shorter side and cut the centre, bit for bit as torchvision's Resize and CenterCrop on PIL images.

    With ``fit="stretch"`` the whole picture is resized to the crop's size instead: Resize((height, width)). With
    ``fit="pad"`` it is resized to fit into that size, and the rest is filled with the mean, as in timm's crop mode
    "border". Where ``resize`` is (height, width), the picture is scaled to cover both, its sides rounded, as by timm's
    ResizeKeepRatio. ``place`` says where the crop is cut.

    Args:
        rgb: uint8 (H, W, 3).
        preprocessing: its ``resize``, ``crop``, ``interpolation``, ``fit`` and ``place`` are used.
        shift: pixels that the crop is moved by, to the right and down; what enters from beyond the picture is black,
            or the mean where the picture is padded.

    Returns:
        uint8 (height, width, 3) of ``preprocessing.size``.
    """
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    return np.array(_cut(Image.fromarray(rgb), preprocessing, resample, _mean_level(preprocessing), shift))


def crop_map(values: npt.NDArray[Any], image_size: tuple[int, int], preprocessing: Preprocessing) -> FloatMap:
    """Take a map of a whole picture to the crop's pixels, by the geometry of ``crop`` and bilinearly.

    Args:
        values: real (h, w); resized to ``image_size`` first where that differs.
        image_size: (H, W) of the picture.
        preprocessing: its geometry is used.

    Returns:
        float32 (height, width) of the crop. A map whose largest magnitude float32 could not hold well is divided by it.
    """
    height, width = image_size
    picture = Image.fromarray(_as_float32(values))
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(_cut(picture, preprocessing, Image.Resampling.BILINEAR))


def align_map(values: npt.NDArray[Any], image_size: tuple[int, int], preprocessing: Preprocessing) -> FloatMap:
    """Take a supplied map to the crop's pixels; its size says whether it covers the picture or the crop.

    In this order: the picture's own size is the whole picture; the crop's is the network's input, used as it
    is; the picture's aspect ratio to within 1 % is the whole picture at another scale.

    Args:
        values: real (h, w).
        image_size: (H, W) of the upright picture.
        preprocessing: its geometry is used.

    Returns:
        float32 (height, width) of the crop, not scaled (but see ``crop_map`` for extreme magnitudes).

    Raises:
        ImageError: the size is none of these.
    """
    if _is_of_crop(values.shape, image_size, preprocessing, "map"):
        return _as_float32(values)
    return crop_map(values, image_size, preprocessing)


def crop_mask(values: npt.NDArray[Any], image_size: tuple[int, int], preprocessing: Preprocessing) -> FloatMap:
    """Take a binary mask of a whole picture to the crop's pixels, by the geometry of ``crop``.

    A pixel of the crop belongs to the object when the object covers at least half of its area, computed exactly
    and in one step from the mask's own grid. So the mask stays binary, its area is kept, and its edge is where the
    edge in the cropped picture is; nearest neighbours would move it by up to half a pixel of the coarser grid.

    Args:
        values: real (h, w), of the picture's aspect ratio; what is not 0 is object.
        image_size: (H, W) of the picture.
        preprocessing: its geometry is used.

    Returns:
        float32 (height, width) of the crop, of 0 and 1; 0 beyond the picture.
    """
    width, height, left, top = _placement(image_size, preprocessing)
    mask = (np.asarray(values) != 0).astype(np.float32)  # whose running sums are exact up to 2**24
    down, across = preprocessing.size
    by_row = _areas(mask, width, left, across)
    covered = _areas(np.ascontiguousarray(by_row.T), height, top, down).T
    return np.asarray(covered >= 0.5 - _ROUNDING, np.float32)


def align_mask(values: npt.NDArray[Any], image_size: tuple[int, int], preprocessing: Preprocessing) -> FloatMap:
    """Take a supplied binary mask to the crop's pixels; its size says whether it covers the picture or the crop.

    Args:
        values: real (h, w); what is not 0 is object, and NaN is left out.
        image_size: (H, W) of the upright picture.
        preprocessing: its geometry is used.

    Returns:
        float32 (height, width) of the crop, of 0 and 1, NaN where at least half of a pixel is left out.

    Raises:
        ImageError: the size is neither the picture's (by aspect ratio, within 1 %) nor the crop's.
    """
    if _is_of_crop(values.shape, image_size, preprocessing, "mask"):
        return np.where(np.isnan(values), np.float32(np.nan), np.asarray(values != 0, np.float32))
    void = np.isnan(values)
    mask = crop_mask(np.where(void, 0, values), image_size, preprocessing)
    if void.any():
        mask[crop_mask(void, image_size, preprocessing) == 1] = np.nan
    return mask


def crop_points(
    points: npt.NDArray[np.float64], image_size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[npt.NDArray[np.float64], int]:
    """Take points of a picture to the crop's pixels, by the geometry of ``crop``.

    Args:
        points: (n, 2), x and y in the picture's pixels.
        image_size: (H, W) of the picture.
        preprocessing: its geometry is used.

    Returns:
        float64 (m, 2), x and y in the crop, in their order; and the number n - m of points that were left out
        because they lie outside the picture or outside the crop.
    """
    scale, offset = _to_crop(image_size, preprocessing)
    points = np.asarray(points, np.float64).reshape(-1, 2)
    moved = points * scale - offset
    limit = np.array(image_size[::-1])
    inside = ((points >= 0) & (points < limit) & (moved >= 0) & (moved < preprocessing.size[::-1])).all(axis=1)
    return moved[inside], int((~inside).sum())


def crop_boxes(
    boxes: npt.NDArray[np.float64], image_size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[npt.NDArray[np.float64], int]:
    """Take boxes of a picture to the crop's pixels, by the geometry of ``crop``, and clip them to it.

    Args:
        boxes: (n, 4), x0, y0, x1, y1, pixel edges in the picture's pixels.
        image_size: (H, W) of the picture.
        preprocessing: its geometry is used.

    Returns:
        float64 (m, 4) within the crop, in their order; and the number n - m of boxes that were left out because
        what remains of them in the picture and the crop is less than one pixel wide or high.
    """
    scale, offset = _to_crop(image_size, preprocessing)
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    corners = corners.clip(0.0, np.array(image_size[::-1], np.float64)) * scale - offset
    clipped = corners.clip(0.0, np.array(preprocessing.size[::-1], np.float64))
    remaining = (clipped[:, 1] - clipped[:, 0] >= 1.0 - _ROUNDING).all(axis=1)
    return clipped[remaining].reshape(-1, 4), int((~remaining).sum())


def seen(image_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Return which part of a picture the network sees, in parts of the picture.

    Args:
        image_size: (H, W) of the picture.
        preprocessing: its ``resize``, ``crop``, ``fit`` and ``place`` are used.

    Returns:
        Left, top, width and height of the crop, from 0 to 1 within the picture; beyond it where the crop pads.
    """
    width, height, left, top = _placement(image_size, preprocessing)
    down, across = preprocessing.size
    return left / width, top / height, across / width, down / height


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
            f"The maps' sizes {w} x {h} and {width} x {height} differ in aspect ratio; "
            "crop or resize one of them first."
        )
    return np.array(Image.fromarray(_as_float32(values)).resize((width, height), Image.Resampling.BILINEAR))


def normalize(crop: RGB, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Scale to the network's range, subtract the mean and divide by the standard deviation of each channel.

    Args:
        crop: uint8 (h, w, 3), RGB.
        preprocessing: its ``mean``, ``std``, ``order`` and ``range`` are used.

    Returns:
        float32 (1, 3, h, w), its channels in the network's order, contiguous and writeable.
    """
    mean, std = np.array((preprocessing.mean, preprocessing.std), np.float32)
    # Of each of the 256 levels once, and looked up: a third of the time of doing it for every pixel.
    scale = np.float32(255 if preprocessing.range == "0-1" else 1)
    levels = (np.arange(256, dtype=np.float32)[:, np.newaxis] / scale - mean) / std
    values = np.empty((1, 3, *crop.shape[:2]), np.float32)
    for channel, source in enumerate((0, 1, 2) if preprocessing.order == "RGB" else (2, 1, 0)):
        np.take(levels[:, channel], crop[..., source], out=values[0, channel])
    return values


def _is_of_crop(shape: tuple[int, ...], image_size: tuple[int, int], preprocessing: Preprocessing, what: str) -> bool:
    """Tell a map of the network's input from one of the whole picture, refusing what is neither."""
    (h, w), (height, width), (down, across) = shape, image_size, preprocessing.size
    if (h, w) == (down, across) != (height, width):
        return True
    if abs((w * height) / (h * width) - 1.0) <= ASPECT_TOLERANCE:
        return False
    raise ImageError(
        f"The {what}'s size {w} x {h} fits neither the image's {width} x {height} (by aspect ratio, within 1 %) nor "
        f"the model's input of {across} x {down}; resize the {what} to one of them."
    )


def _cut(
    picture: Image.Image,
    preprocessing: Preprocessing,
    resample: Image.Resampling,
    filled: tuple[int, ...] | float = 0.0,
    shift: tuple[int, int] = (0, 0),
) -> Image.Image:
    width, height, left, top = _placement(picture.size[::-1], preprocessing)
    left, top = left + shift[0], top + shift[1]
    down, across = preprocessing.size
    resized = picture.resize((width, height), resample)
    if preprocessing.fit != "pad":
        return resized.crop((left, top, left + across, top + down))
    padded = Image.new(picture.mode, (across, down), filled)
    padded.paste(resized, (-left, -top))
    return padded


def _mean_level(preprocessing: Preprocessing) -> tuple[int, ...]:
    """Return the grey level of red, green and blue that becomes 0 in the input, or the nearest one there is."""
    scale = 255 if preprocessing.range == "0-1" else 1
    levels = tuple(min(max(round(scale * mean), 0), 255) for mean in preprocessing.mean)
    return levels if preprocessing.order == "RGB" else levels[::-1]


def _placement(image_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Return the resized picture's width and height, and the crop's left and top in it (negative where it pads)."""
    down, across = preprocessing.size
    if preprocessing.fit == "stretch":
        return across, down, 0, 0
    if preprocessing.fit == "pad":
        scale = min(down / image_size[0], across / image_size[1])
        height, width = (max(round(scale * length), 1) for length in image_size)
        return width, height, _offset(width, across), _offset(height, down)
    resize = preprocessing.resize
    if isinstance(resize, tuple):
        ratio = min(image_size[0] / resize[0], image_size[1] / resize[1])
        height, width = (round(length / ratio) for length in image_size)
    else:
        short, long = sorted(image_size)
        size = resize, int(resize * long / short)
        width, height = size if image_size[1] <= image_size[0] else size[::-1]
    x, y = preprocessing.place
    return width, height, _offset(width, across, x), _offset(height, down, y)


def _areas(values: npt.NDArray[np.floating[Any]], length: int, start: int, side: int) -> npt.NDArray[np.float64]:
    """Average each row, resized to ``length`` pixels, over each of the ``side`` pixels from ``start`` on.

    The integral of a row is piecewise linear, so a pixel's average is a difference of two of its values, times scale.
    """
    width = values.shape[1]
    edges = (np.arange(start, start + side + 1) * (width / length)).clip(0.0, width)
    whole = edges.astype(np.intp).clip(max=width - 1)
    running = np.zeros((values.shape[0], width + 1), values.dtype)
    np.cumsum(values, axis=1, out=running[:, 1:])
    integral = running[:, whole] + values[:, whole] * (edges - whole)
    return np.asarray(np.diff(integral, axis=1) * (length / width), np.float64)


def _to_crop(
    image_size: tuple[int, int], preprocessing: Preprocessing
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return scale and offset, each (x, y), such that x * scale - offset is in the crop's pixels."""
    width, height, left, top = _placement(image_size, preprocessing)
    scale = np.array([width / image_size[1], height / image_size[0]])
    return scale, np.array([left, top], np.float64)


def _offset(length: int, side: int, place: float = 0.5) -> int:
    # torchvision rounds halves to even where it cuts, and down where it pads.
    return round((length - side) * place) if length >= side else -((side - length) // 2)


def _as_float32(values: npt.NDArray[Any]) -> FloatMap:
    peak = float(np.abs(values).max())
    if peak > 0.0 and not 1e-30 < peak < 1e30:  # beyond it, float32 loses digits or overflows in the resizing
        values = values.astype(np.float64) / peak
    return np.ascontiguousarray(values, dtype=np.float32)
