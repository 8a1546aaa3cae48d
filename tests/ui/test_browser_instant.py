"""What the dashboard need not do: ask the server for what the browser can draw, load torch for what is known."""

import re
import sys
from pathlib import Path

import pytest
from browser_support import WAIT, addressed, button, finished, served, settled
from playwright.sync_api import expect

LINK = "model=squeezenet1_1&weights=untrained&saliency=none"


def opaque(page, wanted):
    """Wait until maps are drawn, and all of them as opaque as wanted: the slider comes when the page has run."""
    expect(page.locator(".st-key-maps .hm image").first).to_be_attached()
    for image in page.locator(".st-key-maps .hm image").all():
        expect(image).to_have_css("opacity", wanted)


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


def test_opacity_is_changed_without_the_server(page, address):
    frames = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: frames.append(frame)))
    page.goto(f"{address}/compare?{LINK}")
    finished(page)
    settled(page)
    opaque(page, "0.55")
    before = len(frames)
    assert before > 0  # what is sent is seen
    opacity = slider(page, "Opacity of the maps")
    for _ in range(3):
        opacity.press("ArrowRight")
    page.wait_for_url("**opacity=70**")
    opaque(page, "0.7")
    page.wait_for_timeout(500)
    assert len(frames) == before
    # The figure of another bit-width comes with the opacity that was chosen, and the address keeps both.
    slider(page, "Weight bits").press("ArrowLeft")
    expect(page.get_by_text("At W7A8, squeezenet1_1 looks")).to_be_visible(timeout=WAIT)
    finished(page)
    assert len(frames) > before
    page.wait_for_url("**opacity=70**")
    addressed(page, "weight_bits=7")
    opaque(page, "0.7")
    page.get_by_role("link", name="Method").click()
    expect(page.get_by_role("heading", name="Method", exact=True)).to_be_visible(timeout=WAIT)
    page.wait_for_timeout(600)
    assert "opacity" not in page.url
    page.get_by_role("link", name="Compare").click()
    finished(page)
    opaque(page, "0.7")


@pytest.mark.slow
def test_a_link_opens_with_its_opacity(page, address):
    page.goto(f"{address}/compare?{LINK}&opacity=20")
    finished(page)
    opaque(page, "0.2")
    page.goto(f"{address}/compare?{LINK}&opacity=120")
    finished(page)
    expect(page.get_by_text("The link's opacity '120' is not available; '55' is shown instead.")).to_be_visible()
    opaque(page, "0.55")


@pytest.mark.skipif(sys.platform != "linux", reason="a process's libraries are read from /proc")
def test_a_server_that_shows_what_is_known_loads_no_torch(page, address, home):
    page.goto(f"{address}/compare")
    finished(page)
    settled(page)
    assert uses_torch(address)
    (home / "again").mkdir()
    (home / "again" / "cache").symlink_to(home / "cache")
    with served(home / "again") as again:
        page.goto(f"{again}/compare")
        finished(page)
        settled(page)
        expect(page.get_by_text("efficientnet_lite0 looks")).to_be_visible()
        expect(page.get_by_role("tab", name="against the float model's map")).to_be_visible()
        expect(button(page, "^Result")).to_be_visible()
        assert not uses_torch(again)
        for name, heading in (("Layers", "Which layer"), ("Metrics", "Metrics"), ("Method", "Method")):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_role("heading", name=heading).first).to_be_visible(timeout=WAIT)
            settled(page)
            assert page.get_by_role("alert").count() == 0
            assert not uses_torch(again)
        page.goto("about:blank")  # a page that is open would miss its server
