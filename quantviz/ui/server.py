"""The process that serves the dashboard: ``python -m quantviz.ui.server APP OPTION=VALUE ...``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from streamlit import runtime
from streamlit.web.server.starlette import App

from quantviz.comparison.serving import Serving
from quantviz.ui import STYLE
from quantviz.ui.headers import Guard
from quantviz.ui.memory import keep_trimmed
from quantviz.ui.observed import OBSERVED, JsonLines, resident_bytes
from quantviz.ui.shell import Shell

_LOG = logging.getLogger("quantviz.server")


def application(script: Path, offered: Serving) -> App:
    """Return the ASGI application of a dashboard.

    Args:
        script: path of ``app.py``.
        offered: what it was started with.
    """
    routes = [Route("/health", _health), Route("/metrics", _metrics)] if offered.metrics else []
    guard = Middleware(Guard, session_bytes=offered.session_bytes, alive=_alive, noted=_noted, joined=_joined)
    return App(script, routes=routes, middleware=[guard, Middleware(Shell, style=STYLE.read_text(encoding="utf-8"))])


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
    sys.argv = [script]  # beside which Streamlit looks for its settings
    application(Path(script), offered).run(config=_settings(options))


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
