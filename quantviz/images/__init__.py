"""Bytes, path or bundled name to a picture or a map; every check on untrusted files; the crop's geometry.

Whatever is wrong with a file becomes one ``ImageError``. All functions may be called from several threads.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quantviz.images.decode import (
    MAX_ASPECT,
    MAX_BYTES,
    MAX_PIXELS,
    MIN_SIDE,
    TURNED,
    convert_picture,
    decode_map,
    decode_picture,
    read_bytes,
)
from quantviz.images.forms import FORMATS, OTHER_SUFFIXES, is_lossy, looks_like_picture
from quantviz.images.geometry import (
    align_map,
    align_mask,
    crop,
    crop_boxes,
    crop_map,
    crop_mask,
    crop_points,
    normalize,
    resize_map,
    seen,
)
from quantviz.images.turning import turned_boxes, turned_map, turned_points
from quantviz.specs import RGB, ImageError, ImageSample, UsageError, files_below

__all__ = [
    "BUNDLED",
    "FORMATS",
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "PACKAGED_PICTURES",
    "SUFFIXES",
    "align_map",
    "align_mask",
    "bundled",
    "bundled_path",
    "crop",
    "crop_boxes",
    "crop_map",
    "crop_mask",
    "crop_points",
    "digest",
    "folder",
    "from_pixels",
    "is_lossy",
    "left_out",
    "load",
    "normalize",
    "packaged_path",
    "picture",
    "read_bytes",
    "read_map",
    "resize_map",
    "seen",
    "thumbnail",
    "turned_boxes",
    "turned_map",
    "turned_points",
]

SUFFIXES = frozenset(".png .apng .jpg .jpeg .jpe .jfif .webp .bmp .gif .tif .tiff".split())
"""Endings of the files that ``folder`` lists."""

_PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
BUNDLED = tuple(_PHOTOGRAPHS)
"""Names of the photographs that installed packages ship."""

PACKAGED_PICTURES = tuple(
    f"{package}/{file}"
    for package, file in (
        *_PHOTOGRAPHS.values(),
        ("skimage", "data/camera.png"),
        ("skimage", "data/clock_motion.png"),
        ("skimage", "data/coins.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
    )
)
"""Package and path in it of every picture that a gallery may show wherever quantviz is installed."""


def load(source: bytes | Path, *, name: str = "") -> ImageSample:
    """Read one picture as upright 8-bit RGB.

    Of several frames or pages the first is taken; transparency is composited on white; 16-bit values are scaled
    by their full range; CMYK and Lab become RGB; the orientation tag is applied. Each of these leaves a note.
    Embedded colour profiles are not applied (nor are they in ImageNet's usual evaluation); a note says so when
    the profile is not sRGB. A JPEG file that lacks nothing but its end marker is read, with a note.

    Args:
        source: the file's bytes, or its path.
        name: for display and messages; the path's last part by default.

    Returns:
        The sample, its ``id`` being the sha256 of the file's bytes.

    Raises:
        ImageError: the file cannot be read, is no complete PNG, JPEG, WebP, BMP, GIF or TIFF, is larger than
            ``MAX_BYTES`` or ``MAX_PIXELS``, has a side under ``MIN_SIDE`` or sides in a ratio over ``MAX_ASPECT``,
            or holds values without a defined range (floating point, 32-bit).
    """
    name, data = read_bytes(source, name)
    rgb, notes, turn = decode_picture(data, name)
    return ImageSample(
        hashlib.sha256(data).hexdigest(), rgb, name, notes=tuple(notes), orientation=turn if TURNED in notes else 1
    )


def from_pixels(pixels: npt.NDArray[Any] | Image.Image, *, name: str = "") -> ImageSample:
    """Take one picture from memory.

    Args:
        pixels: uint8 (H, W, 3) in RGB, or a Pillow image of any mode, converted as ``load`` says.
        name: for display and messages.

    Returns:
        The sample, its ``id`` being the sha256 of its size and its RGB values.

    Raises:
        ImageError: the array has another type or shape, or the picture's size is refused by ``load``.
    """
    name = name or "The picture in memory"
    if isinstance(pixels, Image.Image):
        picture = pixels
    elif pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            f"{name} is a {pixels.dtype} array {pixels.shape}; give uint8 (H, W, 3) with red, green and blue from 0 to "
            "255."
        )
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels))
    rgb, notes = convert_picture(picture, name)
    sha256 = hashlib.sha256(f"pixels {rgb.shape}".encode())
    sha256.update(np.ascontiguousarray(rgb).data)
    return ImageSample(sha256.hexdigest(), rgb, name, notes=tuple(notes))


def digest(source: bytes | Path) -> str:
    """Return the sha256 in hex of a file's bytes, which is the ``id`` of its sample, without decoding it.

    Raises:
        ImageError: the file cannot be read, is empty or is larger than ``MAX_BYTES``.
    """
    return hashlib.sha256(read_bytes(source, "")[1]).hexdigest()


def read_map(source: bytes | Path, *, name: str = "", indexed: bool = False) -> npt.NDArray[np.float64]:
    """Read a map's raw values from a .npy file or a greyscale image; the content decides which it is.

    Args:
        source: the file's bytes, or its path.
        name: for messages; the path's last part by default.
        indexed: take an image with a coloured palette by the numbers of its colours, as masks of class numbers are.

    Returns:
        float64 (h, w), finite, not scaled: the array's own values, or the image's grey levels (8-bit 0 to 255,
        16-bit 0 to 65535, 1-bit 0 and 1, floating-point TIFF as it is), upright.

    Raises:
        ImageError: the file cannot be read, is neither of the two, is too large (limits as in ``load``; no
            smallest size), has colours or transparency, more than two dimensions, another type than real
            numbers, or NaN or infinity.
    """
    name, data = read_bytes(source, name)
    return decode_map(data, name, indexed=indexed)


def bundled_path(name: str) -> Path:
    """Return the path of a photograph of ``BUNDLED``.

    Raises:
        UsageError: the name is unknown.
        ImageError: the package that ships the photograph is not installed, or lacks it.
    """
    if name not in _PHOTOGRAPHS:
        raise UsageError(f"Photograph {name!r} is not bundled; use one of {', '.join(BUNDLED)}.")
    package, file = _PHOTOGRAPHS[name]
    return packaged_path(f"{package}/{file}")


def packaged_path(place: str) -> Path:
    """Return the path of a picture of ``PACKAGED_PICTURES``.

    Raises:
        UsageError: it is none of them.
        ImageError: the package that ships it is not installed, or lacks it.
    """
    if place not in PACKAGED_PICTURES:
        raise UsageError(f"Picture {place!r} comes with no package; use one of {', '.join(PACKAGED_PICTURES)}.")
    package, _, file = place.partition("/")
    spec = importlib.util.find_spec(package)  # does not import it, which takes a second for some
    for folder_ in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder_, file)).is_file():
            return path
    raise ImageError(
        f"Photograph {Path(file).stem!r} is missing because package {package!r} is not installed or incomplete; run "
        "make setup."
    )


def bundled(name: str) -> ImageSample:
    """Load a photograph of ``BUNDLED``; errors as for ``bundled_path`` and ``load``."""
    return load(bundled_path(name), name=name)


def picture(place: str | Path) -> ImageSample:
    """Load the picture of a path or, where there is no such file, the bundled photograph of that name.

    Raises:
        ImageError: the file is refused by ``load``.
    """
    named = str(place) in BUNDLED and not Path(place).exists()
    return bundled(str(place)) if named else load(Path(place))


def folder(path: Path, limit: int | None = None) -> list[Path]:
    """List the image files of a folder and the folders in it, by suffix.

    Args:
        path: the folder; ``files_below`` says what of it counts.
        limit: list only the first so many.

    Returns:
        At least one path, sorted by the path relative to the folder in POSIX form.

    Raises:
        ImageError: the folder does not exist, is no folder, holds no image file, or one in it cannot be read.
        UsageError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"A limit of {limit} images is below 1; give 1 or more.")
    if not os.path.isdir(path):
        what = "is not a folder" if os.path.exists(path) else "does not exist"
        raise ImageError(f"{path} {what}; give the path of a folder of images.")
    paths = files_below(path, SUFFIXES, "pictures")
    if not paths:
        others = "".join(f" {note}" for note in left_out(path))
        raise ImageError(
            f"{path} holds no image file; its files must end in one of {' '.join(sorted(SUFFIXES))}.{others}"
        )
    return paths[:limit]


