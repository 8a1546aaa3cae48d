"""One file from a server to its place on disk: checked, whole, or not there at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import http.client
import io
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from quantviz.specs import Phase, Progress, UsageError

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

URL_VARIABLE = "QUANTVIZ_WEIGHTS_URL"
TIMEOUT_VARIABLE = "QUANTVIZ_TIMEOUT"
_DEFAULT_URL = "https://download.pytorch.org/models/"
_DEFAULT_TIMEOUT = 20.0
_CHUNK = 1 << 16
_SLOWEST = 1024.0  # bytes/s; no real connection that is worth waiting for is slower
_WINDOW = 3.0  # in time-outs; the span over which the speed is judged
_NO_SUCH_RANGE = 416
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class DownloadError(Exception):
    """Why a file could not be had, as half a sentence. It is not raised outside this package."""


class _Unsatisfiable(DownloadError):
    """The server has no bytes from where the file was to go on."""


def download(
    address: str,
    path: Path,
    *,
    sha256: str,
    limit: int,
    progress: Progress,
    label: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> None:
    """Get a file and put it at ``path``, where the last attempt ended if it was interrupted.

    The bytes go to a part file beside ``path``, which takes the final name only once its digest is right; so the final
    name never holds half a file, whoever else downloads meanwhile. A part is locked while it grows. What came before a
    transfer broke off stays for the next call, where a digest is known to judge the whole by.

    Args:
        address: of the file, http or https.
        path: final place; its folder is made when the first bytes are at hand.
        sha256: digest, or its first digits, that the bytes must have; "" where none is known.
        limit: greatest size in bytes that is accepted.
        progress: reports the fraction received, or None where the server gives no length.
        label: what the progress message calls the file; its name by default.
        headers: sent to the address alone, and to none that it redirects to.

    Raises:
        DownloadError: no connection, no such file, too slow, broken off, wrong digest, or no room on disk.
        UsageError: the environment variable of the time-out is malformed.
    """
    message = f"Downloading {label or path.name}"
    progress(message, None, Phase.DOWNLOADING)
    seconds, part = timeout(), _Part(path, resumed=bool(sha256))

    def come(start: int) -> str:
        with _Transfer(address, seconds, start, headers) as transfer:
            return _save(transfer, part, limit, message, progress)

    try:
        _finish(part, _digest_of_all(come, part, sha256), sha256)
    except OSError as error:
        part.empty()
        raise DownloadError(f"it cannot be written there ({_words(error)})") from error
    finally:
        part.close()


def _finish(part: _Part, digest: str, sha256: str) -> None:
    """Give the whole file its final name, or remove what is not the file that was asked for."""
    if not digest.startswith(sha256):
        part.empty()
        raise DownloadError(f"the server sent a file whose sha256 begins {digest[: len(sha256)][:8]}, not {sha256[:8]}")
    part.finish()


def _digest_of_all(come: Callable[[int], str], part: _Part, sha256: str) -> str:
    """Let a file come, from where a part of it ends, and return its digest; all of it where that was of another."""
    if begun := part.size:
        try:
            if (digest := come(begun)).startswith(sha256):
                return digest
        except _Unsatisfiable:
            pass
        part.empty()
    return come(0)


def weights_address(file: str) -> str:
    """Return the address of a file on the weights server, below ``$QUANTVIZ_WEIGHTS_URL``.

    Raises:
        UsageError: the environment variable is malformed.
    """
    base = os.environ.get(URL_VARIABLE) or _DEFAULT_URL
    parts = urllib.parse.urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{URL_VARIABLE} is {base!r}, not an http:// or https:// address; correct or unset it.")
    return base.rstrip("/") + "/" + urllib.parse.quote(file)


def timeout() -> float:
    """Return the seconds of silence after which a server is given up, ``$QUANTVIZ_TIMEOUT`` or 20.

    Raises:
        UsageError: the environment variable is malformed.
    """
    text = os.environ.get(TIMEOUT_VARIABLE) or str(_DEFAULT_TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX / _WINDOW:
        raise UsageError(f"{TIMEOUT_VARIABLE} is {text!r}, not a number of seconds above 0; correct or unset it.")
    return seconds


class _Part:
    """The bytes of a file that have come, in a hidden file beside its place, which is locked while it grows.

    Args:
        path: the file's place.
        resumed: begin with what an attempt before has left, and leave what comes to the next one.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self._path, self._resumed = path, resumed
        self._file: io.FileIO | None = None
        self._part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        pattern = f"{glob.escape(str(path.parent))}/.{glob.escape(path.name)}.*.part"
        left = sorted(map(Path, glob.glob(pattern)), key=_size_of)
        for part in reversed(left):
            file = _claimed(part)
            if file is not None and resumed and self._file is None:
                self._part, self._file = part, file
            elif file is not None:  # nobody writes to it
                part.unlink(missing_ok=True)
                file.close()

    @property
    def size(self) -> int:
        """How many bytes have come."""
        return 0 if self._file is None else self._file.seek(0, os.SEEK_END)

    def digest(self) -> Hash:
        """Return the sha256 of what has come."""
        digest = hashlib.sha256()
        if self._file is not None:
            self._file.seek(0)
            while chunk := self._file.read(_CHUNK):
                digest.update(chunk)
        return digest

    def add(self, chunk: bytes) -> None:
        """Add bytes."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("x+b", buffering=0)
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = memoryview(chunk)
        while left:
            left = left[self._file.write(left) :]

    def empty(self) -> None:
        """Drop what has come."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.seek(0)

    def finish(self) -> None:
        """Put the file in its place."""
        self.add(b"")
        assert self._file is not None
        os.fsync(self._file.fileno())
        os.replace(self._part, self._path)

    def close(self) -> None:
        """Leave what has come for the next attempt, or nothing."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if not self._resumed or not self.size:
                self._part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._file.close()


def _size_of(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _claimed(part: Path) -> io.FileIO | None:
    """Return a part file, locked; None where another process writes to it, or has just put it in its place."""
    try:
        file = part.open("r+b", buffering=0)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_ino == os.stat(part).st_ino:
            return file
    except OSError:
        pass
    file.close()
    return None


def _save(transfer: _Transfer, part: _Part, limit: int, message: str, progress: Progress) -> str:
    """Add all chunks to a part file and return the whole's sha256 in hex."""
    if transfer.web_page:
        raise DownloadError("the server sent a web page in place of the file")
    if not transfer.resumed:
        part.empty()
    digest, size, reported = part.digest(), part.size, -math.inf
    total = None if transfer.total is None else size + transfer.total
    if (total or 0) > limit:
        raise DownloadError(f"the server offers {total} bytes where at most {limit} are expected")
    for chunk in transfer:
        size += len(chunk)
        if size > limit:
            part.empty()
            raise DownloadError(f"the server sent more than the {limit} bytes that are expected at most")
        digest.update(chunk)
        part.add(chunk)
        if time.monotonic() - reported > 0.1:
            reported = time.monotonic()
            progress(message, min(size / total, 1.0) if total else None, Phase.DOWNLOADING)
    if total is not None and size != total:
        raise DownloadError(f"the transfer broke off after {size} of {total} bytes")
    progress(message, 1.0, Phase.DOWNLOADING)
    return digest.hexdigest()


