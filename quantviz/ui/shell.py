"""The page that Streamlit answers with, with our style in it from the first: an ASGI middleware.

Streamlit's page comes without a style of ours, and gets one only when its script has run: until then the menu's room is
not kept, so that everything jumps aside, then up. With the style in the page's head it stands where it will stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quantviz.ui.headers import Asgi, Message, Receive, Send

PRESENTED: Final = Path(__file__).parent / "present.css"
"""What the presentation has beside the style of every page."""

_PRESENTATION: Final = "/present"

# The menu's width is Streamlit's, 300 pixels, where a page is wide enough for it to be open at first.
_ROOM: Final = """
[data-testid=stMainBlockContainer] { max-width: 100%; }
@media (min-width: 769px) {
  [data-testid=stAppViewContainer]:not(:has([data-testid=stSidebar])) > :has(> [data-testid=stMain]) {
    margin-left: 300px;
  }
}
"""
_OTHERS: Final = ("/static/", "/_stcore/", "/media/", "/component/")
# What would have the page answered in another form, or as one that the browser has: it is without our style there.
_ASKED: Final = frozenset((b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"))
_DROPPED: Final = frozenset((b"content-length", b"etag", b"last-modified", b"accept-ranges"))


class Shell:
    """Puts a style into the head of every page.

    Args:
        app: the application behind it.
        style: CSS.
    """

    def __init__(self, app: Asgi, style: str) -> None:
        self._app, self._style = app, style

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "GET" or any(part in path for part in _OTHERS):
            await self._app(scope, receive, send)
            return
        presented = path.rstrip("/").endswith(_PRESENTATION)
        style = self._style + (PRESENTED.read_text(encoding="utf-8") if presented else _ROOM)
        started: Message | None = None
        parts: list[bytes] = []

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start" and _is_page(message):
                started = message  # sent with the page's new length
            elif started is None:
                await send(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    head = f"<style>:root {{\n{style}\n}}</style></head>"  # before Streamlit's, whose rules would win
                    page = b"".join(parts).replace(b"</head>", head.encode(), 1)
                    kept = [pair for pair in started["headers"] if pair[0].lower() not in _DROPPED]
                    await send({**started, "headers": [*kept, (b"content-length", str(len(page)).encode())]})
                    await send({"type": "http.response.body", "body": page})

        headers = [pair for pair in scope.get("headers", ()) if pair[0].lower() not in _ASKED]
        await self._app({**scope, "headers": headers}, receive, answer)


def _is_page(message: Message) -> bool:
    kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
    return message["status"] == 200 and any(kind.startswith(b"text/html") for kind in kinds)
