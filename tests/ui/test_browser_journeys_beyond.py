"""Journeys beyond Compare, in both themes and two widths; one by the keyboard alone, and one by touch."""

import json
import re

import journey_support
import pytest
from browser_support import WAIT, addressed, button, downloaded, finished, settled
from journey_support import SQUEEZE, VIEWER, compare, give, opened, photographs, verdict, viewer, visit, well
from onnx_support import quantized, saved, small
from playwright.sync_api import expect

visitor, toucher = journey_support.visitor, journey_support.toucher
STUDY = "study?study=imagenet-200"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("pair"), small())
    return path, quantized(path, "int8.onnx")


@pytest.mark.slow
def test_15_an_engineer_drops_twenty_photographs_and_reads_which_precision_is_safe(visitor, address, tmp_path):
    opened(visitor, address, "photographs?model=squeezenet1_1&weights=untrained&precisions=8&precisions=4")
    well(visitor)
    give(visitor, "photographs", *photographs(tmp_path, 20))
    button(visitor, "^Test 20 photographs at 2 precisions$").click(timeout=WAIT)
    answer = visitor.get_by_text(re.compile("within your limits on these")).first  # for a moment the old one is left
    expect(answer).to_contain_text("W8A8 is the smallest", timeout=WAIT)
    slider = visitor.get_by_role("slider", name=re.compile("^Drift allowed"))
    slider.focus()
    slider.press("Home")
    addressed(visitor, "most_multiple=1")
    flips = visitor.get_by_role("slider", name=re.compile("^Labels that may flip"))
    flips.focus()
    flips.press("Home")
    expect(answer).to_contain_text("None of W8A8, W4A4 is", timeout=WAIT)
    addressed(visitor, "most_flips=0")
    well(visitor)
    visitor.get_by_role("link", name="Open in Compare").first.click()
    finished(visitor)
    expect(visitor.locator(".viewer canvas[role=img]")).to_have_attribute("aria-label", re.compile("on photograph"))
    visit(visitor, "Your photographs")
    expect(answer).to_be_visible(timeout=WAIT)  # the photographs and their answer are kept for the session


@pytest.mark.slow
def test_16_a_folder_with_what_cannot_be_used_says_so_and_goes_on(visitor, address, tmp_path):
    opened(visitor, address, "photographs?model=squeezenet1_1&weights=untrained&precisions=8")
    paths = photographs(tmp_path, 2)
    (tmp_path / "again.jpg").write_bytes(paths[0].read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    files = [*paths, tmp_path / "again.jpg", tmp_path / "broken.png"]
    give(visitor, "photographs", *files)
    expect(visitor.get_by_text("is the same picture as")).to_be_visible(timeout=WAIT)
    expect(button(visitor, "^Test 2 photographs at 1 precision")).to_be_visible(timeout=WAIT)
    well(visitor)


@pytest.mark.slow
def test_17_two_files_of_ones_own_are_compared_and_taken_along(visitor, address, pair, tmp_path):
    opened(visitor, address, "yours?saliency=none")
    expect(visitor.get_by_text("Upload a float and a quantized ONNX file")).to_be_visible()
    well(visitor)
    give(visitor, "float_file", pair[0])
    expect(visitor.get_by_text("The quantized ONNX file is still to come")).to_be_visible(timeout=WAIT)
    well(visitor)
    give(visitor, "quantized_file", pair[1])
    finished(visitor)
    expect(visitor.get_by_text("all of the same shape")).to_be_visible(timeout=WAIT)
    well(visitor)
    assert json.loads(downloaded(visitor, "^Result", tmp_path).read_text())["quantization"]["format"] == "QDQ"
    # Another page and back: the files are still there.
    visit(visitor, "Method")
    visit(visitor, "Your network")
    finished(visitor)
    well(visitor)


@pytest.mark.slow
def test_18_a_network_is_diagnosed_down_to_one_tensor(visitor, address):
    opened(visitor, address, "diagnose?model=squeezenet1_1&weights=untrained&images=coffee&tensor=features.0.weight")
    settled(visitor)
    well(visitor)
    if button(visitor, "^Diagnose$").count():
        button(visitor, "^Diagnose$").click(timeout=WAIT)
    expect(visitor.locator(".st-key-example")).to_have_count(0, timeout=WAIT)  # what is shown now was measured here
    expect(visitor.get_by_text("dB of its own rounding").first).to_be_visible(timeout=WAIT)
    expect(visitor.get_by_text("With only this tensor quantized")).to_be_visible(timeout=WAIT)
    well(visitor)


@pytest.mark.slow
def test_19_a_study_answers_and_its_parts_are_in_the_address(visitor, address):
    opened(visitor, address, STUDY)
    expect(visitor.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)
    well(visitor)
    visitor.get_by_role("tab", name="Accuracy against drift").click(timeout=WAIT)
    addressed(visitor, "part=Accuracy")
    well(visitor)
    spread = visitor.get_by_role("tab", name="Distributions")
    spread.click()
    expect(spread).to_have_attribute("aria-selected", "true", timeout=WAIT)
    expect(visitor).not_to_have_url(re.compile("part="))  # it is the one that a study opens on
    well(visitor)


@pytest.mark.slow
def test_20_a_point_of_a_chart_leads_to_pictures_and_to_compare(visitor, address):
    opened(visitor, address, "study?study=photographs")
    points = visitor.locator(".js-plotly-plot").first.locator(".scatterlayer .point")
    points.last.hover(force=True, timeout=WAIT)
    expect(visitor.locator(".js-plotly-plot .hovertext").first).to_be_visible(timeout=WAIT)  # the chart listens now
    points.last.click(force=True, timeout=WAIT)
    addressed(visitor, "behind=")
    expect(visitor.get_by_text(re.compile("the largest drift first"))).to_be_visible(timeout=WAIT)
    settled(visitor)
    well(visitor)
    link = visitor.get_by_role("link", name="Compare").last
    with visitor.context.expect_page() as new:
        link.click()
    settled(new.value)
    expect(new.value.get_by_text("Picture ", exact=False).first).to_be_visible(timeout=WAIT)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["Table 1", "Triangle check", "The gap, switch by switch", "What the paper did"])
