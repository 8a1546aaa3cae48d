"""The evidence of a study in one file: what decided it, every number, and the digest of each part."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from quantviz import networks
from quantviz.networks.card import is_card
from quantviz.specs import QuantvizError, StoreError, UsageError, csv_bytes, limits, utf8
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import StudySummary
from quantviz.study.summary import report_summary, summary_table

PARTS: Final = (
    "README.txt",
    "plan.json",
    "versions.json",
    "images.csv",
    "results.parquet",
    "summary.json",
    "summary.csv",
)
"""The files of a bundle beside its manifest."""

_MANIFEST = "MANIFEST"
_LIBRARIES = ("timm", "torchvision")
_KEPT = ("plan.json", "results.parquet")
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can tell: the bytes must not depend on the day
_PLAIN_FILE = 0o100644 << 16
_MOST_BYTES = limits.BUNDLE_BYTES
_MOST_RATIO, _FREE = limits.BUNDLE_RATIO, 1 << 20  # text of a study packs to a tenth; a hundredth is no study
_MOST_MANIFEST = 1 << 16
_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)
_ODD = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError, QuantvizError)


def bundle_bytes(study: Path, summary: StudySummary) -> bytes:
    """Return a finished study as a zip file; the same study gives the same bytes.

    Its parts: ``plan.json`` (settings, digests of weights, calibration and pictures, versions, command),
    ``versions.json``, ``images.csv`` (path, sha256, label), ``results.parquet`` (every row), ``summary.json``,
    ``summary.csv``, ``README.txt``, and ``MANIFEST``: the sha256 of each, as ``sha256sum -c`` reads it. No picture and
    no weight is in it.

    Args:
        study: its folder.
        summary: its summary.

    Raises:
        StoreError: the study cannot be read.
    """
    parts = {
        "README.txt": utf8(_readme(summary)),
        "versions.json": _json(dict(summary.plan.versions)),
        "images.csv": _images(summary.plan),
        "summary.json": _json(report_summary(summary)),
        "summary.csv": summary_table(summary),
        **{name: _bytes(study / name) for name in _KEPT},
    }
    listed = "".join(f"{hashlib.sha256(parts[name]).hexdigest()}  {name}\n" for name in PARTS)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in ((_MANIFEST, listed.encode()), *((name, parts[name]) for name in PARTS)):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE
            packed = name.endswith(".parquet")
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            file.writestr(entry, data, compresslevel=9)
    return buffer.getvalue()


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the folder of a finished study: ``path`` itself, or where a bundle is unpacked meanwhile.

    A bundle is checked before it is believed: its parts are those of a bundle and no others, of a bounded size, with
    the digests of its manifest; its plan is whole, names only pictures inside a folder, and its results are the plan's.
    The manifest finds damage; it does not tell who made a bundle.

    Args:
        path: of a bundle, or of a study's folder.

    Raises:
        UsageError: there is nothing, or it cannot be used.
    """
    if path.is_dir():
        _check(path, f"Study {str(path)!r}", own=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="quantviz-bundle-") as place:
        _unpack(path, Path(place))
        _check(Path(place), f"Bundle {str(path)!r}", own=False)
        yield Path(place)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read ({error.strerror}).") from None


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _images(plan: StudyPlan) -> bytes:
    return csv_bytes([["path", "sha256", "label"], *([image.path, image.sha256, image.label] for image in plan.images)])


def _readme(summary: StudySummary) -> str:
    plan = summary.plan
    protocols = ", ".join(plan.protocols)
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(plan.versions.items()))
    return f"""Evidence of a study made with quantviz

{plan.size}, protocols {protocols}
Digest of the study: {plan.digest}
Libraries: {libraries}

The command that makes it again:

    {plan.command or "(not recorded: the study was made from Python)"}

What is here:

    plan.json        every setting; weights, calibration and pictures by their sha256
    versions.json    the library versions that decide results
    images.csv       the pictures: path in their folder, sha256, class; \\udcXX stands for a byte XX that is
                     no UTF-8, and an apostrophe is put before what a spreadsheet would take for a formula
    results.parquet  a row for each model, protocol, picture and bit-width
    summary.json     means, intervals, tests, rates
    summary.csv      the same numbers, one a line
    MANIFEST         sha256 of each file; check it by: sha256sum -c MANIFEST

To compute some of the numbers again and compare them with those here:

    quantviz replay BUNDLE.zip --dataset FOLDER_OF_THE_PICTURES --weights MODEL=FILE
"""


