"""The Diagnose page in a real browser: the chart, a tensor's histogram and map, and the address of before."""

from browser_support import WAIT, button, settled
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
