"""The style in the head of the page that Streamlit answers with."""

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from quantviz.ui.shell import Shell

PAGE = "<html><head><title>x</title></head><body>ü</body></html>"


@pytest.fixture(scope="module")
def client():
    async def answer(request):
        path = request.url.path
        if path == "/plain":
            return PlainTextResponse(PAGE)
        if path == "/missing":
            return HTMLResponse(PAGE, 404)
        if "if-none-match" in request.headers or "gzip" in request.headers.get("accept-encoding", ""):
            return PlainTextResponse("", 304)
        return HTMLResponse(PAGE, headers={"ETag": "one"})

    return TestClient(Shell(Starlette(routes=[Route("/{path:path}", answer)]), "h1 { color: red }"))


@pytest.mark.parametrize("path", ["/", "/compare", "/a/base/study"])
def test_a_page_has_the_style_in_its_head_whole_and_fresh(client, path):
    answer = client.get(path, headers={"If-None-Match": "one", "Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    head, body = answer.text.split("</head>")
    assert "<style>:root {\nh1 { color: red }" in head  # nested, as Streamlit's own rules come later
    assert "margin-left: 300px" in head
    assert body == "<body>ü</body></html>"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "etag" not in answer.headers


def test_a_presentation_keeps_no_room_for_a_menu(client):
    assert "margin-left" not in client.get("/present").text
    assert "color: red" in client.get("/present").text


@pytest.mark.parametrize("path", ["/plain", "/missing", "/static/x.html", "/_stcore/health"])
def test_what_is_no_page_stays_as_it_is(client, path):
    assert "color: red" not in client.get(path).text
