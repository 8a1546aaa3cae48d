"""The files that timm publishes: where they are on this machine, and getting them. Imports no torch by itself."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from quantviz.networks.download import DownloadError, download, timeout
from quantviz.specs import Phase, Progress, PublishedWeights

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-zA-Z-]{1,80}")
# timm asks for the first of these that a repository has.
_ALTERNATIVES = {
    "pytorch_model.bin": ("model.safetensors", "pytorch_model.bin"),
    "open_clip_pytorch_model.bin": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}


def is_address(source: str) -> bool:
    """Return whether weights have an address of their own, rather than a repository of Hugging Face."""
    return source.startswith(("https://", "http://"))


def cached(published: PublishedWeights, hub: Path) -> Path | None:
    """Return the file where the library's own cache has it, else None.

    Args:
        published: with a ``source``.
        hub: torch hub's folder.
    """
    if is_address(published.source):
        path = hub / published.file
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _parted(published.source)
    for file in _ALTERNATIVES.get(published.file, (published.file,)):
        place = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(place, str) and os.path.isfile(place):
            return Path(place)
    return None


def get(published: PublishedWeights, hub: Path, limit: int, progress: Progress) -> Path:
    """Download the file into the library's own cache.

    Args:
        published: with a ``source``.
        hub: torch hub's folder.
        limit: greatest size in bytes that is accepted.
        progress: reports how the download goes.

    Raises:
        DownloadError: it cannot be had.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DownloadError("HF_HUB_OFFLINE is set")
    label = f"{published.file} of {published.source}"
    if is_address(published.source):
        path = hub / published.file
        download(published.source, path, sha256="", limit=limit, progress=progress, label=published.file)
        return path
    progress(f"Downloading {label}", None, Phase.DOWNLOADING)
    return _from_repository(published, limit, progress, label)


def claimed_digest(path: Path) -> str:
    """Return the sha256 that Hugging Face's cache names a file by, or "" where it does not."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else ""


def address(published: PublishedWeights) -> str:
    """Return where a browser gets the file."""
    if is_address(published.source):
        return published.source
    from huggingface_hub import hf_hub_url

    repository, revision = _parted(published.source)
    return str(hf_hub_url(repository, _ALTERNATIVES.get(published.file, (published.file,))[0], revision=revision))


def _from_repository(published: PublishedWeights, limit: int, progress: Progress, label: str) -> Path:
    from huggingface_hub import constants, get_token, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    repository, revision = _parted(published.source)
    file, url, known = _known(published, repository, revision)
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="model"), "blobs")
    if not (blobs / known.etag).is_file():
        token = get_token() if urlsplit(known.location).netloc == urlsplit(url).netloc else None
        download(
            known.location,
            blobs / known.etag,
            sha256=known.etag if _SHA256.fullmatch(known.etag) else "",
            limit=limit,
            progress=progress,
            label=label,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
    # The library finds the bytes, and writes the rest of its cache itself.
    return Path(_answered(partial(hf_hub_download, repository, file, revision=revision, etag_timeout=timeout())))


def _known(published: PublishedWeights, repository: str, revision: str | None) -> tuple[str, str, Any]:
    """Return the first file of those that timm would take, its address, and what the server says of it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    files = _ALTERNATIVES.get(published.file, (published.file,))
    for file in files:
        url = hf_hub_url(repository, file, revision=revision)
        try:
            known = _answered(partial(get_hf_file_metadata, url, timeout=timeout()))
        except EntryNotFoundError:
            continue
        if known.etag and _NAME.fullmatch(known.etag):
            return file, url, known
        raise DownloadError("the server does not say which file it has")
    raise DownloadError(f"the server has no {' or '.join(files)}")


def _answered(call: Callable[[], T]) -> T:
    """Return what a call of the library returns that asks a server; it may be silent, or drip, for ever.

    Raises:
        EntryNotFoundError: the server has no such file.
        DownloadError: it does not answer, or otherwise than it should.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    seconds = 3 * timeout()
    threading.Thread(target=ask, daemon=True, name="library_cache").start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        if not answer.done():
            raise DownloadError(f"the server gave no answer within {seconds:g} s") from None
        raise DownloadError(_first_line(error)) from error
    # The library raises what its HTTP client raises: OSError, httpx's errors, its own.
    except Exception as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise
        raise DownloadError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def _parted(source: str) -> tuple[str, str | None]:
    repository, _, revision = source.partition("@")
    return repository, revision or None
