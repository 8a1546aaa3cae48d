"""Untrusted bytes to pixels or to a map's values: the limits, the parsers, and what is mended after them."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from quantviz.images.apart import decoded_apart
from quantviz.images.endless import NO_END, with_end
from quantviz.images.forms import FORMATS, failed, unread
from quantviz.images.png import without_long_texts
from quantviz.images.suspicion import many_parts, takes_much
from quantviz.specs import RGB, ImageError, UsageError, limits, reason_of

MAX_BYTES = limits.PICTURE_BYTES
MAX_PIXELS = limits.PICTURE_PIXELS
MAX_MAP_PIXELS = limits.MAP_PIXELS
MIN_SIDE = limits.PICTURE_SHORTEST
MAX_ASPECT = limits.PICTURE_ASPECT

TURNED = "turned upright by its orientation tag"
"""The note on a picture that was stored lying or mirrored."""

Check = Callable[[Image.Image, str], None]

_PHOTOMETRIC = 262  # TIFF's tag; 0 there means that 0 is white
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGED = "give a complete PNG, JPEG, WebP, BMP, GIF or TIFF file"

Image.init()  # registers every format now, so that no two threads do it at once
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its messages on bad files reach stderr


def read_bytes(source: bytes | Path, name: str) -> tuple[str, bytes]:
    """Return the name to show and the file's bytes, reading no more than the limit.

    Raises:
        ImageError: there is no such file, it cannot be read, is empty or is larger than ``MAX_BYTES``.
    """
    if isinstance(source, bytes):
        name, data, size = name or "The image", source, len(source)
    else:
        name = name or source.name
        try:
            status = os.stat(source)  # first, since opening a named pipe would wait for ever
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise ImageError(f"{source} is {kind}; give the path of an image file.")
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise ImageError(f"{source} does not exist; give the path of an image file.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{source} cannot be read ({reason}); check its path and permissions.") from None
        size = max(status.st_size, len(data))
    if size > MAX_BYTES:
        raise ImageError(
            f"{name} has {size / 2**20:.1f} MiB, more than the {MAX_BYTES >> 20} MiB allowed; give a smaller file."
        )
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); {_DAMAGED}.")
    return name, data


def decode_picture(data: bytes, name: str) -> tuple[RGB, list[str], int]:
    """Decode a picture, here or, where that takes much, in a process of its own.

    Returns:
        Upright uint8 (H, W, 3), what was changed, and the file's EXIF orientation, 1 to 8.

    Raises:
        ImageError: the picture is one that ``quantviz.images.load`` refuses.
    """
    if not many_parts(data):
        with suppress(_Apart):
            return picture_here(data, name)
    return decoded_apart("picture", data, name)


def picture_here(data: bytes, name: str, *, apart: bool = False) -> tuple[RGB, list[str], int]:
    """Return what ``decode_picture`` does, decoded in this process.

    Args:
        data: of the file.
        name: for messages.
        apart: this process is one of its own, for this picture.

    Raises:
        ImageError: as ``decode_picture``.
    """
    with _refusing(name, data):
        picture, notes, turn = _open(data, name, apart, check=_check_size)
        rgb, more = _rgb(picture, name)
        return np.asarray(rgb), notes + more, turn


def convert_picture(picture: Image.Image, name: str) -> tuple[RGB, list[str]]:
    """Convert a picture that is open already to upright uint8 (H, W, 3), and say what was changed.

    Raises:
        ImageError: the picture is one that ``quantviz.images.load`` refuses.
    """
    with _refusing(name):
        _check_size(picture, name)
        picture.load()
        notes = []
        if (turn := _orientation(picture)) in _UPRIGHT:
            picture, notes = picture.transpose(_UPRIGHT[turn]), [TURNED]
        rgb, more = _rgb(picture, name)
        return np.asarray(rgb), notes + more


def decode_map(data: bytes, name: str, *, indexed: bool = False) -> npt.NDArray[np.float64]:
    """Decode a map's raw values, float64 (h, w), from a .npy file's or a greyscale image's bytes.

    Args:
        data: of the file.
        name: for messages.
        indexed: of an image with a coloured palette the colours' numbers are taken: so data sets store class numbers.

    Raises:
        ImageError: the map is one that ``quantviz.images.read_map`` refuses.
    """
    if not many_parts(data):
        with suppress(_Apart):
            return map_here(data, name, indexed=indexed)
    return decoded_apart("map", data, name, indexed=indexed)[0]


def map_here(data: bytes, name: str, *, indexed: bool, apart: bool = False) -> npt.NDArray[np.float64]:
    """Return what ``decode_map`` does, decoded in this process; arguments and errors as for ``picture_here``."""
    with _refusing(name, data):
        is_array = data.startswith(np.lib.format.MAGIC_PREFIX)
        values = _npy(data, name) if is_array else _grey(data, name, indexed, apart)
        if not np.isfinite(values).all():
            raise ImageError(f"{name} contains NaN or infinity; give a map of finite values.")
        return values


class _Apart(Exception):
    """The picture is to be decoded by a process of its own."""


@contextmanager
def _refusing(name: str, data: bytes = b"") -> Iterator[None]:
    """Turn whatever a parser of untrusted bytes raises into an ImageError."""
    _hush_parsers()
    try:
        yield
    except (UsageError, _Apart):
        raise
    except UnidentifiedImageError:
        raise ImageError(unread(name, data)) from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d{7,}", str(error))  # too many even for Pillow, which tells no sides
        raise ImageError(_too_large(name, f"{pixels[0] if pixels else 'too many'} pixels")) from None
    except MemoryError:
        raise ImageError(f"{name} needs more memory than there is; give a smaller image.") from None
    except Exception as error:  # parsers of hostile bytes raise nearly anything
        raise ImageError(failed(name, reason_of(error))) from None


_hushing = threading.Lock()
_HUSHED: tuple[tuple[type[Warning], str, str], ...] = (
    (UserWarning, "", r"PIL\."),  # damaged metadata, none of which decides a pixel
    (Image.DecompressionBombWarning, "", r"PIL\."),  # the size is judged here, more strictly
    (UserWarning, r"Reading `\.npy`", ""),  # written by Python 2
)


def _hush_parsers() -> None:
    """Keep the parsers' warnings off standard error.

    ``warnings.catch_warnings`` would do it for one call, but it swaps the filters of every thread, and two
    threads that overlap can leave the wrong ones behind. So the filters stay, and are put back only when
    something else has replaced them.
    """
    with _hushing:
        present = {(f[2], f[1] and f[1].pattern, f[3] and f[3].pattern) for f in warnings.filters[: len(_HUSHED)]}
        if present != {(category, text or None, module or None) for category, text, module in _HUSHED}:
            for category, text, module in _HUSHED:
                warnings.filterwarnings("ignore", text, category, module)


def _open(data: bytes, name: str, apart: bool, check: Check) -> tuple[Image.Image, list[str], int]:
    """Decode the first frame, upright, judging the size from the header before any pixel is decoded."""
    picture: Image.Image = Image.open(io.BytesIO(without_long_texts(data)), formats=FORMATS)
    check(picture, name)
    if not apart and takes_much(picture):
        raise _Apart
    packing = _packing(picture)
    turn = _orientation(picture) if picture.format == "TIFF" else 1  # which turns itself as it loads
    picture, notes = _loaded(picture, data)
    notes += ["first of several frames or pages taken"] if _is_several(picture) else []
    if ";16" in packing and picture.mode in ("RGB", "RGBA", "CMYK"):
        notes.append("16-bit colour reduced to 8 bits")
    _correct_samples(picture, packing)
    if (still := _orientation(picture)) in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[still])
    if turn in _UPRIGHT or still in _UPRIGHT:
        notes.append(TURNED)
    return picture, notes, max(turn, still)


def _loaded(picture: Image.Image, data: bytes) -> tuple[Image.Image, list[str]]:
    """Return a picture with its pixels; a JPEG that lacks only its end marker is whole, which a note says."""
    try:
        picture.load()
    except OSError:
        whole = with_end(data) if picture.format == "JPEG" else None
        if whole is None:
            raise
        picture = Image.open(io.BytesIO(whole), formats=FORMATS)
        picture.load()
        return picture, [NO_END]
    return picture, []


def _too_large(name: str, size: str, most: int = MAX_PIXELS) -> str:
    return f"{name} has {size}, more than the {most // 10**6} million allowed; give a smaller image."


def _check_pixels(picture: Image.Image, name: str, most: int = MAX_PIXELS) -> None:
    if picture.width * picture.height > most:
        raise ImageError(_too_large(name, f"{picture.width} x {picture.height} pixels", most))


def _check_map(picture: Image.Image, name: str) -> None:
    _check_pixels(picture, name, MAX_MAP_PIXELS)


def _check_size(picture: Image.Image, name: str) -> None:
    _check_pixels(picture, name)
    short, long = sorted(picture.size)
    if short < MIN_SIDE:
        raise ImageError(
            f"{name} is {picture.width} x {picture.height} pixels; give an image of at least {MIN_SIDE} a side."
        )
    if long > MAX_ASPECT * short:
        raise ImageError(
            f"{name} is {picture.width} x {picture.height} pixels, longer than {MAX_ASPECT} times its shorter side; "
            "crop it first."
        )


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata does not make the pixels unusable
        return 1


def _packing(picture: Image.Image) -> str:
    """Return how the file stores its samples in Pillow's terms, ``"L;4"`` for instance, or ``""``."""
    for tile in getattr(picture, "tile", ()):
        args = tile[3]
        return str(args[0] if isinstance(args, tuple) and args else args)
    return ""


