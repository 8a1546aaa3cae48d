"""What a reader of files takes at most: every limit in one place, and the table of them that the documentation shows.

Readers import their limits from here, so that the table is what they hold to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PICTURE_BYTES: Final = 64 << 20
PICTURE_PIXELS: Final = 50_000_000
PICTURE_SHORTEST: Final = 16
PICTURE_ASPECT: Final = 50
"""Longer side over shorter: the resized picture's memory grows with it, whatever the file's own size."""

MAP_PIXELS: Final = 16_000_000
"""Values of a map or mask; they become float64."""

DECODED_HERE: Final = 160 << 20
"""Bytes that decoding a picture may take in the process that wants it; a process of its own does what takes more."""

DECODER_MEMORY: Final = 2 << 30
DECODER_SECONDS: Final = 4
"""Processor time of decoding one picture in a process of its own."""

TRUTH_BYTES: Final = 16 << 20
TRUTH_ROWS: Final = 300_000
XML_BYTES: Final = 1 << 20
XML_DEPTH: Final = 16
MAT_DECODED: Final = 32 << 20
MAT_DEPTH: Final = 8
MAT_PARTS: Final = 200_000
"""Matrices of one MATLAB file, those within structs and cells counted."""

BITS_BYTES: Final = 1 << 20
CARD_BYTES: Final = 1 << 20
CARD_DEPTH: Final = 16
CLASSES_BYTES: Final = 1 << 20
JSON_DEPTH: Final = 32
LABELS_BYTES: Final = 256 << 20
ATTRIBUTION_BYTES: Final = 16 << 20
PLAN_BYTES: Final = 128 << 20
PROGRESS_BYTES: Final = 1 << 16

ONNX_BYTES: Final = 512 << 20
ONNX_EXTERNAL_BYTES: Final = 1536 << 20
ONNX_UPLOAD_BYTES: Final = 200 << 20
ONNX_MEMORY: Final = 4 << 30
ONNX_CPU_SECONDS: Final = 240
ONNX_SECONDS: Final = 300

CHECKPOINT_TENSORS: Final = 20_000
CHECKPOINT_STEPS: Final = 1_000_000
"""Reads of a pickle that lies in no archive; torch's restricted reader does about a million in a second."""

CHECKPOINT_HEADER: Final = 4 << 20
"""Bytes of a safetensors file's header, which tells its tensors."""

CHECKPOINT_PICKLE: Final = 3 << 19
"""Bytes of the pickle in an archive, which tells its tensors and settings; each is an instruction or more."""

BUNDLE_BYTES: Final = 4 << 30
BUNDLE_RATIO: Final = 100
STUDY_ROWS: Final = 20_000_000
STUDY_BYTES: Final = 8 << 30
"""Bytes of a study's rows, unpacked."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What one kind of file may have.

    Attributes:
        files: the kind.
        size: of the file, in words.
        content: what else is bounded, in words.
        where: the process that reads it, and its limits.
    """

    files: str
    size: str
    content: str
    where: str


_HERE: Final = "the process itself"


def _mib(size: int) -> str:
    return f"{size / 2**30:g} GiB" if size >= 1 << 30 else f"{size / 2**20:g} MiB" if size >= 1 << 20 else f"{size:,} B"


LIMITS: Final = (
    FileLimits(
        "pictures: PNG, JPEG, WebP, BMP, GIF, TIFF",
        _mib(PICTURE_BYTES),
        f"{PICTURE_PIXELS:,} pixels, {PICTURE_SHORTEST} a side, sides of at most {PICTURE_ASPECT} to 1; only the first "
        "frame is decoded",
        f"the process itself where decoding takes at most {_mib(DECODED_HERE)}; else, and for files of many parts, "
        f"run-length BMP, one of its own: {_mib(DECODER_MEMORY)}, {DECODER_SECONDS} s of processor "
        "time, one at a time",
    ),
    FileLimits(
        "maps and masks: the same formats in grey, .npy",
        _mib(PICTURE_BYTES),
        f"{MAP_PIXELS:,} values, finite, of two dimensions; an .npy file's shape is compared with its length first; no "
        "pickle",
        "as pictures",
    ),
    FileLimits(
        "points and boxes: CSV, TSV",
        _mib(TRUTH_BYTES),
        f"{TRUTH_ROWS:,} rows",
        _HERE,
    ),
    FileLimits(
        "boxes and classes: XML",
        _mib(XML_BYTES),
        f"nested {XML_DEPTH} deep; no document type, no entities",
        _HERE,
    ),
    FileLimits(
        "fixations and the devkit: MATLAB 5 to 7 (.mat)",
        _mib(TRUTH_BYTES),
        f"{_mib(MAT_DECODED)} unpacked, nested {MAT_DEPTH} deep, {MAT_PARTS:,} matrices; no function, no object",
        _HERE,
    ),
    FileLimits("bits of single layers: JSON", _mib(BITS_BYTES), f"nested {JSON_DEPTH} deep, each key once", _HERE),
    FileLimits("labels of a data set: CSV", _mib(LABELS_BYTES), "a file and a class that is known in each row", _HERE),
    FileLimits("attributions: JSON", _mib(ATTRIBUTION_BYTES), f"nested {JSON_DEPTH} deep, finite numbers", _HERE),
    FileLimits("network cards, check files, presentations: TOML", _mib(CARD_BYTES), f"nested {CARD_DEPTH} deep", _HERE),
    FileLimits("class names: text or JSON", _mib(CLASSES_BYTES), f"nested {JSON_DEPTH} deep", _HERE),
    FileLimits(
        "weights: .safetensors, .pth, .pt, .ckpt, ...",
        "what the named model's checkpoint can have",
        f"{CHECKPOINT_TENSORS:,} tensors, told in {_mib(CHECKPOINT_HEADER)} of header or {_mib(CHECKPOINT_PICKLE)} of "
        "pickle; unpacked no larger than the file may be; no pickled code",
        _HERE,
    ),
    FileLimits(
        "networks named on the command line: .onnx",
        _mib(ONNX_BYTES),
        f"{_mib(ONNX_EXTERNAL_BYTES)} in files beside it, in its own folder; no operators but ONNX's and ONNX "
        "Runtime's own",
        "the process itself: name only files that you would run",
    ),
    FileLimits(
        "networks uploaded to the dashboard: .onnx",
        f"{_mib(ONNX_UPLOAD_BYTES)}, or what `quantviz serve` is told",
        "nothing in other files; the same operators",
        f"one of its own: {_mib(ONNX_MEMORY)}, {ONNX_CPU_SECONDS} s of processor time, {ONNX_SECONDS} s",
    ),
    FileLimits(
        "a study's plan.json",
        _mib(PLAN_BYTES),
        f"nested {JSON_DEPTH} deep, its digest its own",
        _HERE,
    ),
    FileLimits(
        "a study's rows: Parquet",
        "as its plan's rows",
        f"{STUDY_ROWS:,} rows, {_mib(STUDY_BYTES)} unpacked, of the plan's columns, finite, page checksums tested",
        _HERE,
    ),
    FileLimits(
        "bundles of studies: zip",
        f"{_mib(BUNDLE_BYTES)} unpacked, and {BUNDLE_RATIO} times its own size",
        "the parts of a bundle and no others, each with its digest",
        _HERE,
    ),
)
"""One row a kind of file; ``docs/limits.md`` shows them."""
