"""A study with deployed int8 in a real browser: its tab, the measured times, and one picture by both networks."""

import re

import pytest
from browser_support import WAIT, addressed, button, settled
from PIL import Image
from playwright.sync_api import expect
from study_support import SQUEEZE

from quantviz import images
from quantviz.specs import DEPLOYED, spec_of
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.run import sweep
from quantviz.study.times import kept_times


@pytest.fixture(scope="module")
def study(home):
    """Return the folder of a small real study that the server finds; its network is exported in the server's store."""
    (home / "deployed pictures").mkdir()
    for name in ("chelsea", "coffee"):
        Image.fromarray(images.bundled(name).rgb[:160, :200]).save(home / "deployed pictures" / f"{name}.png")
    quants = (spec_of("standard", 8, 8), spec_of("standard", 4, 4))
    asked = SweepRequest(
        home / "deployed pictures",
        (SQUEEZE,),
        quants,
        {SQUEEZE: "untrained"},
        ("calibrated", DEPLOYED),
        command="quantviz sweep",
    )
    with TensorStore(home / "cache" / "tensors") as store:
        sweep(asked, home / "cache" / "studies" / "integers", store)
    return home / "cache" / "studies" / "integers"


@pytest.fixture
def link(address, study):
    return f"{address}/study?study={study.name}"


def alerts(page):
    return page.get_by_role("alert").filter(has_not_text="UNTRAINED")


@pytest.mark.slow
def test_the_tab_has_the_table_the_spread_and_times_once_they_are_asked_for(page, link, study, home):
    page.goto(f"{link}&part=Deployed+int8")
    expect(page.get_by_text(re.compile("Deployed and simulated maps agree with a mean CC of"))).to_be_visible(
        timeout=WAIT
    )
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=WAIT)
    expect(page.get_by_test_id("stDataFrame")).to_have_count(1)
    button(page, "Measure on this machine").click(timeout=WAIT)
    expect(button(page, "Measure again")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("Milliseconds that one map takes on this machine")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame")).to_have_count(2, timeout=WAIT)
    expect(alerts(page)).to_have_count(0)
    with TensorStore(home / "cache" / "tensors") as store:
        (measured,) = kept_times(store, StudyFolder(study).plan())
    assert measured.milliseconds["deployed"] > 0


@pytest.mark.slow
def test_a_picture_is_shown_by_both_networks_where_both_run(page, link):
    page.goto(f"{link}&part=Pictures&shown_protocol=deployed")
    button(page, "Compute the maps").click(timeout=WAIT)
    plot = page.locator(".js-plotly-plot")
    for name in ("W8A8 simulated", "W8A8 deployed"):
        expect(plot.get_by_text(name, exact=True)).to_be_visible(timeout=WAIT)
    settled(page)
    expect(alerts(page)).to_have_count(0)
    protocols = page.get_by_role("radio", name=re.compile("^deployed$"))
    expect(protocols).to_have_count(1)
    page.get_by_role("radio", name=re.compile("^W4A4$")).click()
    addressed(page, "shown_bits=W4A4")
    expect(protocols).to_have_count(0, timeout=WAIT)  # which does not run at that bit-width
    settled(page)
    expect(alerts(page)).to_have_count(0)


@pytest.mark.slow
def test_a_study_without_it_says_how_to_get_it(page, link, address):
    page.goto(f"{address}/study?study=imagenet-200&part=Deployed+int8")
    settled(page)
    expect(page.get_by_role("tab", name="Pictures")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("tab", name="Deployed int8")).to_have_count(0)  # an empty tab is not shown
