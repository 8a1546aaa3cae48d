"""Files of timm's from a server like Hugging Face's, and from an address, whatever goes wrong on the way."""

import hashlib
import http.server
import threading
from pathlib import Path

import huggingface_hub.constants
import pytest
from weights_support import BODY, SQUEEZENET

from quantviz.networks import library_cache
from quantviz.networks.download import DownloadError
from quantviz.specs import PublishedWeights, no_progress

PUBLISHED = PublishedWeights("tag", "pytorch_model.bin", "", SQUEEZENET.weights[0].preprocessing, source="timm/made_up")
NAME = hashlib.sha256(BODY).hexdigest()
LIMIT = 1 << 24


class Hub(http.server.BaseHTTPRequestHandler):
    """Has ``pytorch_model.bin`` alone, under the digest of ``BODY``, and sends ``server.content``."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.server.asked.append(("HEAD", self.path))
        if self.server.silent:
            self.server.released.wait(60)
            return
        if not self.path.endswith("pytorch_model.bin"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in self.server.said.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()

    def do_GET(self):
        if "/api/" in self.path:  # the library asks what else it pleases
            self.send_error(404)
            return
        self.server.asked.append(("GET", self.headers["Range"]))
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(BODY) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()
        self.wfile.write(self.server.content[start:])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    server.content, server.asked, server.silent, server.released = BODY, [], False, threading.Event()
    server.kind, server.said = "application/octet-stream", {"X-Repo-Commit": "abc", "ETag": f'"{NAME}"'}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "60")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    place = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", place)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def got(tmp_path):
    return library_cache.get(PUBLISHED, tmp_path / "hub", LIMIT, no_progress)


def test_a_file_comes_into_the_cache_of_hugging_face_once(hub, tmp_path):
    assert library_cache.cached(PUBLISHED, tmp_path) is None
    path = got(tmp_path)
    assert path.read_bytes() == BODY
    assert path.resolve() == tmp_path / "models--timm--made_up" / "blobs" / NAME
    assert library_cache.cached(PUBLISHED, tmp_path) == path
    assert library_cache.claimed_digest(path) == NAME
    assert got(tmp_path) == path
    assert [asked for asked in hub.asked if asked[0] == "GET"] == [("GET", None)]


def test_a_file_that_broke_off_goes_on_where_it_ended(hub, tmp_path):
    hub.content = BODY[:1000]
    with pytest.raises(DownloadError, match="broke off after 1000 of 2097152 bytes"):
        got(tmp_path)
    assert library_cache.cached(PUBLISHED, tmp_path) is None
    hub.content = BODY
    assert got(tmp_path).read_bytes() == BODY
    assert ("GET", "bytes=1000-") in hub.asked


def test_another_file_than_the_server_says_is_dropped(hub, tmp_path):
    hub.content = bytes(len(BODY))
    with pytest.raises(DownloadError, match=rf"a file whose sha256 begins [0-9a-f]{{8}}, not {NAME[:8]}"):
        got(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_web_page_in_place_of_the_file_is_named(hub, tmp_path):
    hub.kind = "text/html"
    with pytest.raises(DownloadError, match="the server sent a web page in place of the file"):
        got(tmp_path)


def test_a_silent_server_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "0.3")
    hub.silent = True
    with pytest.raises(DownloadError, match=r"timed out|no answer within 0\.9 s"):
        got(tmp_path)


@pytest.mark.parametrize("tag", ['"../../../x"', ""])
def test_a_server_that_does_not_say_which_file_it_has_is_not_believed(hub, tmp_path, tag):
    hub.said["ETag"] = tag
    with pytest.raises(DownloadError, match="does not say which file it has"):
        got(tmp_path)


def test_a_file_with_an_address_of_its_own_comes_whole_or_not_at_all(hub, tmp_path):
    published = PublishedWeights("tag", "w.pth", "", PUBLISHED.preprocessing, source=f"{hub.url}/w.pth")
    hub.content = BODY[:1000]
    with pytest.raises(DownloadError, match="broke off"):
        library_cache.get(published, tmp_path, LIMIT, no_progress)
    assert list(Path(tmp_path).iterdir()) == []
    hub.content = BODY
    assert library_cache.get(published, tmp_path, LIMIT, no_progress).read_bytes() == BODY
    assert [asked[1] for asked in hub.asked] == [None, None]  # no digest would tell two halves of two files
