"""The Layers page, and how Compare takes schemes, protocols and bits of single layers, in a real browser."""

import json
import re

import pytest
from browser_support import WAIT, addressed, button, downloaded, finished, noting_progress, pick, settled, unfold
from playwright.sync_api import expect

SMALL = "model=squeezenet1_1&weights=untrained&weight_bits=4"


def test_a_first_visit_computes_nothing_and_says_what_it_would(page, address):
    page.goto(f"{address}/layers")
    expect(page.get_by_text("Quantizes one layer at a time")).to_be_visible(timeout=WAIT)
    settled(page)
    expect(button(page, "Measure every layer")).to_be_visible()
    expect(page.get_by_text("An example, computed before")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=WAIT)
    page.get_by_role("tab", name="The paper's protocol").click()
    expect(page.get_by_text("Each of the 128 combinations")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.slow
def test_the_atlas_is_measured_once_and_a_click_shows_a_layers_map(page, address, browser):
    page.goto(f"{address}/layers?{SMALL}&images=coffee")
    expect(button(page, "Measure every layer")).to_be_visible()
    said = noting_progress(page)
    button(page, "Measure every layer").click(timeout=WAIT)
    expect(page.get_by_text("a change that nobody sees does")).to_be_visible(timeout=WAIT)
    settled(page)
    assert re.search("alone …|All but .* …|Calibrating .* …|Every layer …", said())
    expect(button(page, "Measure every layer")).to_have_count(0)
    expect(page.get_by_text("UNTRAINED").first).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=WAIT)
    page.locator(".js-plotly-plot").nth(1).locator(".scatterlayer .point").nth(4).click(force=True)
    expect(page.get_by_text(re.compile(r"With only .* quantized"))).to_be_visible(timeout=WAIT)
    expect(page.locator(".js-plotly-plot")).to_have_count(4, timeout=WAIT)
    settled(page)
    addressed(page, "inspect=features")

    context = browser.new_context()
    other = context.new_page()
    other.goto(page.url)  # a result of the store needs no button, and the link holds the layer
    expect(other.get_by_text(re.compile(r"With only .* quantized"))).to_be_visible(timeout=WAIT)
    expect(button(other, "Measure every layer")).to_have_count(0)
    context.close()


@pytest.mark.slow
def test_found_bits_are_drawn_downloaded_and_used_on_compare(page, address, tmp_path):
    link = f"{address}/layers?{SMALL}&images=coffee&images=chelsea&part=Bits+for+each+layer&widths=4&widths=8"
    page.goto(f"{link}&max_drift=0.5")
    button(page, "^Search").click(timeout=WAIT)
    expect(page.get_by_text("Searched on 1 picture, tested on 1")).to_be_visible(timeout=WAIT)
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=WAIT)
    bits = json.loads(downloaded(page, "^Bits file", tmp_path).read_text())
    assert set(bits["layers"].values()) <= {"W4A8", "W8A8"}
    assert len(bits["layers"]) == 26
    button(page, "Use these bits").click()
    expect(page.get_by_text("Bits of single layers from")).to_be_visible(timeout=WAIT)
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_text("Bits of single layers from")).to_be_visible(timeout=WAIT)
    finished(page)
    button(page, "Remove the bits file").click()
    expect(page.get_by_text("At W4A8, squeezenet1_1 looks")).to_be_visible(timeout=WAIT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{", "is no JSON", marks=pytest.mark.slow),
        (
            json.dumps(
                {"format": "quantviz bits 1", "model": "resnet50", "scheme": "standard", "ranges": "minmax"}
                | {"default": "W8A8", "layers": {}}
            ),
            "is for the model 'resnet50'",
        ),
    ],
)
def test_a_bits_file_that_cannot_be_used_is_one_sentence_and_loses_nothing(page, address, tmp_path, text, told):
    page.goto(f"{address}/layers?{SMALL}")
    settled(page)
    broken = tmp_path / "broken.json"
    broken.write_text(text)
    page.locator("input[type=file]").last.set_input_files(broken)
    expect(page.get_by_role("alert").filter(has_text=told)).to_be_visible(timeout=WAIT)
    expect(button(page, "Measure every layer")).to_be_visible(timeout=WAIT)
    button(page, "Remove the bits file").click()
    expect(page.get_by_role("alert")).to_have_count(0, timeout=WAIT)


def test_a_folder_that_does_not_exist_is_one_sentence(page, address):
    page.goto(f"{address}/layers?folder=/no/such/folder")
    expect(page.get_by_role("alert").filter(has_text="/no/such/folder")).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_a_scheme_and_its_details_go_to_the_address_and_into_how_it_was_made(page, address):
    page.goto(f"{address}/compare?{SMALL}&saliency=none&scheme=naive")
    finished(page)
    unfold(page, "Predictions and scores")
    expect(page.get_by_text("a change that nobody sees").first).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("GBOPs").first).to_be_visible(timeout=WAIT)
    page.get_by_text("Details", exact=True).click()
    settled(page)
    pick(page, "^Weight ranges", "mse")
    finished(page)
    for part in ("scheme=naive", "weight_ranges=mse"):
        addressed(page, part)
    page.get_by_text("How this was made", exact=True).last.click(timeout=WAIT)
    made = "weights symmetric per-tensor, MSE-optimal ranges, rounded to nearest; activations symmetric per-tensor"
    expect(page.get_by_text(made)).to_be_visible(timeout=WAIT)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("scheme=best", "some minutes"),
        pytest.param("rounding=gptq", "a minute or two", marks=pytest.mark.slow),
    ],
)
def test_weights_are_not_learned_before_that_is_agreed_to(page, address, choice, told):
    page.goto(f"{address}/compare?{choice}")
    expect(page.get_by_role("status").filter(has_text=told)).to_be_visible(timeout=WAIT)
    settled(page)
    expect(button(page, "^Start$")).to_be_visible()
    expect(page.locator(".viewer")).to_have_count(0)


@pytest.mark.slow
def test_the_papers_protocol_cannot_be_taken_for_the_calibrated_one(page, address):
    page.goto(f"{address}/compare?protocol=paper")
    finished(page)
    expect(page.get_by_role("alert").filter(has_text="This is the paper's protocol")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("At W8A8 under the paper's protocol, efficientnet_lite0")).to_be_visible()
    expect(page.get_by_text("a change that nobody sees")).to_have_count(0)
    page.get_by_text("How this was made", exact=True).last.click(timeout=WAIT)
    expect(page.get_by_text("none, observers start at this picture")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("train mode, batch norm of the one image")).to_be_visible()


@pytest.mark.slow
def test_single_deviations_are_chosen_and_told(page, address):
    page.goto(f"{address}/compare?protocol=chosen&deviations=own_class&deviations=coarse_grids")
    finished(page)
    banner = page.get_by_role("alert").filter(has_text="Switched on: coarse grids, own class.")
    expect(banner).to_contain_text("2 of the paper's 7 deviations", timeout=WAIT)
