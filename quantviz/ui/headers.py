"""What the server adds to every answer and refuses before Streamlit sees it: an ASGI middleware."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

# Streamlit's page needs inline styles, and its components run from blobs; Plotly and Vega compile functions. Nothing is
# loaded from, sent to, or framed by another place.
POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' blob:",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CLOSED: Final = ("/_stcore/metrics", "/_stcore/script-health-check")
_UPLOAD: Final = "/_stcore/upload_file/"


class Guard:
    """Adds ``HEADERS`` and a request's number, closes Streamlit's own metrics, and holds uploads to a quota.

    Args:
        app: the application behind it.
        session_bytes: what one session may have uploaded at a time; 0 for no limit.
        alive: tells whether a session is still there.
        noted: called at the end of each request with its number, method, path and status.
        joined: called with 1 when a page connects, and with -1 when it leaves.
    """

    def __init__(
        self,
        app: Asgi,
        session_bytes: int = 0,
        alive: Callable[[str], bool] = lambda _session: True,
        noted: Callable[[str, str, str, int], None] = lambda *_: None,
        joined: Callable[[int], None] = lambda _change: None,
    ) -> None:
        self._app, self._most, self._alive, self._noted, self._joined = app, session_bytes, alive, noted, joined
        self._uploaded: dict[tuple[str, str], int] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            change = int(scope["type"] == "websocket")
            self._joined(change)
            try:
                await self._app(scope, receive, send)
            finally:
                self._joined(-change)
            return
        number, status = secrets.token_hex(4), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                names = {name for name, _ in added}
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
                message["headers"] = [*kept, *added, (b"x-request-id", number.encode())]
            await send(message)

        path = scope["path"]
        if path.endswith(_CLOSED):
            await _refuse(answer, 404, "Not found")
        elif self._most and _UPLOAD in path and scope["method"] == "PUT":
            await self._upload(scope, receive, answer)
        else:
            if _UPLOAD in path and scope["method"] == "DELETE":
                self._uploaded.pop(_place(path), None)
            await self._app(scope, receive, answer)
        self._noted(number, scope["method"], path, status)

    async def _upload(self, scope: Message, receive: Receive, answer: Send) -> None:
        """Pass an upload on as far as its session's quota goes; what comes is counted, whatever was announced."""
        session, file = _place(scope["path"])
        self._uploaded = {place: count for place, count in self._uploaded.items() if self._alive(place[0])}
        others = sum(count for place, count in self._uploaded.items() if place[0] == session and place[1] != file)
        headers = dict(scope.get("headers", ()))
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            await _refuse(answer, 411, "An upload has to say its length")
        elif others + int(length) > self._most:
            await _refuse(answer, 413, f"A session may have {self._most >> 20} MiB uploaded at a time")
        else:
            self._uploaded[session, file] = int(length)  # the server ends a body that is longer than announced
            await self._app(scope, receive, answer)


def _place(path: str) -> tuple[str, str]:
    session, _, file = path.partition(_UPLOAD)[2].partition("/")
    return session, file


async def _refuse(send: Send, status: int, words: str) -> None:
    body = json.dumps({"detail": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
