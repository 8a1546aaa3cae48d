"""What the browser tests share: the server, what they wait for, and how they act. Its fixtures are in ``conftest``."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright is not installed; run make test")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[1]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
if BROWSER is None:
    if os.environ.get("QUANTVIZ_REQUIRE_BROWSER"):
        pytest.fail("QUANTVIZ_REQUIRE_BROWSER is set, but there is no Chromium on the PATH", pytrace=False)
    pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)", allow_module_level=True)

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync".split()
)
WAIT = 120_000
expect.set_options(timeout=WAIT)
# Opened at a page's own address, Streamlit looks for its server below that address first.
PAGES = ("compare", "yours", "photographs", "diagnose", "layers", "study", "paper", "metrics", "method", "present")
# What Streamlit's server says of a browser that is closed while it connects: no fault of a page's.
_LEFT = re.compile(
    r"Exception in ASGI application\nTraceback (?:(?!Exception in ASGI application).)*?"
    r"WebSocketDisconnected: Cannot call \"send\" once a close message has been sent\.",
    re.DOTALL,
)
NOISE = tuple(f"/{page}/_stcore/" for page in PAGES)


@contextlib.contextmanager
def served(home, *words):
    """Start the server on a free port, with its cache in a folder; yield its address.

    It is Streamlit's own command, or with words ``quantviz serve`` with these.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "QUANTVIZ_CACHE": str(home / "cache"),
        "TORCH_HOME": str(home / "torch"),
        "QUANTVIZ_WEIGHTS_URL": "http://127.0.0.1:9/",
    }
    log = (home / "server.log").open("w")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless=true"]
    if words:
        command = [sys.executable, "-m", "quantviz", "serve", *words, "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=300)
        log.close()
    assert "Traceback" not in _LEFT.sub("", (home / "server.log").read_text())


def _wait_until_healthy(port, server):
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server did not start")


@contextlib.contextmanager
def opened_browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def watched_page(browser, **options):
    """Yield a fresh page of a context with these options; whatever it writes to the console as an error fails."""
    context = browser.new_context(**({"viewport": {"width": 1400, "height": 1000}, "accept_downloads": True} | options))
    context.set_default_timeout(WAIT)
    opened = context.new_page()
    errors = []

    def note(message):
        if message.type == "error" and not any(noise in message.location["url"] for noise in NOISE):
            errors.append(f"{message.text} {message.location['url']}")

    opened.on("console", note)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors, errors  # told here, as pytest explains the asserts of test files alone


def settled(page):
    """Wait until the page has run to its end."""
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=WAIT)


def finished(page):
    """Wait until the page has run to its end and shows a comparison."""
    settled(page)
    expect(page.locator(".viewer .attention strong")).to_be_visible(timeout=WAIT)


def addressed(page, part):
    """Wait until the page's address has this part, which the browser is told when the page has run."""
    expect(page).to_have_url(re.compile(re.escape(part)))


def faults(page):
    """Return what axe-core finds on a page that has come to rest: rule, element, and what is wrong."""
    for _ in range(10):  # what is drawn anew is faint for a moment, and a new theme fades in
        report = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        found = [
            (rule["id"], node["html"][:200], node["failureSummary"])
            for rule in report
            for node in rule["nodes"]
            if rule["impact"] != "minor"
        ]
        if not found:
            break
        page.wait_for_timeout(1000)
    return found


def noting_progress(page):
    """Let the page note what its progress bars say; return a function that tells it.

    However soon a bar is gone, it is noted: the page itself looks, at every change.
    """
    page.evaluate(
        """() => {
            window.said = [];
            const look = () => document.querySelectorAll("[data-testid=stProgress]").forEach(
                (bar) => window.said.push(bar.innerText)
            );
            new MutationObserver(look).observe(
                document.body, { subtree: true, childList: true, characterData: true }
            );
        }"""
    )
    return lambda: "\n".join(page.evaluate("window.said"))


def unfold(page, title):
    """Open a part of the page that is folded, once."""
    summary = page.locator("summary").filter(has_text=title)
    summary.click()
    expect(summary.locator("xpath=..")).to_have_attribute("open", "")


def button(page, name):
    return page.get_by_role("button", name=re.compile(name))


def pick(page, label, option):
    """Choose an option of a select box as a user does: once more where the page was drawn anew meanwhile."""
    box = page.get_by_role("combobox", name=re.compile(label))
    wanted = page.get_by_role("option", name=option, exact=True)
    for _ in range(5):
        box.click(timeout=WAIT)
        box.fill(option)
        try:
            wanted.click(timeout=10_000)
        except PlaywrightTimeout:
            continue
        return
    pytest.fail(f"the option {option} of {label} did not stay open")


def downloaded(page, name, tmp_path):
    """Return the file that a button gives, pressed again where the page ran again meanwhile and gave none."""
    deadline = time.monotonic() + WAIT / 1000
    while True:
        try:
            with page.expect_download(timeout=WAIT / 8) as started:
                page.get_by_role("button", name=re.compile(name)).click(timeout=WAIT)
            break
        except PlaywrightTimeout:
            if time.monotonic() > deadline:
                raise
            settled(page)
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    return path
