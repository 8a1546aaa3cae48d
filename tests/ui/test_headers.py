"""What the server adds to answers and refuses, and the rule that only one function makes a visitor's words a path."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from quantviz.comparison.serving import Serving
from quantviz.specs import UsageError
from quantviz.ui import serving
from quantviz.ui.headers import HEADERS, Guard
from quantviz.ui.observed import Observed

ROOT = Path(__file__).parents[2]
UPLOAD = "/_stcore/upload_file"


class Server:
    """An application behind the guard, with the sessions that it has."""

    def __init__(self, limit=0):
        self.alive, self.noted, self.connections = {"one", "two"}, [], 0

        async def answer(request):
            return PlainTextResponse(f"{len(await request.body())}", headers={"Referrer-Policy": "unsafe-url"})

        inner = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "PUT", "DELETE"])])
        guard = Guard(
            inner, limit, lambda session: session in self.alive, lambda *told: self.noted.append(told), self._joined
        )
        self.client = TestClient(guard)

    def _joined(self, change):
        self.connections += change


def _run(call):
    """Run a coroutine in a thread of its own: a browser test of the same process leaves a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, call).result()


def test_every_answer_has_the_headers_once_and_a_number():
    server = Server()
    numbers = set()
    for path in ("/", "/_stcore/health", "/_stcore/metrics", f"{UPLOAD}/one/a"):
        answer = server.client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value]
        numbers.add(answer.headers["x-request-id"])
    assert len(numbers) == 4
    assert [told[0] for told in server.noted] == [*dict.fromkeys(told[0] for told in server.noted)]
    assert {told[0] for told in server.noted} == numbers


def test_the_policy_lets_nothing_in_from_elsewhere():
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
    allowed = {word for words in policy.values() for word in words.split()}
    assert allowed <= {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert "data:" not in policy["script-src"]


def test_streamlits_own_metrics_are_closed():
    server = Server()
    assert server.client.get("/_stcore/metrics").status_code == 404
    assert server.client.get("/base/_stcore/metrics").status_code == 404
    assert server.client.get("/_stcore/health").status_code == 200


def test_a_session_has_a_quota_of_uploads():
    server = Server(limit=1 << 20)

    def put(session, file, count):
        return server.client.put(f"{UPLOAD}/{session}/{file}", content=b"x" * count).status_code

    assert put("one", "a", 700_000) == 200
    assert put("one", "b", 700_000) == 413
    assert put("two", "b", 700_000) == 200  # another session's own quota
    assert put("one", "a", 800_000) == 200  # in place of what it was
    server.client.delete(f"{UPLOAD}/one/a")
    assert put("one", "b", 700_000) == 200
    server.alive = {"two"}
    assert put("two", "b", 700_000) == 200
    server.alive = {"one", "two"}
    assert put("one", "c", 700_000) == 200  # what it had went when it left
    chunked = server.client.put(f"{UPLOAD}/two/d", content=iter([b"x" * 10]))
    assert chunked.status_code == 411


def test_connections_are_counted_until_they_end():
    seen = []

    async def socket(_scope, _receive, _send):
        seen.append(server.connections)
        raise ConnectionError

    server = Server()
    guard = Guard(socket, joined=server._joined)
    with pytest.raises(ConnectionError):
        _run(guard({"type": "websocket"}, None, None))
    assert (seen, server.connections) == ([1], 0)


def test_metrics_are_prometheus_text():
    observed = Observed()
    for seconds in (0.01, 0.3, 400.0):
        observed.took("compute_seconds", seconds)
    observed.count('comparisons_total{cache="hit"}')
    observed.count('comparisons_total{cache="miss"}')
    observed.count('comparisons_total{cache="hit"}')
    observed.set("queue_waiting", 3)
    lines = observed.text().splitlines()
    assert lines.count("# TYPE quantviz_comparisons_total counter") == 1
    assert 'quantviz_comparisons_total{cache="hit"} 2' in lines
    assert "quantviz_queue_waiting 3" in lines
    assert 'quantviz_compute_seconds_bucket{le="0.05"} 1' in lines
    assert 'quantviz_compute_seconds_bucket{le="60"} 2' in lines
    assert 'quantviz_compute_seconds_bucket{le="+Inf"} 3' in lines
    assert "quantviz_compute_seconds_count 3" in lines
    assert all(re.fullmatch(r'# TYPE \S+ \w+|[a-z_]+(\{[a-z]+="[^"]+"\})? [-+.e0-9]+', line) for line in lines)


def test_words_of_a_public_servers_visitor_are_no_path(monkeypatch):
    monkeypatch.setattr(serving, "serving", lambda: Serving(public=True))
    for words in ("/", "/etc", "~", "..", "a\x00b", "\x1b[31m", "x" * 5000):
        with pytest.raises(UsageError, match="is not offered") as told:
            serving.visitors_path(words)
        assert len(str(told.value)) < 400
        assert "\x1b" not in str(told.value)
    monkeypatch.setattr(serving, "serving", Serving)
    assert serving.visitors_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert serving.visitors_path("/etc") == Path("/etc")


def test_only_one_function_makes_a_visitors_words_a_path():
    found = {
        str(path.relative_to(ROOT))
        for folder in ("pages", "quantviz/ui")
        for path in (ROOT / folder).rglob("*.py")
        if "expanduser" in path.read_text()
    }
    assert found == {"quantviz/ui/serving.py"}


def test_what_is_handed_to_the_server_comes_back():
    offered = Serving(5, (Path("/a"),), ("m:f",), True, (Path("/s"),), (Path("/d"),), 7, 9, True, True, True)
    assert Serving.from_environment(offered.environment()) == offered
    old = {"QUANTVIZ_SERVE": json.dumps({"upload_bytes": 5, "cards": ["/a"], "models": []})}
    assert Serving.from_environment(old) == Serving(5, (Path("/a"),))
