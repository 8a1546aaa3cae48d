"""Journeys through Home and Compare, each in both themes and two widths; the pages beyond are in the next file."""

import json
import re

import journey_support
import pytest
from browser_support import WAIT, addressed, button, downloaded, finished, pick, settled, unfold
from journey_support import (
    SQUEEZE,
    away,
    compare,
    controls,
    give,
    opened,
    photographs,
    verdict,
    viewer,
    visit,
    weight_bits,
    well,
)
from PIL import Image
from playwright.sync_api import expect

visitor = journey_support.visitor


@pytest.mark.slow
def test_01_a_newcomer_sees_attention_leave_the_object(visitor, address, tmp_path):
    opened(visitor, address)
    well(visitor)
    verdict(visitor, "W8A8: it looks at the same places")
    button(visitor, "^Play through").click()
    verdict(visitor, "W2A2: it looks elsewhere")
    expect(visitor.locator(".label")).to_contain_text("Label flip")
    button(visitor, "^Pause").click()
    visitor.get_by_role("link", name="Try your photograph").click()
    finished(visitor)
    controls(visitor)
    (path,) = photographs(tmp_path, 1)
    give(visitor, "upload", path)
    expect(visitor.get_by_text("a link cannot carry a file")).to_be_visible(timeout=WAIT)
    away(visitor)
    expect(visitor.locator(".explains")).to_contain_text("what the float network says")
    well(visitor)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "heading"),
    [("The study behind it", "What does quantization change"), ("The check", "What does the paper report")],
)
def test_02_a_finding_leads_to_its_evidence_and_back(visitor, address, link, heading):
    opened(visitor, address)
    visitor.get_by_role("link", name=link).click()
    expect(visitor.get_by_role("heading", name=re.compile(heading))).to_be_visible(timeout=WAIT)
    settled(visitor)
    visitor.go_back()
    expect(visitor.get_by_role("heading", name=re.compile("^At 8 bits"))).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_03_back_undoes_each_choice_and_forward_makes_it_again(visitor, address):
    compare(visitor, address)
    controls(visitor)
    visitor.get_by_role("radio", name="coffee").click()
    addressed(visitor, "image=coffee")
    finished(visitor)
    visitor.wait_for_timeout(1000)  # two choices at once are one step
    weight_bits(visitor, -2)
    addressed(visitor, "weight_bits=6")
    verdict(visitor, "At W6A8")
    visitor.go_back()
    expect(visitor).not_to_have_url(re.compile("weight_bits"))
    verdict(visitor, "At W8A8")
    addressed(visitor, "image=coffee")
    visitor.go_back()
    expect(visitor).not_to_have_url(re.compile("image=coffee"))
    expect(visitor.locator(".viewer canvas[role=img]")).to_have_attribute(
        "aria-label", re.compile("on chelsea"), timeout=WAIT
    )
    visitor.go_forward()
    addressed(visitor, "image=coffee")
    expect(visitor.locator(".viewer canvas[role=img]")).to_have_attribute(
        "aria-label", re.compile("on coffee"), timeout=WAIT
    )


@pytest.mark.slow
def test_04_a_copied_link_opens_the_same_view_elsewhere(visitor, address, browser):
    compare(visitor, address)
    controls(visitor)
    visitor.get_by_role("radio", name="rocket").click()
    addressed(visitor, "image=rocket")
    weight_bits(visitor, -3)
    verdict(visitor, "At W5A8")
    words = visitor.locator(".viewer .attention strong").inner_text()
    context = browser.new_context()
    other = context.new_page()
    other.goto(visitor.url)
    finished(other)
    expect(other.locator(".viewer .attention strong")).to_have_text(words, timeout=WAIT)
    expect(other.locator(".viewer canvas[role=img]")).to_have_attribute("aria-label", re.compile("on rocket"))
    context.close()


