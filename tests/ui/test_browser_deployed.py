"""Deployed int8 on the Compare page in a real browser: exported apart, then beside the simulated network."""

import re
from pathlib import Path

import pytest
from browser_support import WAIT, addressed, finished, settled, unfold
from playwright.sync_api import expect

LINK = "model=squeezenet1_1&weights=untrained&saliency=none"


def exporters(home):
    """Return the numbers of the processes that export a network into the server's cache."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"prepare" in words and str(home / "cache").encode() in words:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.slow
def test_the_switch_exports_apart_and_then_shows_the_third_network(page, address, home):
    page.goto(f"{address}/compare?{LINK}")
    finished(page)
    assert page.get_by_text("deployed v simulated").count() == 0
    page.get_by_text("Deployed int8 (ONNX Runtime)", exact=True).click()
    message = page.get_by_text("being exported to ONNX")
    expect(message).to_be_visible(timeout=WAIT)
    # Meanwhile, the comparison by torch alone stays on the page.
    expect(page.get_by_text("At W8A8, squeezenet1_1 looks")).to_be_visible()
    expect(page.get_by_text("deployed v simulated")).to_have_count(0)

    expect(page.get_by_text("deployed v simulated").first).to_be_visible(timeout=WAIT)
    settled(page)
    expect(message).to_have_count(0)
    assert exporters(home) == []
    expect(page.get_by_role("checkbox", name="Further maps")).to_be_checked()  # where the third network's map is
    unfold(page, "Predictions and scores")
    table = page.get_by_role("table").filter(has_text="deployed v simulated")
    expect(table.get_by_role("cell").first).to_be_visible()
    marks = [float(cell) for cell in table.get_by_role("cell").all_inner_texts() if re.fullmatch(r"\d\.\d{4}", cell)]
    assert len(marks) == 6  # SIM, CC and KLD, against the simulated and the float network
    assert marks[2] > 0.99  # CC against the simulated one
    taken = page.get_by_text("A map on this machine").inner_text()
    milliseconds = [float(number) for number in re.findall(r"([\d.]+) ms", taken)]
    assert len(milliseconds) == 3
    assert min(milliseconds) > 0
    addressed(page, "deployed=true")


@pytest.mark.slow
def test_an_exported_network_needs_no_wait_in_another_session(page, address, home):
    # However soon a message is gone, it is noted: the page itself looks, at every change.
    page.add_init_script(
        """window.waited = false;
        new MutationObserver(() => { window.waited ||= document.body?.innerText.includes("being exported") ?? false; })
            .observe(document, { subtree: true, childList: true, characterData: true });"""
    )
    page.goto(f"{address}/compare?{LINK}&deployed=true")
    expect(page.get_by_text("deployed v simulated").first).to_be_visible(timeout=WAIT)
    assert exporters(home) == []
    assert page.evaluate("window.waited") is False
