"""Which formats of pictures are read, and what is said of those that are not: a kind of file is no damage."""

from __future__ import annotations

import io
import re
from typing import Final

from PIL import Image

from quantviz.specs import foreign, reason_of

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""The only parsers that untrusted bytes reach, by Pillow's names."""

OTHER_SUFFIXES: Final = frozenset(
    ".heic .heif .hif .avif .jp2 .j2k .jpx .jxl .ppm .pgm .pbm .pnm .tga .ico .psd .svg .eps .pcx .dds .exr .hdr .qoi "
    ".xcf .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .raw .dcm .nii .pdf".split()
)
"""Endings of pictures in formats that are not read."""

_STARTS: Final = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_FORM = re.compile(
    r"unsupported|not supported|cannot handle|unknown (?:pixel mode|data organization|raw mode|image mode|layer)|"
    r"invalid mode|not implemented|too large|too many|exceeds|limit|may not be safe",
    re.IGNORECASE,
)
_WEBP_HEAD: Final = 1 << 16  # where its first frame begins, behind a colour profile
_INSTEAD: Final = "save it again as PNG, JPEG, WebP, BMP, GIF or TIFF of 8 or 16 bits"


def unread(name: str, data: bytes) -> str:
    """Return the sentence on a file that no parser takes: which kind it is, and where its own parser says so, why.

    Args:
        name: of the file.
        data: its bytes.
    """
    form = next((form for start, form in _STARTS.items() if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        form = "WEBP"
    if form:
        return failed(name, _reason(data, form), form)
    found = foreign(data)
    if found is None:
        return f"{name} is not an image of a supported format; give a complete PNG, JPEG, WebP, BMP, GIF or TIFF file."
    arrays = "save the one array by numpy.save as an .npy file" if found.kind.endswith("(.npz)") else _INSTEAD
    return found.sentence(name, "an image of a supported format", arrays)


def looks_like_picture(start: bytes) -> bool:
    """Return whether a file that begins so is of one of the formats that are read."""
    return any(start.startswith(sign) for sign in _STARTS if sign != b"BM") or (
        start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    )


def is_lossy(data: bytes) -> bool:
    """Return whether a picture's file is of a lossy format: JPEG, or WebP with a lossy first frame."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return b"VP8 " in data[12:_WEBP_HEAD]
    return data.startswith(b"\xff\xd8")


def failed(name: str, reason: str, form: str = "") -> str:
    """Return the sentence on a picture that cannot be decoded: a library's limit is told as one, all else as damage.

    Args:
        name: of the file.
        reason: what the library says.
        form: which format its bytes begin as, if known.
    """
    kind = f"{form} " if form else ""
    if _FORM.search(reason):
        return f"{name} is of a kind of {form or 'file'} that is not read ({reason}); {_INSTEAD}."
    return f"{name} is damaged or incomplete ({kind}{reason}); give a complete PNG, JPEG, WebP, BMP, GIF or TIFF file."


def _reason(data: bytes, form: str) -> str:
    """Return why a format's own parser refuses bytes; Pillow hides it where it looks for the format."""
    factory = Image.OPEN[form][0]
    try:
        factory(io.BytesIO(data), "")
    except Exception as error:  # parsers of hostile bytes raise nearly anything
        return reason_of(error)
    return f"{form} without a picture"