@pytest.mark.slow
def test_05_an_upload_is_never_under_another_pictures_address(visitor, address, tmp_path, browser):
    compare(visitor, address, f"{SQUEEZE}&image=coffee")
    controls(visitor)
    (path,) = photographs(tmp_path, 1)
    give(visitor, "upload", path)
    picture = visitor.locator(".viewer canvas[role=img]")
    expect(picture).to_have_attribute("aria-label", re.compile("on photograph 00"), timeout=WAIT)
    expect(visitor).not_to_have_url(re.compile("image=coffee"))
    # Whoever opens this address is told; it shows no other picture as if it were this one.
    context = browser.new_context()
    other = context.new_page()
    other.goto(visitor.url)
    finished(other)
    expect(other.get_by_text("uploaded elsewhere")).to_be_visible()
    context.close()
    # Another page and back: it is still there; a photograph takes its place, and it can be had again.
    visit(visitor, "Method")
    visit(visitor, "Compare")
    finished(visitor)
    expect(picture).to_have_attribute("aria-label", re.compile("on photograph 00"), timeout=WAIT)
    controls(visitor)
    settled(visitor)  # the run of the page that one came back to, not of the one before
    visitor.get_by_role("radio", name="rocket").click()
    expect(picture).to_have_attribute("aria-label", re.compile("on rocket"), timeout=WAIT)
    addressed(visitor, "image=rocket")
    visitor.go_back()
    expect(picture).to_have_attribute("aria-label", re.compile("on photograph 00"), timeout=WAIT)
    visitor.go_forward()
    expect(picture).to_have_attribute("aria-label", re.compile("on rocket"), timeout=WAIT)
    controls(visitor)
    button(visitor, "^Back to .*photograph 00").click()
    expect(picture).to_have_attribute("aria-label", re.compile("on photograph 00"), timeout=WAIT)
    visit(visitor, "Method")
    visit(visitor, "Compare")
    expect(picture).to_have_attribute("aria-label", re.compile("on photograph 00"), timeout=WAIT)
    addressed(visitor, "own_picture=true")
    expect(visitor).not_to_have_url(re.compile("image="))
    well(visitor)


@pytest.mark.slow
def test_06_a_file_that_is_no_picture_is_one_sentence_and_the_choices_stay(visitor, address, tmp_path):
    compare(visitor, address, f"{SQUEEZE}&weight_bits=6")
    controls(visitor)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    give(visitor, "upload", broken)
    expect(visitor.get_by_role("alert").filter(has_text="broken.png")).to_be_visible(timeout=WAIT)
    well(visitor)
    controls(visitor)
    button(visitor, "Remove broken.png").click()
    verdict(visitor, "At W6A8")
    expect(visitor.get_by_role("alert").filter(has_text="broken.png")).to_have_count(0, timeout=WAIT)


@pytest.mark.slow
def test_07_the_part_that_is_seen_is_fitted_and_moved(visitor, address):
    compare(visitor, address, f"{SQUEEZE}&image=rocket")
    words = visitor.locator(".whole figcaption")
    button(visitor, "^Fit$").click()
    expect(words).to_contain_text("The networks see the whole photograph", timeout=WAIT)
    addressed(visitor, "crop=fit")
    well(visitor)
    button(visitor, "^Centre$").click()
    expect(words).to_contain_text("51%", timeout=WAIT)
    finished(visitor)
    visitor.locator(".whole .seen").press("ArrowLeft")
    addressed(visitor, "crop_x=45")
    expect(words).to_contain_text("51%", timeout=WAIT)


@pytest.mark.slow
def test_08_the_viewer_has_its_modes_values_contours_and_zoom(visitor, address):
    compare(visitor, address)
    for mode in ("Swipe", "Flicker", "Difference", "Side by side"):
        visitor.get_by_role("radio", name=mode).check(force=True)
        well(visitor)
    visitor.get_by_role("radio", name="Difference").check(force=True)
    visitor.get_by_role("checkbox", name="Stretch the colours").check()
    assert "stretched" in viewer(visitor, "viewer.panels()[1].title")
    visitor.get_by_role("checkbox", name="Stretch the colours").uncheck()
    assert "−1 blue, +1 red" in viewer(visitor, "viewer.panels()[1].title")
    visitor.get_by_role("checkbox", name="Top fifth").check()
    visitor.get_by_role("combobox", name="Colours").select_option("cividis")
    button(visitor, "^Zoom in$").click()
    assert viewer(visitor, "viewer.window.scale") == 1.5
    stage = visitor.get_by_role("group", name=re.compile("^Maps"))
    stage.press("ArrowRight")
    expect(visitor.locator(".readout")).to_contain_text("difference")
    button(visitor, "^Show everything$").click()
    button(visitor, "^Copy PNG$").click()
    expect(button(visitor, "^(Copied|Saved)$")).to_be_visible()  # as a file, where there is no clipboard


@pytest.mark.slow
def test_09_the_film_strip_follows_keys_and_the_address_follows_it(visitor, address):
    compare(visitor, address, f"{SQUEEZE}&act_bits=8&weight_bits=8")
    expect(visitor.locator(".strip .pending")).to_have_count(0, timeout=WAIT)
    visitor.get_by_role("radio", name=re.compile("^W5A5")).check(force=True)
    verdict(visitor, "At W5A5")
    addressed(visitor, "weight_bits=5")
    finished(visitor)
    visitor.get_by_role("radio", name=re.compile("^W5A5")).press("ArrowRight")
    verdict(visitor, "At W4A4")
    addressed(visitor, "weight_bits=4")
    well(visitor)