def left_out(path: Path) -> tuple[str, ...]:
    """Return a sentence on the pictures of a folder that ``folder`` does not list; () where there are none.

    They are of formats that are not read, by their endings, or have no ending and begin as a picture does.

    Raises:
        ImageError: a folder cannot be read.
    """
    # With those that are read, as a link to one that leads nowhere is told where it is opened.
    files = files_below(path, {*SUFFIXES, *OTHER_SUFFIXES, ""}, "pictures")
    counts = Counter(ending for file in files if (ending := file.suffix.lower()) in OTHER_SUFFIXES)
    if bare := sum(_begins_as_picture(file) for file in files if not file.suffix):
        counts["without an ending"] = bare
    if not counts:
        return ()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    total = counts.total()
    words = "1 picture is" if total == 1 else f"{total} pictures are"
    return (f"{words} left out, since such files are not read ({kinds}); save them as PNG or JPEG.",)


def _begins_as_picture(file: Path) -> bool:
    try:
        with open(file, "rb") as opened:
            return looks_like_picture(opened.read(16))
    except OSError:
        return False


def thumbnail(rgb: RGB, longest: int) -> RGB:
    """Return a small copy of a picture whose longer side has at most so many pixels, uint8 (h, w, 3)."""
    small = Image.fromarray(rgb)
    small.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    return np.array(small)