def _unpack(path: Path, place: Path) -> None:
    """Write the parts of a bundle to a folder, each checked against the manifest."""
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"Bundle {str(path)!r} {what}; name a bundle of quantviz report, or a study's folder.")
    try:
        with zipfile.ZipFile(path) as file:
            _check_names(file, path)
            digests = _manifest(file, path)
            for name in PARTS:
                if _copied(file, name, place / name) != digests.get(name):
                    raise UsageError(
                        f"Bundle {str(path)!r} is damaged: {name} is not the file of its manifest; get it again."
                    )
    except _BROKEN as error:
        raise UsageError(f"Bundle {str(path)!r} cannot be read ({_short(error)}); get it again.") from None


def _check_names(file: zipfile.ZipFile, path: Path) -> None:
    """Refuse parts that no bundle has, and sizes that no study has, before anything is unpacked."""
    names = [entry.filename for entry in file.infolist()]
    wanted = {_MANIFEST, *PARTS}
    for name in names:
        if name not in wanted or names.count(name) > 1:
            what = "twice" if name in wanted else "which no bundle has"
            raise UsageError(f"Bundle {str(path)!r} holds {_short(name)!r} {what}; name a bundle of quantviz report.")
    if missing := sorted(wanted - set(names)):
        raise UsageError(f"Bundle {str(path)!r} lacks {missing[0]!r}; name a bundle of quantviz report.")
    size = sum(entry.file_size for entry in file.infolist())
    if size > min(_MOST_BYTES, _MOST_RATIO * path.stat().st_size + _FREE):
        raise UsageError(
            f"Bundle {str(path)!r} would unpack to {size / 1e6:,.0f} MB, more than a study packed to "
            f"{path.stat().st_size / 1e6:,.3f} MB can be; get it again from where you trust."
        )


def _manifest(file: zipfile.ZipFile, path: Path) -> dict[str, str]:
    with file.open(_MANIFEST) as part:
        lines = part.read(_MOST_MANIFEST).decode().splitlines()
    pairs = (line.partition("  ") for line in lines)
    digests = {name: digest for digest, _, name in pairs}
    if set(digests) != set(PARTS):
        raise UsageError(f"The manifest of bundle {str(path)!r} does not list its files; get it again.")
    return digests


def _copied(file: zipfile.ZipFile, name: str, place: Path) -> str:
    """Write a part to a file and return its sha256; no more than the size that the directory tells is unpacked."""
    digest = hashlib.sha256()
    with file.open(name) as source, place.open("wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def _check(folder: Path, name: str, own: bool) -> None:
    """Refuse a study that is not finished, or whose plan is not whole or reaches outside."""
    try:
        plan, results = StudyFolder(folder).results(("index",))
        for image in plan.images:
            _check_path(image.path)
        places = list(range(len(plan.images)))
        for name, setting, protocol in plan.cells:
            model, _ = plan.cell((name, setting, protocol))
            if not own:
                _check_code(model.origin or name)
            if not model.origin:  # a card's networks have names of their own
                networks.spec(name)
            if results.numbers(name, setting, protocol, "index").tolist() != places:
                raise ValueError(f"it has not one row a picture of {name} at {setting}")
    except _ODD as error:
        if own and isinstance(error, QuantvizError):
            raise UsageError(str(error)) from None
        reason = str(error).replace(str(folder), "bundle").rstrip(".")
        raise UsageError(f"{name} cannot be used: {_short(reason)}.") from None


def _check_code(name: str) -> None:
    """Refuse a model whose name has code run or a file read, which the sender of a bundle would have chosen."""
    library, colon, _ = name.partition(":")
    if is_card(name) or (colon and library not in _LIBRARIES):
        raise UsageError(f"its model {name!r} is code or a file of yours, which a bundle may not name")


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise UsageError(f"picture {path!r} is not inside a folder")


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:199]}…"
