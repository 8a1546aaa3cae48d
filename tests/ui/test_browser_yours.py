"""The page "Your network" in a real browser: what strangers upload."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from browser_support import WAIT, downloaded, finished, settled
from onnx_support import CLASSES, quantized, saved, small
from playwright.sync_api import expect
from strange_support import endless

NAMES = "\n".join(["![one](evil.png)", *(f"kind {number}" for number in range(1, CLASSES))])
EVIL = "![x](evil.png).onnx"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("pair"), small())
    return path, quantized(path, "int8.onnx")


def upload(page, key, name, data):
    """Give a file to one of the page's uploads, which fold away once both networks are there."""
    settled(page)
    given = page.locator(f".st-key-{key} input[type=file]")
    given.set_input_files({"name": name, "mimeType": "", "buffer": data})
    expect(page.locator(f".st-key-{key} button[aria-label='Remove {name}']")).to_have_count(1, timeout=WAIT)
    settled(page)


def test_two_files_are_compared_and_their_names_are_only_names(page, address, pair, tmp_path):
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(f"{address}/yours?cam=gradcam&saliency=none")
    expect(page.get_by_text("up to 200 MiB each")).to_be_visible(timeout=WAIT)
    upload(page, "classes_file", "names.txt", NAMES.encode())
    upload(page, "float_file", EVIL, pair[0].read_bytes())
    upload(page, "quantized_file", "int8.onnx", pair[1].read_bytes())
    finished(page)
    expect(page.get_by_text("looks", exact=False).first).to_be_visible()
    expect(page.get_by_text("all of the same shape")).to_be_visible()
    page.get_by_text("How this was made").click()
    expect(page.get_by_text("as ImageNet networks usually take it")).to_be_visible()
    assert page.locator("[data-testid=stMain] img[src*=evil]").count() == 0
    assert not [url for url in fetched if "evil" in url]
    result = json.loads(downloaded(page, "^Result", tmp_path).read_text())
    assert result["quantization"]["format"] == "QDQ"
    assert {entry["label"] for entry in result["predictions"]["float"]} <= set(NAMES.splitlines())
    with np.load(downloaded(page, "^Maps", tmp_path), allow_pickle=False) as arrays:
        assert arrays["float"].shape == (48, 48)


def test_a_file_that_is_none_costs_a_sentence(page, address, pair):
    page.goto(f"{address}/yours?saliency=none")
    upload(page, "float_file", EVIL, pair[0].read_bytes()[:-500])
    upload(page, "quantized_file", "int8.onnx", pair[1].read_bytes())
    message = page.get_by_role("alert").filter(has_text="is no ONNX file")
    expect(message).to_be_visible(timeout=WAIT)
    expect(message).to_contain_text("_x_(evil.png).onnx")
    assert page.locator("[data-testid=stMain] img[src*=evil]").count() == 0


def test_a_network_that_never_ends_costs_others_nothing_and_ends_with_its_visit(page, address, home, browser, pair):
    page.goto(f"{address}/yours?saliency=none")
    upload(page, "float_file", "endless.onnx", endless())
    page.locator(".st-key-quantized_file input[type=file]").set_input_files(pair[1])
    expect(page.get_by_text("Reading the ONNX files")).to_be_visible(timeout=WAIT)
    wait_for_sandboxes(home, 1)
    context = browser.new_context()
    other = context.new_page()
    other.goto(f"{address}/method")
    expect(other.get_by_role("heading", name="Method", exact=True)).to_be_visible(timeout=WAIT)
    context.close()
    assert len(sandboxes(home)) == 1
    page.goto("about:blank")
    wait_for_sandboxes(home, 0)


def wait_for_sandboxes(home, count):
    for _ in range(600):
        if len(sandboxes(home)) == count:
            break
        time.sleep(0.1)
    assert len(sandboxes(home)) == count


def sandboxes(home):
    """Return the processes with visitors' files whose parent is the server with this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"quantviz.comparison.sandboxed" in (path / "cmdline").read_bytes():
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                if str(home).encode() in Path("/proc", parent, "environ").read_bytes():
                    found.append(path.name)
        except OSError:  # it has just ended
            continue
    return found
