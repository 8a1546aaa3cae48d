"""The Paper page in a real browser, with a small study of its own."""

import json
import re

import pytest
from browser_support import WAIT, addressed, button, downloaded, settled
from PIL import Image
from playwright.sync_api import expect

from quantviz import images
from quantviz.specs import DEVIATIONS, spec_of
from quantviz.store import TensorStore
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.run import sweep


@pytest.fixture(scope="module", autouse=True)
def study(home, tmp_path_factory):
    """Make a study of two pictures in the server's cache: untrained SqueezeNet at W8A8 under both protocols."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("chelsea", "coffee"):
        Image.fromarray(images.bundled(name).rgb[:200, :260]).save(folder / f"{name}.png")
    quants = (spec_of("standard", 8, 8),)
    request = SweepRequest(folder, ("squeezenet1_1",), quants, {"squeezenet1_1": "untrained"}, ("calibrated", "paper"))
    with TensorStore(home / "cache" / "tensors") as store:
        sweep(request, home / "cache" / "studies" / "two", store)


def cells(page):
    """Return the texts of the first table's rows."""
    table = page.get_by_test_id("stTable").first
    expect(table).to_be_visible(timeout=WAIT)
    return [
        [text.replace("\u00a0", " ") for text in row.locator("th, td").all_inner_texts()]
        for row in table.locator("tr").all()
    ]


def test_published_and_reproduced_numbers_stand_side_by_side(page, address, tmp_path):
    page.goto(f"{address}/paper?study=two")
    expect(page.get_by_role("heading", name=re.compile("At int8 the paper reports"))).to_be_visible(timeout=WAIT)
    settled(page)
    expect(page.get_by_role("alert").filter(has_text="UNTRAINED")).to_be_visible()
    rows = cells(page)
    assert rows[0] == ["metric", "model", "published", "W8A8, paper protocol", "W8A8, calibrated protocol"]
    assert ["CC", "vgg16", "0.875 ± 0.161", "not in this study", "not in this study"] in rows
    own = next(row for row in rows if row[:2] == ["CC", "squeezenet1_1 (UNTRAINED)"])
    assert own[2] == "0.893 ± 0.196"
    assert all(re.match(r"-?[01]\.\d{3} ± 0\.\d{3}", text) for text in own[3:])
    told = json.loads(downloaded(page, "^Numbers", tmp_path).read_text())
    found = next(
        row["found"]
        for row in told["cells"]
        if (row["precision"], row["comparison"], row["metric"], row["model"])
        == ("int8", "quantized_v_float", "cc", "squeezenet1_1")
    )
    assert own[4].startswith(f"{found['calibrated']['mean']:.3f}")

    page.get_by_role("radio", name="int16 v f32").click()
    expect(page.get_by_text("0.915\u00a0±\u00a00.184").first).to_be_visible(timeout=WAIT)
    assert all(row[3:] == ["not in this study"] * 2 for row in cells(page)[1:])
    page.get_by_role("radio", name="KLD").click()
    expect(page.locator(".js-plotly-plot").get_by_text("mean KLD of quantized from float")).to_be_visible(timeout=WAIT)
    settled(page)
    addressed(page, "compared=int16")
    addressed(page, "metric=KLD")


def test_the_triangle_check_marks_what_cannot_be(page, address):
    page.goto(f"{address}/paper?study=two&part=Triangle+check")
    expect(page.get_by_role("heading", name=re.compile("^9 of the 12 published SIM values"))).to_be_visible(
        timeout=WAIT
    )
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=WAIT)
    crosses = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace").last
    expect(crosses.locator(".point")).to_have_count(9, timeout=WAIT)
    row = next(row for row in cells(page) if row[:2] == ["resnet50", "int16"])
    assert row[2:7] == ["0.455", "0.964", "0.419 to 0.491", "0.717", "0.226"]
    expect(page.get_by_text("2 of 2 means stand together, and 4 of 4 single comparisons")).to_be_visible()


@pytest.mark.slow
def test_the_gaps_parts_add_up(page, address):
    page.goto(
        f"{address}/layers?model=squeezenet1_1&weights=untrained&images=coffee&part=The+paper%27s+protocol"
    )  # whose tabs have other names
    expect(page.get_by_text("Each of the 128 combinations")).to_be_visible(timeout=WAIT)
    page.get_by_role("link", name="Paper").click()
    expect(page.get_by_role("tab", name="Table 1")).to_have_attribute("aria-selected", "true", timeout=WAIT)
    page.get_by_role("tab", name="The gap").click()
    for model in ("mobilenet_v2", "squeezenet1_1"):
        page.get_by_role("radio", name=model).click()
        expect(page.get_by_role("heading", name=re.compile(f"At W8A8, {model}"))).to_be_visible(timeout=WAIT)
        settled(page)
        numbers = [float(row[1].replace("−", "-")) for row in cells(page)[1:]]
        assert len(numbers) == 2 + len(DEVIATIONS)
        assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=1e-9)
    expect(page.locator(".js-plotly-plot")).to_have_count(1)


@pytest.mark.slow
def test_what_the_paper_did_leads_to_method(page, address):
    page.goto(f"{address}/paper?study=two&part=What+the+paper+did")
    expect(page.get_by_role("heading", name="Seven deviations")).to_be_visible(timeout=WAIT)
    table = page.get_by_test_id("stTable").last
    expect(table.locator("tbody tr")).to_have_count(len(DEVIATIONS))
    page.get_by_role("link", name="Method: Protocols").click()
    expect(page.get_by_role("heading", name="Method", exact=True)).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_a_study_that_is_none_costs_its_own_numbers_only(page, address):
    page.goto(f"{address}/paper?study_path=/no/such/study")
    expect(page.get_by_role("alert").filter(has_text="/no/such/study")).to_be_visible(timeout=WAIT)
    settled(page)
    assert ["CC", "vgg16", "0.875 ± 0.161"] in cells(page)
    expect(page.get_by_text("not in this study")).to_have_count(0)
    expect(button(page, "^Numbers")).to_be_visible()
