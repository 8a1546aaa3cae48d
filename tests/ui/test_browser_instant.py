"""What the dashboard need not do: ask the server for what the browser can draw, load torch for what is known."""

import re
import sys
from pathlib import Path

import pytest
from browser_support import WAIT, addressed, button, finished, served, settled, unfold
from playwright.sync_api import expect

LINK = "model=squeezenet1_1&weights=untrained&saliency=none"


def uses_torch(address):
    """Tell whether the process of a server has loaded torch's library."""
    port = address.rpartition(":")[2].encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"streamlit" in words and port in words:
            return "libtorch" in (entry.parent / "maps").read_text()
    pytest.fail("there is no process of this server")


def slider(page, name):
    found = page.get_by_role("slider", name=re.compile(name))
    found.focus()
    return found


@pytest.mark.slow
def test_what_is_drawn_is_changed_without_the_server(page, address):
    frames = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: frames.append(frame)))
    page.goto(f"{address}/compare?{LINK}")
    finished(page)
    expect(page.locator(".strip .pending")).to_have_count(0)  # what is computed ahead is there
    settled(page)
    before = len(frames)
    assert before > 0  # what is sent is seen
    opacity = slider(page, "Opacity")
    for _ in range(3):
        opacity.press("ArrowRight")
    expect(opacity).to_have_value("85")
    page.get_by_role("radio", name="Swipe").check(force=True)
    page.wait_for_timeout(500)
    assert len(frames) == before
    # Another bit-width comes with what was chosen for the one before.
    slider(page, "Weight bits").press("ArrowLeft")
    expect(page.get_by_text("At W7A8, squeezenet1_1 looks")).to_be_visible(timeout=WAIT)
    addressed(page, "weight_bits=7")
    assert len(frames) > before
    expect(opacity).to_have_value("85")
    expect(page.get_by_role("radio", name="Swipe")).to_be_checked()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's libraries are read from /proc")
def test_a_server_that_shows_what_is_known_loads_no_torch(page, address, home):
    page.goto(f"{address}/compare")
    finished(page)
    unfold(page, "Every metric")
    expect(page.get_by_role("tab", name="against the float model's map")).to_be_visible()
    expect(page.locator(".strip .pending")).to_have_count(0)
    settled(page)
    assert uses_torch(address)
    (home / "again").mkdir()
    (home / "again" / "cache").symlink_to(home / "cache")
    with served(home / "again") as again:
        page.goto(f"{again}/compare")
        finished(page)
        settled(page)
        expect(page.get_by_text("efficientnet_lite0 looks")).to_be_visible()
        expect(page.locator(".strip .pending")).to_have_count(0)
        unfold(page, "Every metric")
        expect(page.get_by_role("tab", name="against the float model's map")).to_be_visible()
        expect(button(page, "^Result")).to_be_visible()
        assert not uses_torch(again)
        for name, heading in (("Diagnose", "Which tensor"), ("Metrics", "Metrics"), ("Method", "Method")):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_role("heading", name=heading).first).to_be_visible(timeout=WAIT)
            settled(page)
            assert page.get_by_role("alert").count() == 0
            assert not uses_torch(again)
        page.goto("about:blank")  # a page that is open would miss its server