def test_21_a_reviewer_reads_each_part_of_the_paper(visitor, address, part):
    opened(visitor, address, "paper")
    visitor.get_by_role("tab", name=part).click(timeout=WAIT)
    settled(visitor)
    expect(visitor.get_by_role("tabpanel").filter(visible=True).first).to_be_visible()
    well(visitor)


@pytest.mark.slow
def test_22_a_reviewer_goes_from_the_finding_to_how_it_is_computed(visitor, address):
    opened(visitor, address)
    visitor.get_by_role("link", name="The gap, switch by switch").click()
    expect(visitor.get_by_role("tab", name="The gap, switch by switch")).to_have_attribute(
        "aria-selected", "true", timeout=WAIT
    )
    visit(visitor, "Method")
    expect(visitor.get_by_role("heading", name="The verdict")).to_be_visible(timeout=WAIT)
    well(visitor)
    visit(visitor, "Metrics")
    expect(visitor.get_by_role("heading", name="Faithfulness")).to_be_visible(timeout=WAIT)
    well(visitor)


@pytest.mark.slow
def test_23_a_presenter_steps_through_by_arrow_keys(visitor, address):
    opened(visitor, address, "present")
    title = visitor.get_by_role("heading", level=1)
    expect(title).to_be_visible(timeout=WAIT)
    well(visitor)
    seen = [title.inner_text()]
    count = int(visitor.get_by_text(re.compile(r"^1 / \d+$")).inner_text().rpartition("/")[2])
    for at in range(2, count + 1):
        visitor.keyboard.press("ArrowRight")
        expect(visitor.get_by_text(f"{at} / {count}", exact=True)).to_be_visible(timeout=WAIT)
        settled(visitor)
        expect(visitor.get_by_role("alert")).to_have_count(0)
        seen.append(title.inner_text())
    assert len(set(seen)) == count
    well(visitor)
    visitor.keyboard.press("ArrowLeft")
    expect(visitor.get_by_text(f"{count - 1} / {count}", exact=True)).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_24_a_first_visit_to_each_page_has_a_next_step(visitor, address):
    for path, step in (
        ("yours", "Upload a float and a quantized ONNX file"),
        ("photographs", "Drop about twenty photographs"),
        ("layers", "Quantizes one layer at a time"),
    ):
        opened(visitor, address, path)
        expect(visitor.get_by_text(step).first).to_be_visible(timeout=WAIT)
        expect(visitor.get_by_role("alert").filter(has_text="unexpected")).to_have_count(0)
    opened(visitor, address, "study?study_path=/no/such/study")
    expect(visitor.get_by_role("alert").filter(has_text="/no/such/study")).to_be_visible(timeout=WAIT)
    well(visitor)


FOCUSED = """() => {
    let at = document.activeElement;
    while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
    const words = [at.getAttribute("aria-label"), at.labels?.[0]?.innerText, at.innerText, at.getAttribute("name")];
    const style = getComputedStyle(at), host = at.closest?.("label, [data-baseweb], [role]") ?? at;
    const around = [...new Set([at, host, host.parentElement])].filter(Boolean).map((one) => getComputedStyle(one));
    return {
        words: words.filter(Boolean).join(" "),
        seen: around.some(({ outlineStyle, outlineWidth, boxShadow }) =>
            (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || boxShadow !== "none"),
        tag: at.tagName,
    };
}"""


def tabbed(page, words, most=80, key="Tab"):
    """Press Tab until what has the focus is called so; whatever is passed must be seen to have it."""
    passed = []
    for _ in range(most):
        page.keyboard.press(key)
        focused = page.evaluate(FOCUSED)
        if focused["tag"] != "BODY":
            assert focused["seen"], f"the focus on {focused['words'][:80]!r} is not seen"
        passed.append(focused["words"][:40])
        if re.search(words, focused["words"]):
            return
    pytest.fail(f"{words} was not reached: {passed}")


