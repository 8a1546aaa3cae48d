"""Streamlit's own files from memory, at once, and a first page without an import."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import streamlit
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.web.server.starlette import starlette_server

from quantviz.ui.server import send_at_once
from quantviz.ui.static_files import StaticFiles

OWN = Path(streamlit.__file__).parent / "static"


@pytest.fixture
def folder(tmp_path):
    for name, content in {"js/a.1.js": "one", "css/b.2.css": "two", "media/c.3.bin": "three", "d.js": "four"}.items():
        path = tmp_path / "static" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def served(folder, **options):
    async def behind(_request):
        return PlainTextResponse("behind")

    methods = ["GET", "PUT"]
    routes = [Route("/{path:path}", behind, methods=methods)]
    return TestClient(StaticFiles(Starlette(routes=routes), folder, **options))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/js/a.1.js", "text/javascript; charset=utf-8"),
        ("/a/base/static/css/b.2.css", "text/css; charset=utf-8"),
        ("/static/media/c.3.bin", "application/octet-stream"),
    ],
)
def test_a_file_that_its_content_names_is_answered_and_may_be_kept(folder, path, kind):
    answer = served(folder).get(path)
    assert answer.text in ("one", "two", "three")
    assert answer.headers["content-type"] == kind
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["cache-control"] == "public, immutable, max-age=31536000"


@pytest.mark.parametrize("path", ["/", "/static/d.js", "/static/js/other.js", "/static/js/../d.js", "/static/js/"])
def test_everything_else_is_passed_on(folder, path):
    assert served(folder).get(path).text == "behind"


def test_parts_and_questions_are_passed_on(folder):
    client = served(folder)
    assert client.get("/static/js/a.1.js", headers={"Range": "bytes=0-1"}).text == "behind"
    assert client.get("/static/js/a.1.js", headers={"If-None-Match": "x"}).text == "behind"
    assert client.put("/static/js/a.1.js").text == "behind"


def test_what_is_kept_is_bounded(folder):
    client = served(folder, most_bytes=4)
    assert client.get("/static/js/a.1.js").text == "one"
    assert client.get("/static/css/b.2.css").text == "behind"
    assert client.get("/static/js/a.1.js").text == "one"


def test_streamlits_page_is_made_of_such_files():
    """Another layout of Streamlit's would make all of this useless without a word."""
    page = (OWN / "index.html").read_text(encoding="utf-8")
    named = [part.split('"')[0] for part in page.split("./static/")[1:]]
    client = served(OWN)
    assert len(named) > 10
    assert all(client.get(f"/static/{name}").text != "behind" for name in named)


def test_connections_send_at_once(monkeypatch):
    monkeypatch.setattr(starlette_server, "_bind_socket", starlette_server._bind_socket)
    send_at_once()
    listening = starlette_server._bind_socket("127.0.0.1", 0, 5)
    listening.setblocking(True)
    with listening, socket.create_connection(listening.getsockname()) as _browser:
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_server_starts_without_torch_and_home_needs_no_further_import():
    code = """
import sys
from quantviz.ui import home, server
server.prepare()
assert "torch" not in sys.modules
home._warming = lambda: None
from streamlit.testing.v1 import AppTest
before = set(sys.modules)
page = AppTest.from_file("app.py", default_timeout=120).run()
assert not page.exception
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not new & {"torch", "pandas", "plotly", "scipy", "matplotlib", "onnxruntime"}, new
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, timeout=600)
