"""The first page in Chromium: its finding, the viewer of maps, and what stands at the address."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser_support import WAIT, addressed, finished, settled
from playwright.sync_api import expect

import quantviz.ui
from quantviz.cam import explain
from quantviz.specs import CamSpec
from quantviz.ui.viewer import script

HOME = json.loads((Path(quantviz.ui.__file__).parent / "home.json").read_text())


@pytest.fixture
def home_page(page, address):
    page.goto(address)
    settled(page)
    expect(page.get_by_role("heading", name="At 8 bits, a network keeps looking at the same things.")).to_be_visible()
    return page


def shown(page, expression):
    """Return what an expression of the viewer, ``viewer``, gives."""
    return page.evaluate(
        f"""() => {{
            const hosts = [...document.querySelectorAll("*")].filter((one) => one.shadowRoot?.querySelector(".viewer"));
            const viewer = hosts[0].shadowRoot.querySelector(".viewer").quantviz;
            return {expression};
        }}"""
    )


def test_home_shows_where_attention_goes_as_bits_fall(home_page):
    verdict = home_page.locator(".verdict")
    expect(verdict).to_contain_text("W8A8: it looks at the same places")
    home_page.get_by_role("radio", name=re.compile("W2A2")).check(force=True)
    expect(verdict).to_contain_text("W2A2: it looks elsewhere")
    expect(verdict).to_contain_text("Label flip: Afghan hound (37 %) in place of daisy")
    home_page.keyboard.press("ArrowLeft")
    expect(verdict).to_contain_text("W3A3")
    home_page.get_by_role("button", name="Play").click()
    expect(verdict).to_contain_text("W2A2")
    home_page.get_by_role("button", name="Pause").click()
    table = home_page.locator(".viewer table tbody tr")
    assert [row.split("\t")[0] for row in table.all_inner_texts()] == [one["name"] for one in HOME["hero"]["frames"]]
    for card in ("CC 0.997", "9 of 12"):
        expect(home_page.get_by_text(card, exact=True)).to_be_visible()
    expect(home_page.get_by_role("img", name=re.compile("break the triangle inequality"))).to_be_visible()
    home_page.get_by_role("link", name="Try your photograph").click()
    finished(home_page)


def test_the_viewer_reads_values_zooms_and_shows_each_mode(home_page):
    stage, readout = home_page.get_by_role("group", name=re.compile("^Maps")), home_page.locator(".readout")
    stage.focus()
    stage.press("ArrowRight")
    x, y = shown(home_page, "viewer.cross")
    assert (x, y) == (120, 112)
    first, second = shown(home_page, f"[-1, viewer.at].map((at) => viewer.map(at).values[{y * 224 + x}])")
    expect(readout).to_have_text(
        f"x {x}, y {y}  ·  float {first:.2f}  ·  W8A8 {second:.2f}  ·  difference "
        f"{'−' if second < first else '+'}{abs(second - first):.2f}"
    )
    stage.press("+")
    assert shown(home_page, "viewer.window.scale") == 1.5
    stage.press("0")
    assert shown(home_page, "viewer.window") == {"x": 0, "y": 0, "scale": 1}
    drawn = set()
    for mode in ("Side by side", "Swipe", "Difference"):
        home_page.get_by_role("radio", name=mode).check(force=True)
        home_page.wait_for_function(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => true)"
        )
        drawn.add(shown(home_page, "viewer.canvas.toDataURL()"))
    home_page.get_by_role("checkbox", name="Top fifth").check()
    home_page.wait_for_function(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => true)"
    )
    drawn.add(shown(home_page, "viewer.canvas.toDataURL()"))
    assert len(drawn) == 4
    divider = home_page.get_by_role("slider", name="Divider")
    expect(divider).to_be_hidden()
    home_page.get_by_role("radio", name="Swipe").check(force=True)
    divider.focus()
    divider.press("ArrowRight")
    assert shown(home_page, "viewer.split") == 0.51


def test_a_link_from_before_home_still_opens_its_comparison(page, address):
    page.goto(f"{address}/?model=squeezenet1_1&weights=untrained&saliency=none&weight_bits=5")
    finished(page)
    expect(page.get_by_text("At W5A8, squeezenet1_1 looks")).to_be_visible(timeout=WAIT)
    expect(page).to_have_url(re.compile("/compare\\?.*weights=untrained"))


def test_the_browser_resizes_a_map_as_python_does(browser, float_model, photograph):
    found = explain(float_model("efficientnet_lite0"), photograph("efficientnet_lite0"), CamSpec("gradcam++", "bn2"))
    opened = browser.new_page()
    opened.evaluate(
        script().replace("export default function", "globalThis.start = function") + ";globalThis.resized = resized; 0"
    )
    native = found.native.values.astype(float).tolist()
    values = opened.evaluate("(native) => [...resized(native, 224, 224).values]", native)
    opened.close()
    assert np.abs(np.reshape(values, (224, 224)) - found.heatmap.values).max() < 1 / 255


def test_contours_lie_where_the_map_has_their_value(browser):
    opened = browser.new_page()
    rows, columns = np.mgrid[0:64, 0:64]
    hill = np.exp(-((rows - 30) ** 2 + (columns - 34) ** 2) / 200)
    opened.evaluate(
        script().replace("export default function", "globalThis.start = function")
        + ";globalThis.contours = contours; 0"
    )
    lines = opened.evaluate(
        "(values) => contours({ values: Float32Array.from(values), width: 64, height: 64 }, 0.5)", hill.ravel().tolist()
    )
    opened.close()
    assert len(lines) == 1
    x, y = np.array(lines[0]).T - 0.5
    assert np.allclose(np.hypot(x - 34, y - 30), np.sqrt(200 * np.log(2)), atol=0.2)
    assert lines[0][0] == pytest.approx(lines[0][-1])


def test_home_imports_neither_torch_nor_what_computes(imported):
    code = "import quantviz.ui.home as home\nhome._view()"
    assert imported(code, "torch", "scipy", "quantviz.comparison", "quantviz.scores") == []


@pytest.mark.slow
def test_a_picture_of_ones_own_choice_is_played_through_every_bit_width(page, address):
    link = f"{address}/compare?model=squeezenet1_1&weights=untrained&saliency=none&image=coffee&weight_bits=5"
    page.goto(link)
    finished(page)
    expect(page.locator(".verdict")).to_contain_text("At W5A8, squeezenet1_1", timeout=WAIT)
    expect(page.locator(".strip .pending")).to_have_count(0)
    label = page.locator(".strip label").filter(has=page.get_by_role("radio", name=re.compile("^W8A8")))
    expect(label).to_contain_text("CC")
    assert len(shown(page, "viewer.data.frames")) == 9
    # The page follows a frame that is chosen: its bits, and the address.
    page.get_by_role("radio", name=re.compile("^W4A4")).check(force=True)
    addressed(page, "weight_bits=4&act_bits=4")
    expect(page.locator(".verdict")).to_contain_text("At W4A4, squeezenet1_1")
    page.go_back()
    expect(page.locator(".verdict")).to_contain_text("At W5A8, squeezenet1_1", timeout=WAIT)