@pytest.mark.slow
def test_10_a_class_by_its_name_and_a_scheme_behind_advanced(visitor, address):
    compare(visitor, address)
    controls(visitor)
    pick(visitor, "^Class that the maps explain", "tabby (281)")
    addressed(visitor, "class=tabby")
    expect(visitor.locator(".explains")).to_contain_text("the class you chose", timeout=WAIT)
    finished(visitor)
    controls(visitor)
    if visitor.get_by_role("combobox", name=re.compile("^Scheme")).count() == 0:
        unfold(visitor, "Advanced")
    pick(visitor, "^Scheme", "naive")
    addressed(visitor, "scheme=naive")
    finished(visitor)
    well(visitor)


@pytest.mark.slow
def test_11_weights_that_are_missing_leave_what_was_there_and_a_way_on(visitor, address):
    compare(visitor, address, "saliency=none")
    controls(visitor)
    pick(visitor, "^Model", "vgg16")
    away(visitor)
    expect(visitor.get_by_text("quantviz fetch-weights vgg16").first).to_be_visible(timeout=WAIT)
    expect(visitor.get_by_text("These run now, without a download")).to_be_visible(timeout=WAIT)
    expect(visitor.get_by_text("here is efficientnet_lite0 at W8A8 as before")).to_be_visible()
    verdict(visitor, "At W8A8, efficientnet_lite0")
    well(visitor)
    controls(visitor)
    expect(visitor.get_by_text("528 MiB to download, once")).to_be_visible()
    pick(visitor, "^Model", "efficientnet_lite0")
    expect(visitor.get_by_text("quantviz fetch-weights vgg16")).to_have_count(0, timeout=WAIT)
    finished(visitor)


@pytest.mark.slow
def test_12_what_takes_minutes_is_asked_for_cancelled_and_gone_on_with(visitor, address):
    compare(visitor, address)
    compare(visitor, address, f"{SQUEEZE}&weight_bits=8")
    controls(visitor)
    if visitor.get_by_role("combobox", name=re.compile("^Scheme")).count() == 0:
        unfold(visitor, "Advanced")
    pick(visitor, "^Scheme", "best")
    away(visitor)
    button(visitor, "^Start$").click(timeout=WAIT)
    button(visitor, "^Cancel$").click(timeout=WAIT)
    expect(button(visitor, "^Cancel$")).to_have_count(0, timeout=WAIT)
    expect(button(visitor, "^Go on$").or_(button(visitor, "^Start$"))).to_be_visible(timeout=WAIT)
    well(visitor)
    controls(visitor)
    pick(visitor, "^Scheme", "standard")
    finished(visitor)
    verdict(visitor, "At W8A8")


@pytest.mark.slow
def test_13_links_of_before_still_open(visitor, address):
    visitor.goto(f"{address}/?{SQUEEZE}&weight_bits=5&class=chosen&class_index=282")
    finished(visitor)
    verdict(visitor, "At W5A8, squeezenet1_1")
    expect(visitor.locator(".explains")).to_contain_text("the class you chose")
    visitor.goto(f"{address}/layers?model=squeezenet1_1&weights=untrained")
    expect(button(visitor, "Measure every layer")).to_be_visible(timeout=WAIT)
    compare(visitor, address, f"{SQUEEZE}&weight_bits=99&layer=nowhere")
    for value in ("'99'", "'nowhere'"):
        expect(visitor.get_by_text(value).first).to_be_visible()
    well(visitor)


@pytest.mark.slow
def test_14_a_researcher_leaves_with_a_figure_and_its_numbers(visitor, address, tmp_path):
    compare(visitor, address, f"{SQUEEZE}&image=coffee&weight_bits=4")
    with Image.open(downloaded(visitor, "^Figure", tmp_path)) as figure:
        assert figure.info["dpi"] == pytest.approx((300, 300), abs=1)
    told = json.loads(downloaded(visitor, "^Result", tmp_path).read_text())
    assert told["quantization"]["label"] == "W4A8"
    assert told["metrics"]
    visit(visitor, "Study")
    expect(visitor.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)
    away(visitor)
    button(visitor, "Save").first.click()
    drawn = downloaded(visitor, "^SVG$", tmp_path)
    assert drawn.read_text().lstrip().startswith("<?xml")
    assert downloaded(visitor, "^PDF$", tmp_path).read_bytes().startswith(b"%PDF")
    assert downloaded(visitor, "^CSV$", tmp_path).read_text().count("\n") > 5
    visitor.keyboard.press("Escape")
    well(visitor)
