"""Measure the dashboard's pages in Chromium, as docs/speed.md tells them: medians of some runs, as a table in Markdown.

    python docs/tools/measure_pages.py --runs 5

It needs playwright and a Chromium on the PATH, starts servers of its own with an empty cache, and takes some minutes.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browsing import PAGES, WAIT, chromium, complete, served
from playwright.sync_api import Browser, Page, sync_playwright

LINK = "compare?image=coffee&weight_bits=5&act_bits=5"
# Sums up what shifts without the visitor's doing: the greatest sum of a window of 5 s with gaps of less than 1 s.
SHIFTS = """
window.shifted = 0;
let started = 0, last = 0, sum = 0;
window.sources = [];
new PerformanceObserver((list) => list.getEntries().forEach((one) => {
  if (one.hadRecentInput) return;
  if (one.startTime - last > 1000 || one.startTime - started > 5000) { started = one.startTime; sum = 0; }
  last = one.startTime;
  sum += one.value;
  window.shifted = Math.max(window.shifted, sum);
  window.sources.push([one.value, ...one.sources.map((from) => from.node?.className ?? "")]);
})).observe({ type: "layout-shift", buffered: true });
"""
FRAMES = """() => {
  const viewer = window.quantviz, taken = [];
  for (let round = 0; round < 5; round++) {
    viewer.data.frames.forEach((_, at) => {
      const start = performance.now();
      viewer.show(at);
      viewer.drawn();
      viewer.canvas.getContext("2d").getImageData(0, 0, 1, 1);  // what was asked for is drawn now
      taken.push(performance.now() - start);
    });
  }
  return taken.sort((one, other) => one - other);
}"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "shifts"], help="half of the figures, in half of the time")
    parser.add_argument("--sources", action="store_true", help="print what shifted on each page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        found = [_run(browser, Path(folder), options) for _ in range(options.runs)]
        browser.close()
    print("| measured | median | least to most |\n| --- | --- | --- |")
    for name in found[0]:
        values = sorted(run[name] for run in found)
        print(f"| {name} | {statistics.median(values):.3g} | {values[0]:.3g} to {values[-1]:.3g} |")


def _run(browser: Browser, home: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return one run's figures, the first of which are of a server that has just started."""
    found: dict[str, float] = {}
    with served(home) as address:
        if options.only != "shifts":
            _speeds(browser, address, found)
        if options.only != "speed":
            _shifts(browser, address, found, options.sources)
    return found


def _speeds(browser: Browser, address: str, found: dict[str, float]) -> None:
    with _page(browser) as (page, received):
        page.goto(address)
        complete(page, "Home")
        found["Home complete after the server's first answer, s"] = _since_answer(page)
        found["Home, beyond Streamlit's own files, gzipped, kB"] = received() / 1000
        _frames(page, found, "Home")
    with _page(browser) as (page, _):  # so that it is in the cache, with its neighbours
        page.goto(f"{address}/{LINK}")
        complete(page, "Compare")
        page.wait_for_selector(".strip .pending", state="detached", timeout=WAIT)
    with _page(browser) as (page, received):
        started = time.perf_counter()
        page.goto(f"{address}/{LINK}")
        complete(page, "Compare")
        found["cached Compare link in a fresh browser, s"] = time.perf_counter() - started
        found["Compare, beyond Streamlit's own files, gzipped, kB"] = received() / 1000
        _frames(page, found, "Compare")
    with _page(browser) as (page, _):
        page.goto(address)
        complete(page, "Home")
        # By way of Method, whose page has nothing that the others are complete by. The first time modules are
        # imported, and the browser fetches what draws.
        for turn in ("first", "again"):
            for name in ("Method", "Paper", "Method", "Compare", "Method", "Home"):
                found[f"page switch to {name}, s"] = _switch(page, name)
                if (turn, name) == ("first", "Compare"):  # what is computed ahead would be measured, too
                    page.wait_for_selector(".strip .pending", state="detached", timeout=WAIT)


def _shifts(browser: Browser, address: str, found: dict[str, float], sources: bool) -> None:
    for name, (path, _) in PAGES.items():
        with _page(browser) as (page, _):
            page.goto(address + path)
            complete(page, name)
            page.wait_for_timeout(1500)  # what comes later shifts, too
            found[f"{name}, layout shift"] = page.evaluate("window.shifted")
            if sources:
                print(name, page.evaluate("window.sources"), file=sys.stderr)


def _frames(page: Page, found: dict[str, float], name: str) -> None:
    taken = page.evaluate(FRAMES)
    found[f"bit change while scrubbing on {name}, median, ms"] = statistics.median(taken)
    found[f"bit change while scrubbing on {name}, 95th percentile, ms"] = taken[int(0.95 * len(taken))]


def _since_answer(page: Page) -> float:
    entry = "performance.getEntriesByType('navigation')[0]"
    return float(page.evaluate(f"(performance.now() - {entry}.responseStart) / 1000"))


def _switch(page: Page, name: str) -> float:
    """Return how long a page takes to be complete after a click on its name in the menu."""
    started = time.perf_counter()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
    complete(page, name)
    return time.perf_counter() - started


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


if __name__ == "__main__":
    main()
