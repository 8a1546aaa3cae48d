"""A server of weights that behaves as servers do, and what a download leaves behind."""

import hashlib
import http.server
import threading
from dataclasses import replace

import pytest
from weights_support import BODY, SQUEEZENET

from quantviz.specs import PublishedWeights


def hub_spec(content, of=SQUEEZENET):
    """The model with one published file, whose digest is that of ``content``."""
    digest = hashlib.sha256(content).hexdigest()
    entry = PublishedWeights("IMAGENET1K_V1", f"made_up-{digest[:8]}.pth", digest[:8], of.weights[0].preprocessing)
    return replace(of, weights=(entry,))


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.ranges.append(self.headers["Range"])
        try:
            getattr(self, self.server.manner)(self.server.content)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def start(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def whole(self, content):
        self.start(len(content))
        self.wfile.write(content)

    def by_range(self, content):
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def another_range(self, content):
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 7-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[7:])

    def web_page(self, content):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>Log in to this hotel</title>")

    def cut_chunks(self, content):
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s" % (len(content), content[: len(content) // 2]))
        self.close_connection = True

    def elsewhere(self, content):
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.end_headers()

    def no_length(self, content):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def endless(self, content):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(content)

    def half(self, content):
        self.start(len(content))
        self.wfile.write(content[: len(content) // 2])

    def silent(self, content):
        self.server.released.wait(120)

    def half_then_silent(self, content):
        self.half(content)
        self.wfile.flush()
        self.server.released.wait(120)

    def trickle(self, content):
        self.start(len(content))
        for byte in content:
            self.wfile.write(bytes([byte]))
            if self.server.released.wait(0.05):
                return

    def trickling_headers(self, content):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.server.released.wait(0.05):
            self.wfile.write(b"X: y\r\n")

    def absent(self, content):
        self.send_error(404)

    def broken(self, content):
        self.send_error(500)

    def loop(self, content):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def no_http(self, content):
        self.wfile.write(b"nonsense\r\n\r\n")


@pytest.fixture
def server(home, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.content, server.manner, server.asked, server.ranges = BODY, "whole", [], []
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("QUANTVIZ_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/models")
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def left_behind(home):
    return sorted(home.iterdir()) if home.exists() else []


def sizes_left(home):
    return [path.stat().st_size for path in left_behind(home)]


def is_whole(path):
    """Whether the file is what the server sends; a failure shows this word in place of two megabytes."""
    return path.read_bytes() == BODY
