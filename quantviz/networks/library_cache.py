"""The files that timm publishes: where they are on this machine, and getting them. Imports no torch by itself."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from quantviz.networks.download import DownloadError
from quantviz.specs import Phase, Progress, PublishedWeights

_TIMEOUT = 20.0  # seconds
_SHA256 = re.compile(r"[0-9a-f]{64}")
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


def get(published: PublishedWeights, hub: Path, progress: Progress) -> Path:
    """Download the file into the library's own cache, by the library's own means.

    Args:
        published: with a ``source``.
        hub: torch hub's folder.
        progress: told that a download has begun.

    Raises:
        DownloadError: it cannot be had.
    """
    progress(f"Downloading {published.file} of {published.source}", None, Phase.DOWNLOADING)
    _check_reachable(address(published))
    try:
        if is_address(published.source):
            from torch.hub import download_url_to_file

            hub.mkdir(parents=True, exist_ok=True)
            download_url_to_file(published.source, str(hub / published.file), progress=False)
            return hub / published.file
        return _from_repository(published)
    except KeyboardInterrupt:
        raise
    # The libraries raise what their HTTP clients raise: OSError, httpx's errors, their own.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DownloadError(reason[0][:200].rstrip(".")) from error


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


def _check_reachable(place: str) -> None:
    """Refuse at once where there is no connection; the libraries would try for half a minute, and say so on the way.

    Raises:
        DownloadError: no server answers.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DownloadError("HF_HUB_OFFLINE is set")
    try:
        with urllib.request.urlopen(urllib.request.Request(place, method="HEAD"), timeout=_TIMEOUT):
            pass
    except urllib.error.HTTPError:  # an answer, which the library knows how to take
        pass
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(f"no connection: {getattr(reason, 'strerror', None) or reason}") from error


def _from_repository(published: PublishedWeights) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, revision = _parted(published.source)
    *first, last = _ALTERNATIVES.get(published.file, (published.file,))
    for file in first:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError:  # no connection, which is an EntryNotFoundError, too
            raise
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, last, revision=revision))


def _parted(source: str) -> tuple[str, str | None]:
    repository, _, revision = source.partition("@")
    return repository, revision or None
