"""The process that serves the dashboard: ``python -m quantviz.ui.server APP OPTION=VALUE ...``."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from streamlit import runtime
from streamlit.web.server.starlette import App, starlette_server

from quantviz.comparison.serving import Serving
from quantviz.ui import STYLE
from quantviz.ui.headers import Guard
from quantviz.ui.home import prepare
from quantviz.ui.memory import keep_trimmed, set_aside
from quantviz.ui.observed import OBSERVED, JsonLines, resident_bytes
from quantviz.ui.shell import Shell
from quantviz.ui.static_files import StaticFiles

_LOG = logging.getLogger("quantviz.server")


def application(script: Path, offered: Serving) -> App:
    """Return the ASGI application of a dashboard.

    Args:
        script: path of ``app.py``.
        offered: what it was started with.
    """
    routes = [Route("/health", _health), Route("/metrics", _metrics)] if offered.metrics else []
    guard = Middleware(Guard, session_bytes=offered.session_bytes, alive=_alive, noted=_noted, joined=_joined)
    kept = Middleware(StaticFiles, folder=Path(streamlit.__file__).parent / "static")
    shell = Middleware(Shell, style=STYLE.read_text(encoding="utf-8"))
    return App(script, routes=routes, middleware=[guard, kept, shell])


def main(arguments: list[str]) -> None:
    """Serve until the process is told to end.

    Args:
        arguments: path of ``app.py``, then Streamlit's options as ``--server.port=8501``.
    """
    script, *options = arguments
    offered = Serving.from_environment()
    if offered.json_log:
        _log_as_json()
    keep_trimmed()
    send_at_once()
    prepare()
    set_aside()
    sys.argv = [script]  # beside which Streamlit looks for its settings
    application(Path(script), offered).run(config=_settings(options))


def send_at_once() -> None:
    """Let what the server sends leave at once.

    An answer is written in two parts, and by default (Nagle's algorithm) the second waits until the browser has told
    that the first has come, which it does 40 ms later: for each of sixty scripts of a page, and for whatever a page
    shows. asyncio turns that off for sockets that say they are of TCP, as Streamlit's listening one does not. The
    connections that it accepts have its setting. Another Streamlit may open it in another way, and is then left alone.
    """
    bind = getattr(starlette_server, "_bind_socket", None)
    if bind is None:
        return

    def bound(address: str, port: int, backlog: int) -> socket.socket:
        listening: socket.socket = bind(address, port, backlog)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    starlette_server._bind_socket = bound


def _settings(options: list[str]) -> Mapping[str, Any]:
    settings: dict[str, Any] = {}
    for option in options:
        name, _, value = option.removeprefix("--").partition("=")
        settings[name] = int(value) if value.isdigit() else value
    return settings


def _log_as_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _alive(session: str) -> bool:
    return runtime.get_instance().is_active_session(session)


def _noted(number: str, method: str, path: str, status: int) -> None:
    OBSERVED.count(f'requests_total{{status="{status}"}}')
    _LOG.info("request", extra={"told": {"request": number, "method": method, "path": path, "status": status}})


async def _health(_request: Request) -> JSONResponse:
    told = {"status": "ok", "connections": int(OBSERVED.gauge("connections")), "resident_bytes": resident_bytes()}
    return JSONResponse(told)


async def _metrics(_request: Request) -> PlainTextResponse:
    OBSERVED.set("resident_bytes", resident_bytes())
    return PlainTextResponse(OBSERVED.text(), media_type="text/plain; version=0.0.4")


def _joined(change: int) -> None:
    OBSERVED.add("connections", change)


if __name__ == "__main__":
    main(sys.argv[1:])
