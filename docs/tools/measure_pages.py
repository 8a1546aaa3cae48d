"""Measure the dashboard's pages in Chromium, as docs/speed.md tells them: medians of some runs, as a table in Markdown.

    python docs/tools/measure_pages.py --runs 5

It needs playwright and a Chromium on the PATH, starts servers of its own with an empty cache, and takes some minutes.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
LINK = "compare?image=coffee&weight_bits=5&act_bits=5"
WAIT = 180_000
# Sums up what shifts without the visitor's doing.
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => list.getEntries().forEach((one) => {
  if (!one.hadRecentInput) window.shifted += one.value;
})).observe({ type: "layout-shift", buffered: true });
"""
VIEWER = (
    "[...document.querySelectorAll('*')].find((one) => one.shadowRoot?.querySelector('.viewer'))"
    ".shadowRoot.querySelector('.viewer').quantviz"
)
FRAMES = f"""() => {{
  const viewer = {VIEWER}, taken = [];
  for (let round = 0; round < 5; round++) {{
    viewer.data.frames.forEach((_, at) => {{
      const start = performance.now();
      viewer.show(at);
      viewer.drawn();
      viewer.canvas.getContext("2d").getImageData(0, 0, 1, 1);  // what was asked for is drawn now
      taken.push(performance.now() - start);
    }});
  }}
  return taken;
}}"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
        found = [_run(browser, Path(folder)) for _ in range(runs)]
        browser.close()
    print("| measured | median |\n| --- | --- |")
    for name in found[0]:
        print(f"| {name} | {statistics.median(run[name] for run in found):.3g} |")


def _run(browser: Browser, home: Path) -> dict[str, float]:
    """Return one run's figures, the first of which are of a server that has just started."""
    found: dict[str, float] = {}
    with _served(home) as address:
        with _page(browser) as (page, received):
            page.goto(address)
            _complete(page, ".viewer canvas")
            found["Home complete after the server's first answer, s"] = _since_answer(page)
            found["Home, bytes beyond Streamlit's own files, gzipped, kB"] = received() / 1000
            found["Home, layout shift"] = page.evaluate("window.shifted")
            found["slowest frame while scrubbing on Home, ms"] = max(page.evaluate(FRAMES))
            found["frame while scrubbing on Home, median, ms"] = statistics.median(page.evaluate(FRAMES))
            found["page switch, Home to Method, s"] = _switch(page, "Method", "h1, h2")
            found["page switch, Method to Home, s"] = _switch(page, "Home", ".viewer canvas")
        with _page(browser) as (page, _):  # so that it is in the cache, with its neighbours
            page.goto(f"{address}/{LINK}")
            _complete(page, ".viewer .attention strong")
            page.wait_for_selector(".strip .pending", state="detached", timeout=WAIT)
        with _page(browser) as (page, received):
            started = time.perf_counter()
            page.goto(f"{address}/{LINK}")
            _complete(page, ".viewer .attention strong")
            found["cached Compare link in a fresh browser, s"] = time.perf_counter() - started
            found["Compare, bytes beyond Streamlit's own files, gzipped, kB"] = received() / 1000
            found["Compare, layout shift"] = page.evaluate("window.shifted")
            found["slowest frame while scrubbing on Compare, ms"] = max(page.evaluate(FRAMES))
        with _page(browser) as (page, _):
            page.goto(f"{address}/photographs")
            _complete(page, "[data-testid=stFileUploader]")
            found["Your photographs, layout shift"] = page.evaluate("window.shifted")
    return found


def _complete(page: Page, selector: str) -> None:
    page.wait_for_selector(selector, state="visible", timeout=WAIT)
    page.wait_for_selector("[data-test-script-state=notRunning]", timeout=WAIT)


def _since_answer(page: Page) -> float:
    entry = "performance.getEntriesByType('navigation')[0]"
    return float(page.evaluate(f"(performance.now() - {entry}.responseStart) / 1000"))


def _switch(page: Page, name: str, selector: str) -> float:
    started = time.perf_counter()
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_function("(name) => document.title && location.pathname.endsWith(name)", arg=_path(name))
    _complete(page, selector)
    return time.perf_counter() - started


def _path(name: str) -> str:
    return "/" if name == "Home" else f"/{name.lower()}"


@contextmanager
def _page(browser: Browser) -> Iterator[tuple[Page, Any]]:
    """Yield a page of a fresh browser, and what tells the bytes that it received beside Streamlit's own files."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(SHIFTS)
    page, parts = context.new_page(), []

    def keep(payload: str | bytes) -> None:
        parts.append(payload if isinstance(payload, bytes) else payload.encode())

    def note(response: Any) -> None:
        if "/static/" not in response.url and "_stcore/health" not in response.url and response.ok:
            try:
                parts.append(response.body())
            except Exception:  # of a redirection there is none
                return

    page.on("websocket", lambda socket: socket.on("framereceived", keep))
    page.on("response", note)
    yield page, lambda: sum(len(gzip.compress(part)) for part in parts)
    context.close()


@contextmanager
def _served(home: Path) -> Iterator[str]:
    """Start a server on a free port and yield its address, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless=true"]
    environment = os.environ | {"QUANTVIZ_CACHE": str(home / "cache"), "TORCH_HOME": str(home / "torch")}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
    try:
        while server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("There is no Chromium on the PATH; install one (Debian: apt-get install chromium).")
    return found


if __name__ == "__main__":
    main()