@pytest.mark.slow
def test_25_a_whole_journey_by_the_keyboard_alone(visitor, address, tmp_path):
    opened(visitor, address)
    expect(visitor.get_by_role("link", name="Your own network")).to_be_visible(timeout=WAIT)
    settled(visitor)  # what is drawn anew forgets where a key moved to
    tabbed(visitor, "^Maps")
    visitor.keyboard.press("ArrowRight")
    expect(visitor.locator(".readout")).to_contain_text("difference")
    tabbed(visitor, "^W8A8, ")
    for _ in range(4):
        visitor.keyboard.press("ArrowRight")
    verdict(visitor, "^. W4A4")
    tabbed(visitor, "Try your photograph")
    visitor.keyboard.press("Enter")
    finished(visitor)
    stage = "^Maps"
    tabbed(visitor, stage)
    tabbed(visitor, "^W8A8, ")
    for _ in range(2):
        visitor.keyboard.press("ArrowRight")
    addressed(visitor, "weight_bits=6")
    finished(visitor)
    verdict(visitor, "At W6A6")
    tabbed(visitor, "Opacity")
    visitor.keyboard.press("ArrowRight")
    tabbed(visitor, "Result")
    with visitor.expect_download(timeout=WAIT) as started:
        visitor.keyboard.press("Enter")
    assert started.value.suggested_filename.endswith(".json")
    tabbed(visitor, "Predictions and scores")
    visitor.keyboard.press("Enter")
    expect(visitor.get_by_role("heading", name="Alignment scores")).to_be_visible(timeout=WAIT)


def touched(session, kind, *points):
    """Send a touch as fingers make it: ``touchStart``, ``touchMove`` or ``touchEnd``."""
    named = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": named})


@pytest.mark.slow
def test_26_a_whole_journey_by_touch(toucher, address):
    page = opened(toucher, address)
    fingers = page.context.new_cdp_session(page)
    page.get_by_role("button", name=re.compile("^Play through")).tap()
    verdict(page, "W7A7|W6A6|W5A5|W4A4|W3A3|W2A2")
    page.get_by_role("button", name="Pause").tap()
    page.locator(".strip label").nth(1).tap()
    verdict(page, "W8A8")
    box = page.locator(".viewer canvas[role=img]").bounding_box()
    places = viewer(page, "viewer.places.map(({ x, y, width, height }) => ({ x, y, width, height }))")
    x, y = box["x"] + places[-1]["x"], box["y"] + places[-1]["y"]
    width, height = places[-1]["width"], places[-1]["height"]
    # One finger moves the divider.
    touched(fingers, "touchStart", (x + 0.5 * width, y + 0.5 * height))
    for part in (0.4, 0.3, 0.2):
        touched(fingers, "touchMove", (x + part * width, y + 0.5 * height))
    touched(fingers, "touchEnd")
    assert viewer(page, "viewer.split") == pytest.approx(0.2, abs=0.02)
    # Two fingers zoom, and one then moves what is shown.
    touched(fingers, "touchStart", (x + 0.4 * width, y + 0.5 * height), (x + 0.6 * width, y + 0.5 * height))
    for part in (0.25, 0.3):
        touched(
            fingers,
            "touchMove",
            (x + (0.5 - part) * width, y + 0.5 * height),
            (x + (0.5 + part) * width, y + 0.5 * height),
        )
    touched(fingers, "touchEnd")
    assert viewer(page, "viewer.window.scale") == pytest.approx(3, rel=0.1)
    before = viewer(page, "viewer.window.x")
    touched(fingers, "touchStart", (x + 0.5 * width, y + 0.5 * height))
    for _ in range(3):  # the finger rests at the end: a fling would swallow the tap that follows
        touched(fingers, "touchMove", (x + 0.3 * width, y + 0.5 * height))
        page.wait_for_timeout(200)
    touched(fingers, "touchEnd")
    assert viewer(page, "viewer.window.x") > before
    page.get_by_role("button", name="Show everything").tap()
    page.wait_for_function(f"() => {VIEWER}.window.scale === 1")  # a tap becomes a click a moment later
    page.get_by_role("link", name="Try your photograph").tap()
    finished(page)
    page.locator(".viewer").get_by_role("button", name="Fit", exact=True).tap()
    addressed(page, "crop=fit")
    well(page)


@pytest.mark.slow
def test_27_the_maps_stay_when_the_server_is_gone(visitor, address):
    compare(visitor, address, f"{SQUEEZE}&image=coffee")
    expect(visitor.locator(".strip .pending")).to_have_count(0, timeout=WAIT)
    visitor.context.set_offline(True)
    visitor.get_by_role("radio", name="Swipe").check(force=True)
    visitor.get_by_role("slider", name=re.compile("Opacity")).press("ArrowRight")
    assert viewer(visitor, "viewer.mode") == "swipe"
    visitor.context.set_offline(False)
    finished(visitor)
