"""What the scripts that look at the dashboard share: a server of their own, a Chromium, and when a page is complete."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
WAIT = 600_000
"""Milliseconds within which a page is complete, however busy the machine."""

# Title in the menu -> path, and what is there when the page is complete.
PAGES = {
    "Home": ("/", ".viewer canvas:visible"),
    "Compare": ("/compare", ".viewer .attention strong"),
    "Your network": ("/yours", "h2:has-text('your own network')"),
    "Your photographs": ("/photographs", "[data-testid=stFileUploader]"),
    "Diagnose": ("/diagnose", ".st-key-example .js-plotly-plot .main-svg"),
    "Study": ("/study", "[data-testid=stTabs] .js-plotly-plot .main-svg"),
    "Paper": ("/paper", ".js-plotly-plot .main-svg"),
    "Metrics": ("/metrics", "h1:has-text('Metrics')"),
    "Method": ("/method", "h1:has-text('Method')"),
    "Present": ("/present", "[data-testid=stMarkdown] h1"),
}


def complete(page: Page, name: str) -> None:
    """Wait until a page of the menu shows what it is there for, and has run to its end."""
    page.wait_for_selector(PAGES[name][1], state="visible", timeout=WAIT)
    page.wait_for_selector("[data-test-script-state=notRunning]", timeout=WAIT)


@contextmanager
def served(home: Path) -> Iterator[str]:
    """Start a server on a free port, with its cache in a folder, and yield its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "quantviz", "serve", "--port", str(port)]
    environment = os.environ | {"QUANTVIZ_CACHE": str(home / "cache"), "TORCH_HOME": str(home / "torch")}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
    try:
        while True:
            if server.poll() is not None:
                sys.exit(f"The server ended with status {server.returncode}; start it by hand: {' '.join(command)}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def chromium() -> str:
    """Return the path of a Chromium; without one, end with what to do."""
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("There is no Chromium on the PATH; install one (Debian: apt-get install chromium).")
    return found
