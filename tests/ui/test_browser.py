"""The dashboard in a real browser: Chromium, driven by Playwright, against the real server."""

import json
import re
import time

import numpy as np
import pytest
from browser_support import WAIT, addressed, downloaded, finished, pick, unfold
from PIL import Image
from playwright.sync_api import expect


def test_a_link_to_a_page_opens_it_within_the_app_even_on_a_new_server(page, address):
    page.goto(f"{address}/method")  # keep this test first: a new server does not know its pages yet
    expect(page.get_by_role("heading", name="Method", exact=True)).to_be_visible(timeout=WAIT)
    page.get_by_role("link", name="Compare").click()
    finished(page)


def test_first_visit_shows_a_finished_comparison(page, address):
    page.goto(f"{address}/compare")
    finished(page)
    expect(page.get_by_text("efficientnet_lite0 looks")).to_be_visible()
    expect(page.get_by_text("tiger cat").first).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_choices_go_to_the_address_and_come_back(page, address, browser):
    page.goto(f"{address}/compare")
    finished(page)
    page.get_by_role("radio", name="coffee").click()
    finished(page)
    pick(page, "^Model", "squeezenet1_1")
    expect(page.get_by_text("squeezenet1_1-b8a52dc0.pth").first).to_be_visible(timeout=WAIT)
    unfold(page, "Advanced")
    pick(page, "^Weights", "untrained")
    finished(page)
    expect(page.get_by_text("UNTRAINED").first).to_be_visible()
    slider = page.get_by_role("slider", name=re.compile("Weight bits"))
    slider.focus()
    for _ in range(3):
        slider.press("ArrowLeft")
    expect(page.get_by_text("At W5A8, squeezenet1_1 looks")).to_be_visible(timeout=WAIT)
    for part in ("image=coffee", "model=squeezenet1_1", "weights=untrained", "weight_bits=5"):
        addressed(page, part)

    context = browser.new_context()
    other = context.new_page()
    other.goto(page.url)
    finished(other)
    expect(other.get_by_text("At W5A8, squeezenet1_1 looks")).to_be_visible(timeout=WAIT)
    expect(other.get_by_text("UNTRAINED").first).to_be_visible()
    context.close()


def test_a_link_with_values_that_do_not_exist_says_so(page, address):
    page.goto(f"{address}/compare?model=alexnet&weight_bits=99&layer=nowhere")
    finished(page)
    for value in ("'alexnet'", "'99'", "'nowhere'"):
        expect(page.get_by_text(value).first).to_be_visible()
    expect(page.get_by_text("efficientnet_lite0 looks")).to_be_visible()


def test_unreachable_weights_say_what_to_do(page, address):
    page.goto(f"{address}/compare?model=vgg16")
    message = page.get_by_text("quantviz fetch-weights vgg16").first
    expect(message).to_be_visible(timeout=WAIT)
    pick(page, "^Model", "efficientnet_lite0")
    finished(page)


def test_upload_and_downloads(page, address, tmp_path):
    page.goto(f"{address}/compare")
    finished(page)
    picture = tmp_path / "own picture.png"
    rng = np.random.default_rng(1)
    Image.fromarray(np.repeat(np.repeat(rng.integers(0, 255, (10, 14, 3), np.uint8), 40, 0), 40, 1)).save(picture)
    page.locator("input[type=file]").first.set_input_files(picture)
    expect(page.get_by_text("a link cannot carry a file")).to_be_visible(timeout=WAIT)
    result, deadline = {"image": {"name": ""}}, time.monotonic() + WAIT / 1000
    while result["image"]["name"] != "own picture.png":  # what was there before stays until this is done
        assert time.monotonic() < deadline, result["image"]
        finished(page)
        result = json.loads(downloaded(page, "^Result", tmp_path).read_text())
    assert result["image"]["size"] == [560, 400]
    with np.load(downloaded(page, "^Maps", tmp_path), allow_pickle=False) as arrays:
        assert arrays["float"].shape == (224, 224)
    with Image.open(downloaded(page, "^Figure", tmp_path)) as figure:
        figure.load()
        assert figure.format == "PNG"


def test_a_bad_upload_is_one_sentence_and_loses_nothing(page, address, tmp_path):
    page.goto(f"{address}/compare?weight_bits=6")
    finished(page)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    page.locator("input[type=file]").first.set_input_files(broken)
    expect(page.get_by_text("broken.png").first).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("alert").first).to_be_visible(timeout=WAIT)
    addressed(page, "weight_bits=6")
    page.get_by_role("button", name=re.compile("Remove broken.png")).click()
    finished(page)
    expect(page.get_by_text("At W6A8, efficientnet_lite0")).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_ground_truth_that_cannot_be_used_costs_its_own_table_only(page, address, tmp_path):
    page.goto(f"{address}/compare?truth_kind=boxes")
    finished(page)
    broken, boxes = tmp_path / "broken.csv", tmp_path / "boxes.csv"
    broken.write_text("no boxes here")
    boxes.write_text("x0,y0,x1,y1\n100,60,300,250\n")
    unfold(page, "Every metric")
    upload = page.locator("input[type=file]").nth(2)
    upload.set_input_files(broken)
    expect(page.get_by_role("alert").filter(has_text="broken.csv")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("tab", name="against the float model's map")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("button", name=re.compile("^Result"))).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name=re.compile("Remove broken.csv")).click()
    expect(page.get_by_role("alert").filter(has_text="broken.csv")).to_have_count(0, timeout=WAIT)
    finished(page)
    page.locator("input[type=file]").nth(2).set_input_files(boxes)
    page.get_by_role("tab", name="against boxes.csv").click(timeout=WAIT)
    expect(page.get_by_text("Pointing game").first).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_where_nothing_carries_evidence_the_page_says_so(page, address):
    page.goto(f"{address}/compare?model=mobilenet_v2&weights=untrained&layer=features.10&saliency=none")
    finished(page)
    unfold(page, "Every metric")
    expect(page.get_by_text("No map here carries evidence")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("button", name=re.compile("^Result"))).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_method_page(page, address):
    page.goto(f"{address}/compare")
    finished(page)
    page.get_by_role("link", name="Method").click()
    expect(page.get_by_role("heading", name="Method", exact=True)).to_be_visible(timeout=WAIT)
