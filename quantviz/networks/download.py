"""One file from a server to its place on disk: checked, whole, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from quantviz.specs import Phase, Progress, UsageError

URL_VARIABLE = "QUANTVIZ_WEIGHTS_URL"
TIMEOUT_VARIABLE = "QUANTVIZ_TIMEOUT"
_DEFAULT_URL = "https://download.pytorch.org/models/"
_DEFAULT_TIMEOUT = 20.0

_CHUNK = 1 << 16
_SLOWEST = 1024.0  # bytes/s; no real connection that is worth waiting for is slower
_WINDOW = 3.0  # in time-outs; the span over which the speed is judged
_ABANDONED = 3600.0  # s; a part file untouched for so long belongs to a process that was killed


class DownloadError(Exception):
    """Why a file could not be had, as half a sentence. It is not raised outside this package."""


def download(file: str, path: Path, *, sha256: str, limit: int, progress: Progress, label: str | None = None) -> None:
    """Get ``file`` from the weights server and put it at ``path``.

    The bytes go to a part file of this call's own beside ``path``, which takes the final name only once
    its digest is right; so the final name never holds half a file, whoever else downloads meanwhile.

    Args:
        file: name on the server, below ``$QUANTVIZ_WEIGHTS_URL``.
        path: final place; its folder is made when the first bytes are at hand.
        sha256: digest, or its first digits, that the bytes must have.
        limit: greatest size in bytes that is accepted.
        progress: reports the fraction received, or None where the server gives no length.
        label: what the progress message calls the file; its name by default.

    Raises:
        DownloadError: no connection, no such file, too slow, broken off, wrong digest, or no room on disk.
        UsageError: an environment variable of the weights server is malformed.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    progress(f"Downloading {label or file}", None, Phase.DOWNLOADING)
    with _Transfer(_address(file), _timeout()) as transfer:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            with part.open("xb") as target:
                digest = _save(transfer, target, limit, f"Downloading {label or file}", progress)
            if not digest.startswith(sha256):
                raise DownloadError(
                    f"the server sent a file whose sha256 begins {digest[: len(sha256)][:8]}, not {sha256[:8]}"
                )
            os.replace(part, path)
        except OSError as error:
            raise DownloadError(f"it cannot be written there ({_words(error)})") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def _address(file: str) -> str:
    base = os.environ.get(URL_VARIABLE) or _DEFAULT_URL
    parts = urllib.parse.urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{URL_VARIABLE} is {base!r}, not an http:// or https:// address; correct or unset it.")
    return base.rstrip("/") + "/" + urllib.parse.quote(file)


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE) or str(_DEFAULT_TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX / _WINDOW:
        raise UsageError(f"{TIMEOUT_VARIABLE} is {text!r}, not a number of seconds above 0; correct or unset it.")
    return seconds


def _sweep(path: Path) -> None:
    """Remove the part files that killed processes left; a live one is written to all the time."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink()


def _save(transfer: _Transfer, target: IO[bytes], limit: int, message: str, progress: Progress) -> str:
    """Write all chunks to ``target`` and return their sha256 in hex."""
    digest, size, reported = hashlib.sha256(), 0, -math.inf
    if (transfer.total or 0) > limit:
        raise DownloadError(f"the server offers {transfer.total} bytes where at most {limit} are expected")
    for chunk in transfer:
        size += len(chunk)
        if size > limit:
            raise DownloadError(f"the server sent more than the {limit} bytes that are expected at most")
        digest.update(chunk)
        target.write(chunk)
        if time.monotonic() - reported > 0.1:
            reported = time.monotonic()
            progress(message, min(size / transfer.total, 1.0) if transfer.total else None, Phase.DOWNLOADING)
    if transfer.total is not None and size != transfer.total:
        raise DownloadError(f"the transfer broke off after {size} of {transfer.total} bytes")
    target.flush()
    os.fsync(target.fileno())
    progress(message, 1.0, Phase.DOWNLOADING)
    return digest.hexdigest()


class _Transfer:
    """A response being read in a thread of its own, so that nothing it does can hang the caller.

    The socket's time-out covers neither name resolution nor a server that sends a byte now and then
    (headers included); the caller's clock covers all of them.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.total: int | None = None
        self._timeout = timeout
        self._window = _WINDOW * timeout
        self._waited, self._received = 0.0, 0
        self._items: queue.Queue[bytes | _Start | Exception | None] = queue.Queue(maxsize=16)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url,), daemon=True, name="download")

    def __enter__(self) -> _Transfer:
        self._thread.start()
        try:
            while not isinstance(item := self._take(), _Start):
                pass
        except BaseException:
            self._stop.set()
            raise
        self.total = item.total
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def __iter__(self) -> Iterator[bytes]:
        while (item := self._take()) is not None:
            if isinstance(item, bytes):
                yield item

    def _take(self) -> bytes | _Start | None:
        """Return what the thread sent next, ``b""`` for nothing yet; judge the speed of the last window."""
        begun = time.monotonic()
        item: bytes | _Start | Exception | None
        try:
            item = self._items.get(timeout=max(self._window - self._waited, 1e-3))
        except queue.Empty:
            item = b""
        self._waited += time.monotonic() - begun
        if isinstance(item, Exception):
            raise DownloadError(_reason(item, self._timeout)) from item
        if isinstance(item, bytes):
            self._received += len(item)
            if self._waited >= self._window:
                if self._received < _SLOWEST * self._window:
                    raise DownloadError(f"the server sent only {self._received} bytes in {self._window:g} s")
                self._waited, self._received = 0.0, 0
        return item

    def _run(self, url: str) -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "quantviz"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                length = response.headers.get("Content-Length", "")
                self._put(_Start(int(length) if length.isdecimal() else None))
                # read1 returns after one receive, so that a trickle shows instead of filling a buffer.
                while (chunk := response.read1(_CHUNK)) and self._put(chunk):
                    pass
            self._put(None)
        except Exception as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            self._put(error)

    def _put(self, item: bytes | _Start | Exception | None) -> bool:
        """Hand ``item`` over; False once the caller has left."""
        while not self._stop.is_set():
            try:
                self._items.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False


class _Start:
    """The headers have come; ``total`` is the body's length in bytes, None where the server does not say."""

    def __init__(self, total: int | None) -> None:
        self.total = total


def _reason(error: Exception, timeout: float) -> str:
    """Say in a few words why a transfer failed."""
    if isinstance(error, urllib.error.HTTPError):
        if 300 <= error.code < 400:
            return f"the server's redirects lead nowhere (status {error.code})"
        return f"the server answered {error.code} {_words(error)}".rstrip()
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"the server was silent for {timeout:g} s"
    if isinstance(cause, http.client.HTTPException):
        return f"the server's answer is not valid HTTP ({_words(cause)})"
    return f"no connection ({_words(cause)})"


def _words(error: object) -> str:
    """One line of an exception's own words."""
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(text or type(error).__name__).split())[:120]
