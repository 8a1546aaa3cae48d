"""Streamlit's own files from memory: an ASGI middleware.

Streamlit's page asks for some sixty scripts before it shows anything. From the disk, each takes a thread and passes
every layer of the server; from memory it passes none. Their names change with their content, so that a browser may
keep them.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from quantviz.ui.headers import Asgi, Message, Receive, Send

_PLACE: Final = "/static/"
_NAMED_BY_CONTENT: Final = ("js/", "css/", "media/")  # below the place; ``js/index.BERvM-yN.js``
_MOST_BYTES: Final = 64 << 20
_ASKED: Final = frozenset((b"range", b"if-none-match", b"if-modified-since"))


class StaticFiles:
    """Answers for files that are named by their content, and passes everything else on.

    Args:
        app: the application behind it.
        folder: of Streamlit's own files, which has ``static`` in it.
        most_bytes: kept in memory; files beyond are passed on.
    """

    def __init__(self, app: Asgi, folder: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._app, self._most = app, most_bytes
        self._files = _named_by_content(folder / "static")
        self._kept: dict[str, bytes] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        name = scope.get("path", "").partition(_PLACE)[2]
        body = None
        if scope["type"] == "http" and scope["method"] == "GET" and name in self._files:
            if not any(key.lower() in _ASKED for key, _ in scope.get("headers", ())):
                body = self._read(name)
        if body is None:
            await self._app(scope, receive, send)
            return
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "public, immutable, max-age=31536000",
        }
        told = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": told})
        await send({"type": "http.response.body", "body": body})

    def _read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is no room for them, or they are gone."""
        if name not in self._kept:
            try:
                body = self._files[name].read_bytes()
            except OSError:
                return None
            if sum(map(len, self._kept.values())) + len(body) > self._most:
                return None
            self._kept[name] = body
        return self._kept[name]


def _named_by_content(folder: Path) -> Mapping[str, Path]:
    paths = (path for place in _NAMED_BY_CONTENT for path in (folder / place).rglob("*"))
    return {str(path.relative_to(folder)): path for path in paths if path.is_file()}