class _Transfer:
    """A response being read in a thread of its own, so that nothing it does can hang the caller.

    The socket's time-out covers neither name resolution nor a server that sends a byte now and then
    (headers included); the caller's clock covers all of them.
    """

    def __init__(self, url: str, timeout: float, start: int = 0, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self.total: int | None = None
        self.resumed = self.web_page = False
        self._start, self._headers, self._came = start, headers, False
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
        self.total, self.resumed, self.web_page = item.total, item.start > 0, item.web_page
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
            if self._start and isinstance(item, urllib.error.HTTPError) and item.code == _NO_SUCH_RANGE:
                raise _Unsatisfiable(_reason(item, self._timeout)) from item
            raise DownloadError(_reason(item, self._timeout, self._came)) from item
        if isinstance(item, bytes):
            self._came = self._came or bool(item)
            self._received += len(item)
            if self._waited >= self._window:
                if self._received < _SLOWEST * self._window:
                    raise DownloadError(f"the server sent only {self._received} bytes in {self._window:g} s")
                self._waited, self._received = 0.0, 0
        return item

    def _run(self, url: str) -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "quantviz"})
        if self._start:
            request.add_header("Range", f"bytes={self._start}-")
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                self._put(_start_of(response, self._start))
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


@dataclass(frozen=True, slots=True)
class _Start:
    """The headers have come.

    Attributes:
        total: the body's length in bytes, None where the server does not say.
        start: the byte of the file that it begins with.
        web_page: it is HTML.
    """

    total: int | None
    start: int
    web_page: bool


def _start_of(response: http.client.HTTPResponse, asked: int) -> _Start:
    """Return what the headers say; a server may send a part, and the one that was asked for, or the whole."""
    length = response.headers.get("Content-Length", "")
    begins = f"bytes {asked}-"
    resumed = response.status == http.client.PARTIAL_CONTENT
    if resumed and not response.headers.get("Content-Range", "").startswith(begins):
        raise http.client.HTTPException("it sends another part of the file than was asked for")
    web_page = response.headers.get_content_type() == "text/html"
    return _Start(int(length) if length.isdecimal() else None, asked if resumed else 0, web_page)


def _reason(error: Exception, timeout: float, came: bool = False) -> str:
    """Say in a few words why a transfer failed, before or after bytes came."""
    if isinstance(error, urllib.error.HTTPError):
        if 300 <= error.code < 400:
            return f"the server's redirects lead nowhere (status {error.code})"
        return f"the server answered {error.code} {_words(error)}".rstrip()
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"the server was silent for {timeout:g} s"
    if came:
        return f"the transfer broke off ({_words(cause)})"
    if isinstance(cause, http.client.HTTPException):
        return f"the server's answer is not valid HTTP ({_words(cause)})"
    return f"no connection ({_words(cause)})"


def _words(error: object) -> str:
    """One line of an exception's own words."""
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(text or type(error).__name__).split())[:120]
