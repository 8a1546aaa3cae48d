"""A server for strangers in a real browser: what one visitor can reach, and what of it another sees."""

import json
import re

import numpy as np
import pytest
from browser_support import WAIT, downloaded, finished, served, settled, watched_page
from PIL import Image
from playwright.sync_api import expect

COMPARE = "compare?model=squeezenet1_1&weights=untrained&saliency=none&cam=gradcam"


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """The address of a public server whose sessions may have 1 MiB uploaded, and that offers one folder of pictures."""
    home = tmp_path_factory.mktemp("public")
    (home / "holiday").mkdir()
    with served(home, "--public", "--session-limit", "1", "--dataset", str(home / "holiday")) as address:
        yield address


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secret")
    Image.new("RGB", (64, 64), "red").save(folder / "private.png")
    return folder


def saved(path, height, width):
    values = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.mark.slow
def test_no_word_of_a_visitor_is_a_path(page, public, secret):
    page.goto(public)
    expect(page.get_by_text("This is a public server").first).to_be_visible(timeout=WAIT)
    for place in (f"study?study_path={secret}", f"layers?folder={secret}", f"compare?image={secret}/private.png"):
        page.goto(f"{public}/{place}")
        settled(page)
        assert "private.png" not in page.locator("[data-testid=stMain]").inner_text().replace(
            f"{secret}/private.png", ""
        )
        assert page.get_by_label(re.compile("study.s folder", re.IGNORECASE)).count() == 0
        assert page.get_by_role("button", name="Start the sweep").count() == 0


@pytest.mark.slow
def test_what_one_visitor_uploads_no_other_sees_and_a_quota_holds(page, browser, public, tmp_path):
    page.goto(f"{public}/{COMPARE}")
    finished(page)
    page.locator("input[type=file]").first.set_input_files(saved(tmp_path / "mine.png", 100, 140))
    expect(page.get_by_text("a link cannot carry a file")).to_be_visible(timeout=WAIT)
    finished(page)
    expect(page.get_by_text("mine.png").first).to_be_visible(timeout=WAIT)
    own = page.url
    with watched_page(browser) as other:
        other.goto(own)
        finished(other)
        assert other.get_by_text("mine.png").count() == 0
        shown = json.loads(downloaded(other, "^Result", tmp_path).read_text())
        assert shown["image"]["name"] != "mine.png"


@pytest.mark.slow
def test_more_than_the_quota_is_refused(browser, public, tmp_path):
    context = browser.new_context()  # not watched: the browser writes a refused upload to its console
    visitor = context.new_page()
    visitor.goto(f"{public}/{COMPARE}")
    expect(visitor.locator(".viewer .attention strong")).to_be_visible(timeout=WAIT)
    large = saved(tmp_path / "large.png", 800, 800)
    assert large.stat().st_size > 1 << 20
    with visitor.expect_response(re.compile("upload_file"), timeout=WAIT) as answer:
        visitor.locator("input[type=file]").first.set_input_files(large)
    assert answer.value.status == 413
    assert "frame-ancestors" in answer.value.headers["content-security-policy"]
    expect(visitor.locator(".viewer .attention strong")).to_be_visible(timeout=WAIT)
    context.close()
