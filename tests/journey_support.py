"""What the browser journeys share: a visitor with a theme and a window, the controls, and what always holds."""

import re

import numpy as np
import pytest
from browser_support import WAIT, faults, finished, settled, watched_page
from PIL import Image
from playwright.sync_api import expect

from quantviz import images

SQUEEZE = "model=squeezenet1_1&weights=untrained&saliency=none"
"""Compare with a network that is drawn in a moment, everywhere."""

SEEN = [("light", 1280), ("dark", 1280), ("light", 768), ("dark", 768)]
VIEWER = (
    "[...document.querySelectorAll('*')].find((one) => one.shadowRoot?.querySelector('.viewer'))"
    ".shadowRoot.querySelector('.viewer').quantviz"
)


@pytest.fixture(params=SEEN, ids=lambda seen: "-".join(map(str, seen)))
def visitor(request, browser):
    """Return a fresh page in a theme and a width; a console error fails, and so does what holds nowhere."""
    theme, width = request.param
    with watched_page(browser, viewport={"width": width, "height": 800}, color_scheme=theme) as page:
        yield page


@pytest.fixture
def toucher(browser):
    """Return a page of a narrow screen that is touched."""
    with watched_page(browser, viewport={"width": 768, "height": 1024}, has_touch=True) as page:
        yield page


def viewer(page, expression):
    """Return what an expression of the page's viewer, ``viewer``, gives."""
    return page.evaluate(f"() => {{ const viewer = {VIEWER}; return {expression}; }}")


def opened(page, address, path=""):
    """Open a page and wait until it has run."""
    page.goto(f"{address}/{path}")
    settled(page)
    return page


def compare(page, address, query=SQUEEZE):
    """Open Compare and wait for its maps."""
    page.goto(f"{address}/compare?{query}")
    finished(page)
    return page


def controls(page):
    """Open the sidebar where the window is too narrow for it to stand there."""
    shut = page.get_by_test_id("stExpandSidebarButton")
    if shut.is_visible():
        shut.click()
    expect(page.get_by_test_id("stSidebarUserContent")).to_be_visible(timeout=WAIT)


def away(page):
    """Close a sidebar that lies over the page."""
    shut, sidebar = page.get_by_test_id("stExpandSidebarButton"), page.get_by_test_id("stSidebar")
    if page.viewport_size["width"] <= 768 and sidebar.is_visible() and not shut.is_visible():
        sidebar.hover()
        page.get_by_test_id("stSidebarCollapseButton").locator("button").click()
        expect(shut).to_be_visible(timeout=WAIT)


def visit(page, name, exact=True):
    """Go to a page of the menu."""
    controls(page)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=exact).click()
    settled(page)


def well(page):
    """Hold a page to what is true of every one: axe-core is content, nothing is cut off, and maps can be read."""
    settled(page)
    away(page)
    found = faults(page)
    assert not found, found  # told here, as pytest explains the asserts of test files alone
    beyond = page.evaluate(
        """() => {
            const main = document.querySelector("[data-testid=stMain]");
            return [main.scrollWidth - main.clientWidth, document.documentElement.scrollWidth - window.innerWidth];
        }"""
    )
    assert max(beyond) <= 1, f"{beyond} pixels lie beyond the page's edge"
    if page.locator(".viewer canvas[role=img]").count():
        page.wait_for_function(f"() => {VIEWER}.places?.length")
        narrowest = viewer(page, "Math.min(...viewer.places.map(({ width }) => width))")
        assert narrowest >= 300, f"a map is {narrowest} pixels wide"


def photographs(folder, count):
    """Write so many different small photographs, parts of the bundled ones, and return their paths."""
    paths = []
    for place in range(count):
        rgb = images.bundled(images.BUNDLED[place % len(images.BUNDLED)]).rgb
        top, left = 8 * (place // len(images.BUNDLED)), 6 * place
        paths.append(folder / f"photograph {place:02d}.jpg")
        Image.fromarray(np.ascontiguousarray(rgb[top : top + 240, left : left + 280])).save(paths[-1], quality=95)
    return paths


def give(page, uploader, *paths):
    """Give files to an upload as a visitor does: once more where the page was drawn anew while they were chosen.

    Args:
        page: the page.
        uploader: the key of its widget.
        paths: of the files; a button removes the first one when they are there, which may be folded away.
    """
    there = page.locator(f".st-key-{uploader} button[aria-label='Remove {paths[0].name}']")
    for _ in range(5):
        settled(page)
        page.locator(f".st-key-{uploader} input[type=file]").set_input_files(paths)
        try:
            expect(there).to_have_count(1, timeout=20_000)
        except AssertionError:
            continue
        return
    pytest.fail(f"{paths[0].name} was not taken")


def verdict(page, words):
    """Wait until the viewer's verdict has these words."""
    expect(page.locator(".viewer .attention strong")).to_contain_text(re.compile(words), timeout=WAIT)


def weight_bits(page, steps):
    """Move the slider of the weight bits by so many steps."""
    controls(page)
    slider = page.get_by_role("slider", name=re.compile("Weight bits"))
    slider.focus()
    for _ in range(abs(steps)):
        slider.press("ArrowLeft" if steps < 0 else "ArrowRight")