def _is_several(picture: Image.Image) -> bool:
    if picture.format not in ("GIF", "PNG", "WEBP", "TIFF"):
        return False  # a camera's JPEG may carry previews, which are no frames
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # only the second frame is damaged
        return True


def _correct_samples(picture: Image.Image, packing: str) -> None:
    """Mend what Pillow leaves in the file's own scale: the transparent colour, and grey where 0 is white."""
    key = picture.info.get("transparency")
    if isinstance(key, int) and packing in ("L;2", "L;4"):
        picture.info["transparency"] = key * {"L;2": 85, "L;4": 17}[packing]
    elif isinstance(key, tuple) and packing == "RGB;16B":
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    if packing == "I;12":
        picture.im = Image.fromarray(np.round(np.asarray(picture) * (65535 / 4095)).astype(np.uint16)).im
    elif picture.mode == "I;16" and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        picture.im = Image.fromarray(65535 - np.asarray(picture)).im


def _rgb(picture: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """Convert to RGB, saying what that took."""
    notes = []
    if b"sRGB" not in (picture.info.get("icc_profile") or b"sRGB").replace(b"\0", b""):
        notes.append("its colour profile was not applied, its values were taken as sRGB")
    if picture.mode == "F":
        raise ImageError(
            f"{name} holds floating-point values, whose range as a picture is undefined; save it with 8 or 16 bits."
        )
    if picture.mode.startswith("I"):
        return _from_16_bit(picture, name), [*notes, "16-bit grey scaled to 8 bits"]
    if picture.mode in ("CMYK", "LAB"):
        return picture.convert("RGB"), [*notes, f"converted from {picture.mode}"]
    if picture.has_transparency_data:
        rgba = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", rgba.size, "white")
            white.alpha_composite(rgba)
            return white.convert("RGB"), [*notes, "transparency composited on white"]
        picture = rgba
    return picture.convert("RGB"), notes


def _from_16_bit(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} holds grey values from {low} to {high}, beyond 16 bits; save it with 8 or 16 bits a channel."
        )
    grey = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    key = picture.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _grey(data: bytes, name: str, indexed: bool, apart: bool) -> npt.NDArray[np.float64]:
    """Return the raw levels of a greyscale image file."""
    picture, _, _ = _open(data, name, apart, check=_check_map)
    if picture.mode in ("1", "L", "F") or picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.float64)
    rgba = np.asarray((picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA"))
    if rgba[..., 3].min() < 255:
        raise ImageError(f"{name} is partly transparent, so that its values are unclear; save it without alpha.")
    if (rgba[..., :1] != rgba[..., 1:3]).any():
        if indexed and picture.mode == "P":
            return np.asarray(picture).astype(np.float64)
        raise ImageError(f"{name} is a colour image; give a map in greyscale or a .npy file.")
    return rgba[..., 0].astype(np.float64)


def _npy(data: bytes, name: str) -> npt.NDArray[np.float64]:
    """Read a .npy file, trusting its header's shape only after comparing it with the file's length."""
    stream = io.BytesIO(data)
    read: Any = np.lib.format  # whose functions are untyped
    old = read.read_magic(stream) == (1, 0)
    shape, _, dtype = (read.read_array_header_1_0 if old else read.read_array_header_2_0)(stream)
    if dtype.kind not in "biuf":
        raise ImageError(f"{name} holds values of type {dtype}; save the map as real numbers, float32 for instance.")
    if len(shape) != 2 or 0 in shape:
        raise ImageError(f"{name} holds an array of shape {shape}; give a map of two dimensions, (height, width).")
    if math.prod(shape) * dtype.itemsize > len(data) - stream.tell():
        raise ImageError(f"{name} is shorter than its shape {shape} of {dtype} needs; save the array again.")
    if shape[0] * shape[1] > MAX_MAP_PIXELS:
        raise ImageError(_too_large(name, f"{shape[1]} x {shape[0]} values", MAX_MAP_PIXELS))
    stream.seek(0)
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinity, which is then refused
        return np.asarray(np.load(stream, allow_pickle=False)).astype(np.float64, order="C")
