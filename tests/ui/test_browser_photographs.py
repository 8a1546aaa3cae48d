"""Several photographs in Chromium: uploaded, judged, and opened one by one."""

from browser_support import WAIT, addressed, finished, settled
from playwright.sync_api import expect

from quantviz import images


def test_photographs_are_judged_and_opened(page, address, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page.goto(f"{address}/photographs?model=squeezenet1_1&weights=untrained&precisions=8&precisions=4")
    settled(page)
    expect(page.get_by_text("Drop about twenty photographs")).to_be_visible()
    names = ("coffee", "flower")
    files = [*(images.bundled_path(name) for name in names), images.bundled_path("coffee"), tmp_path / "broken.png"]
    page.locator("input[type=file]").first.set_input_files(files)
    expect(page.get_by_text("is the same picture as")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("broken.png").last).to_be_visible()
    page.get_by_role("button", name="Test 2 photographs at 2 precisions").click()
    expect(page.get_by_role("alert").filter(has_text="within your limits on these")).to_be_visible(timeout=WAIT)
    table = page.get_by_test_id("stTable")
    for label in ("W8A8", "W4A4"):
        expect(table.get_by_text(label, exact=True)).to_be_visible()
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.get_by_test_id("stImage")).to_have_count(4)
    # Each is a click from Compare, which keeps it as one's own picture.
    page.get_by_role("link", name="Open in Compare").first.click()
    finished(page)
    addressed(page, "model=squeezenet1_1")
    expect(page.get_by_text("uploaded before")).to_be_visible(timeout=WAIT)
    expect(page.locator(".viewer .attention strong")).to_contain_text("squeezenet1_1")
    page.get_by_role("link", name="Method").click()
    expect(page.get_by_role("heading", name="Method", exact=True)).to_be_visible(timeout=WAIT)
    page.get_by_role("link", name="Compare").click()
    finished(page)
    expect(page.get_by_text("uploaded before")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Back to the bundled photographs").click()
    expect(page.get_by_text("uploaded before")).to_have_count(0, timeout=WAIT)
