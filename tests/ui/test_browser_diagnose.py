"""The Diagnose page in a real browser: the chart, a tensor's histogram and map, and the address of before."""

import pytest
from browser_support import WAIT, button, downloaded, settled
from onnx_support import quantized, saved, small
from playwright.sync_api import expect

SMALL = "model=squeezenet1_1&weights=untrained&images=coffee"


def test_a_diagnosis_links_chart_histogram_map_and_sentence(page, address):
    page.goto(f"{address}/diagnose?{SMALL}&tensor=features.0.weight")
    button(page, "Diagnose").click(timeout=WAIT)
    expect(page.get_by_text("With only this tensor quantized")).to_be_visible(timeout=WAIT)  # the example has none
    settled(page)
    expect(page.get_by_text("SQNR over the network's depth")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("dB of its own rounding").first).to_be_visible(timeout=WAIT)
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=WAIT)
    settled(page)
    expect(page.get_by_text("UNTRAINED").first).to_be_visible()


@pytest.mark.slow
def test_two_uploaded_files_are_diagnosed_down_to_a_map_and_mended(page, address, tmp_path):
    path = saved(tmp_path, small())
    page.goto(f"{address}/diagnose?diagnosed=two+files+that+you+upload&images=coffee&images=chelsea&cam=gradcam")
    expect(page.get_by_text("up to 200 MiB each")).to_be_visible(timeout=WAIT)
    for key, file in (("float_file", path), ("quantized_file", quantized(path, "int8.onnx"))):
        settled(page)
        page.locator(f".st-key-{key} input[type=file]").set_input_files(file)
        expect(page.locator(f".st-key-{key} button[aria-label='Remove {file.name}']")).to_have_count(1, timeout=WAIT)
    settled(page)
    button(page, "Diagnose").click(timeout=WAIT)
    expect(page.get_by_text("All tensors as CSV")).to_be_visible(timeout=WAIT)
    settled(page)
    page.get_by_role("combobox", name="Tensor, worst first").click()
    page.get_by_role("option").nth(1).click()
    expect(page.get_by_text("With only this tensor quantized, the map of coffee drifts")).to_be_visible(timeout=WAIT)
    settled(page)
    button(page, "Try it").click(timeout=WAIT)
    expect(page.get_by_text("on 1 picture that it was not chosen on")).to_be_visible(timeout=WAIT)
    settled(page)
    assert downloaded(page, "^The mended ONNX file", tmp_path).stat().st_size > 1000
