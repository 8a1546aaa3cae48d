"""What a file is that stands where another kind was wanted, by how it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LOOKED_AT: Final = 1 << 12
"""Bytes from a file's beginning that are looked at."""

_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_AGAIN: Final = "a server sent it in place of the file: download the file itself, by its direct link"


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file of another kind than wanted.

    Attributes:
        kind: what it is, as a part of a sentence: ``"a web page"``.
        remedy: how to get the file that was meant, or "" where that depends on what was wanted.
    """

    kind: str
    remedy: str = ""

    def sentence(self, name: str, wanted: str, otherwise: str) -> str:
        """Return the message on such a file.

        Args:
            name: of the file.
            wanted: what it was to be: ``"an ONNX network"``.
            otherwise: what to do where the kind itself says nothing of it.
        """
        return f"{name} is {self.kind}, not {wanted}; {self.remedy or otherwise}."


_TEXTS: Final = (
    (
        re.compile(rb"version https://git-lfs"),
        ForeignFile("a pointer of Git LFS", "get the file itself by git lfs pull, or download it from its page"),
    ),
    (re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype html|html|head)\b", re.I | re.S),
     ForeignFile("a web page", _AGAIN)),
    (re.compile(rb"(<\?xml[^>]*>\s*)?<Error>", re.I), ForeignFile("a server's error message in XML", _AGAIN)),
    (re.compile(rb"(<\?xml[^>]*>\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", re.I), ForeignFile("an SVG drawing")),
    (re.compile(rb"<\?xml"), ForeignFile("an XML file")),
    (re.compile(rb'\{\s*"(error|message|detail)"'), ForeignFile("a server's error message in JSON", _AGAIN)),
    (re.compile(rb'\{\s*(".{0,80}"\s*:|\})|\[\s*[\[{"\d-]', re.S), ForeignFile("a JSON file")),
)  # fmt: skip
_STARTS: Final = (
    (b"%PDF", "a PDF document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"8BPS", "a Photoshop file"),
    (b"P6", "a PPM picture"),
    (b"P5", "a PGM picture"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and MATLAB 7.3 write them"),
    (b"GGUF", "a GGUF file"),
    (b"7767517", "an ncnn network (.param)"),
    (b"Rar!", "an archive"),
    (b"7z\xbc\xaf\x27\x1c", "an archive"),
    (b"\xfd7zXZ\0", "an archive"),
    (b"\x1f\x8b", "an archive"),
)
_BRANDS: Final = ((b"avif", "an AVIF picture"), (b"avis", "an AVIF picture"), (b"hei", "a HEIC picture"))
_ONNX: Final = re.compile(rb"\x08[\x03-\x20](\x12.{0,64}\x1a|[\x12\x1a\x3a\x42])", re.S)  # ir_version, producer's name


def foreign(data: bytes, own: str = "") -> ForeignFile | None:
    """Return what a file is by how it begins, or None where that is not known.

    Readers ask it once they could not read a file.

    Args:
        data: the file's bytes, or the first ``LOOKED_AT`` of them.
        own: a word in the names of the kinds that the reader does read: of these a file is damaged, not foreign.
    """
    found = _kind(data)
    return None if found is None or (own and own in found.kind) else found


def _kind(data: bytes) -> ForeignFile | None:
    start = data[:LOOKED_AT]
    text = start.lstrip(_BLANK)
    for pattern, found in _TEXTS:
        if pattern.match(text):
            return found
    kind = next((kind for begin, kind in _STARTS if start.startswith(begin)), "")
    if start.startswith(b"PK\x03\x04"):
        kind = _archive(start)
    elif start[4:8] == b"ftyp":
        kind = next((kind for brand, kind in _BRANDS if brand in start[8:40]), "a video or a picture of another format")
    elif start[4:8] == b"TFL3":
        kind = "a TensorFlow Lite network"
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        kind = "a safetensors checkpoint"
    elif start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        kind = "a pickle or a checkpoint of an old PyTorch"
    elif _ONNX.match(start):
        kind = "an ONNX file"
    return ForeignFile(kind) if kind else None


def _archive(start: bytes) -> str:
    """Return what a zip archive is by the name of its first entry."""
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if name.endswith(b".npy"):
        return "an archive of NumPy arrays (.npz)"
    return "a PyTorch checkpoint" if name.endswith((b"/data.pkl", b"/.format_version")) else "an archive"
