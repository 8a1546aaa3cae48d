"""The Study page in a real browser: a study is opened, narrowed, looked at from every side; a sweep is run from it."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from browser_support import WAIT, addressed, button, downloaded, finished, pick, settled
from PIL import Image
from playwright.sync_api import expect
from study_support import SQUEEZE, labelled_pictures
from sweep_support import weights_file

from quantviz import images
from quantviz.specs import spec_of
from quantviz.store import TensorStore
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.jobs import job
from quantviz.study.sweep.run import sweep


@pytest.fixture(scope="module")
def study(home):
    """Return the folder of a small real study that the server finds among those made there."""
    (home / "pictures").mkdir()
    request = SweepRequest(
        dataset=labelled_pictures(home / "pictures"),
        models=(SQUEEZE,),
        quants=(spec_of("standard", 8, 8), spec_of("standard", 4, 4)),
        weights={SQUEEZE: "untrained"},
        command="quantviz sweep pictures --out first",
    )
    sweep(request, home / "cache" / "studies" / "first", TensorStore(home / "cache" / "tensors"))
    return home / "cache" / "studies" / "first"


@pytest.fixture
def link(address, study):
    return f"{address}/study?study={study.name}"


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click(timeout=WAIT)
    settled(page)


def test_a_study_is_opened_and_every_tab_has_its_part(page, link):
    page.goto(link)
    expect(page.get_by_text(re.compile("Under the calibrated protocol at W8A8"))).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("UNTRAINED").first).to_be_visible()
    expect(page.get_by_text("6 pictures, 4 with a known class")).to_be_visible()
    expect(page.get_by_text("noise floor of this study is not known")).to_be_visible()
    expect(page.get_by_role("tab", name="Ranking")).to_have_count(0)  # there is one network
    expect(page.get_by_role("tab", name="Deployed int8")).to_have_count(0)
    for name, plots in (("Tables", 1), ("Distributions", 3), ("Accuracy against drift", 2)):
        tab(page, name)
        expect(page.locator(".js-plotly-plot")).to_have_count(plots, timeout=WAIT)
    page.get_by_role("tab", name="Distributions", exact=True).click()
    page.get_by_role("radio", name="violin").or_(button(page, "^violin$")).first.click(timeout=WAIT)
    settled(page)
    addressed(page, "drawn=violin")
    tab(page, "How it was made")
    expect(page.get_by_text("quantviz sweep pictures --out first")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("alert").filter(has_not_text="UNTRAINED")).to_have_count(0)


@pytest.mark.slow
def test_filters_act_and_are_in_the_address(page, link, tmp_path):
    page.goto(f"{link}&top1=changed&letters=no+such+class")
    expect(page.get_by_text("No picture passes the filters")).to_be_visible(timeout=WAIT)
    page.goto(f"{link}&letters=cup&part=Tables")
    expect(page.get_by_text("1 of 6 pictures")).to_be_visible(timeout=WAIT)
    settled(page)
    told = json.loads(downloaded(page, "^Numbers .JSON", tmp_path).read_text())
    assert told["filters"]["text"] == "cup"
    assert {cell["images"] for cell in told["cells"]} == {1}
    table = downloaded(page, "^Numbers .CSV", tmp_path).read_text()
    assert table.startswith("protocol,model,setting,comparison,metric,n,mean")
    pick(page, "^Top-1 class", "kept")
    settled(page)
    addressed(page, "top1=kept")


@pytest.mark.slow
def test_the_tests_are_of_the_whole_study_whatever_the_filters_leave(page, link):
    page.goto(f"{link}&letters=cup&part=Tables")
    page.get_by_text("Tests of the whole study").click(timeout=WAIT)
    expect(page.get_by_text(re.compile("1 pictures: .*broken.jpg"))).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_page_report_and_command_line_give_the_same_numbers(page, link, study, run, tmp_path):
    page.goto(f"{link}&part=Tables")
    settled(page)
    shown = json.loads(downloaded(page, "^Numbers .JSON", tmp_path).read_text())["cells"]
    code, out, err = run("summary", study, "--json", "-", "--csv", tmp_path / "all.csv")
    assert (code, err) == (0, "")
    assert shown == json.loads(out)["cells"]
    assert downloaded(page, "^Numbers .CSV", tmp_path).read_text() == (tmp_path / "all.csv").read_text()
    (tmp_path / "tables").mkdir()
    assert run("report", study, "--tables", tmp_path / "tables", "--html", tmp_path / "a.html")[0] == 0
    drifts = list(csv.DictReader((tmp_path / "tables" / "drift.csv").read_text().splitlines()))
    rates = list(csv.DictReader((tmp_path / "tables" / "rates.csv").read_text().splitlines()))
    html = (tmp_path / "a.html").read_text()
    for cell, drift, rate in zip(shown, drifts, rates, strict=True):
        for number, line, name in ((cell["drift"], drift, "all"), (cell["flips"], rate, "flips")):
            assert number["method"] == line[f"{name}_method"]
            assert number["method"] in html
            for part in ("n", "low", "high"):
                assert float(line[f"{name}_{part}"]) == number[part]
        assert float(drift["all_mean"]) == cell["drift"]["mean"]
        assert cell["drift"]["method"] == "BCa bootstrap, 9,999 resamples"


@pytest.mark.slow
def test_a_picture_leads_to_its_maps_and_to_compare(page, link):
    page.goto(f"{link}&part=Pictures&shown_bits=W4A4")
    expect(page.get_by_role("heading", name="The largest drift")).to_be_visible(timeout=WAIT)
    settled(page)
    button(page, "All its maps").first.click()
    addressed(page, "picture=")
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=WAIT)
    settled(page)
    expect(button(page, "Compute the maps")).to_have_count(0)
    path = page.locator("[role=tabpanel] code").first.inner_text()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Compare").nth(1).click()
    other = opened.value
    finished(other)
    expect(other.get_by_text(f"At W4A4, {SQUEEZE} looks")).to_be_visible(timeout=WAIT)
    expect(other.get_by_text("UNTRAINED").first).to_be_visible()
    expect(other.get_by_text(path, exact=True).first).to_be_visible()
    addressed(other, "from_study=first")
    button(other, "Choose another picture").click()
    expect(other.get_by_role("radio", name="chelsea")).to_be_visible(timeout=WAIT)
    settled(other)
    expect(other).not_to_have_url(re.compile("from_study"))


@pytest.mark.slow
def test_pictures_that_are_elsewhere_are_asked_for(page, link, study, home):
    shutil.move(home / "pictures", home / "moved")
    try:
        page.goto(f"{link}&part=Pictures")
        expect(page.get_by_role("alert").filter(has_text="name their folder")).to_be_visible(timeout=WAIT)
        field = page.get_by_role("textbox", name=re.compile("^Where the study's pictures are"))
        field.fill(str(home / "moved"))
        field.press("Enter")
        expect(page.locator("[data-testid=stImage]").first).to_be_visible(timeout=WAIT)
        expect(page.get_by_role("alert").filter(has_text="name their folder")).to_have_count(0, timeout=WAIT)
    finally:
        shutil.move(home / "moved", home / "pictures")


def test_what_is_no_study_is_one_sentence(page, address, study, tmp_path):
    page.goto(f"{address}/study?study_path={tmp_path}/nothing")
    expect(page.get_by_role("alert").filter(has_text="There is no study at")).to_be_visible(timeout=WAIT)
    page.goto(f"{address}/compare?from_study=nowhere&from_picture=3")
    expect(page.get_by_text("The link's study 'nowhere' is not available")).to_be_visible(timeout=WAIT)


def running(path, process=None):
    """Wait until a sweep tells how far it is; return its process."""
    deadline = time.monotonic() + WAIT / 1000
    while (found := job(path).progress) is None or found.pid == process:
        assert time.monotonic() < deadline, job(path)
        time.sleep(0.01)
    return found.pid


def is_sent(process, number):
    """Tell whether a signal waits for a stopped process to go on."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    waiting = (int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))
    return any(signals >> (number - 1) & 1 for signals in waiting)


@contextlib.contextmanager
def held(process):
    """Keep a sweep from ending before it has been looked at."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.slow
def test_a_sweep_is_started_watched_cancelled_and_resumed_from_the_page(page, link, browser, tmp_path, home):
    folder, out = tmp_path / "three", home / "cache" / "studies" / "second"
    folder.mkdir()
    for place in range(3):
        rgb = images.bundled("coffee").rgb[4 * place : 4 * place + 160, 5 * place : 5 * place + 200]
        Image.fromarray(rgb).save(folder / f"{place:02d}.jpg")
    page.goto(link)
    page.get_by_text("Start a sweep").click(timeout=WAIT)
    button(page, "^Start$").click(timeout=WAIT)
    expect(page.get_by_role("alert").filter(has_text="No folder of pictures is given")).to_be_visible(timeout=WAIT)
    page.get_by_role("textbox", name=re.compile("^Folder of pictures")).fill(str(folder))
    page.get_by_role("textbox", name="Name of the study").fill("second")
    box = page.get_by_role("combobox", name=re.compile("Models$")).last
    box.click()
    box.press("Backspace")
    box.fill(SQUEEZE)  # of a long list only what is seen is there
    page.get_by_role("option", name=SQUEEZE, exact=True).click(timeout=WAIT)
    box.press("Escape")
    weights = weights_file(tmp_path / "untrained.safetensors")
    page.get_by_role("textbox", name=re.compile("^Weights of your own")).fill(f"{SQUEEZE}={weights}")
    button(page, "^Start$").click()
    process = running(out)
    with held(process):
        expect(page.get_by_text("each picture once a model and protocol")).to_be_visible(timeout=WAIT)
        context = browser.new_context()  # somebody else sees the same
        other = context.new_page()
        other.goto(link)
        expect(other.get_by_text("each picture once a model and protocol")).to_be_visible(timeout=WAIT)
        context.close()
        button(page, "^Cancel$").click(timeout=WAIT)
        deadline = time.monotonic() + WAIT / 1000
        while not is_sent(process, signal.SIGTERM) and time.monotonic() < deadline:
            page.wait_for_timeout(50)
    expect(button(page, "^Resume$")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("Interrupted; what was done is kept").first).to_be_visible(timeout=WAIT)
    button(page, "^Resume$").click()
    with held(running(out, process)):
        expect(button(page, "^Cancel$")).to_be_visible(timeout=WAIT)
    expect(button(page, "^Cancel$")).to_have_count(0, timeout=WAIT)
    assert (out / "results.parquet").exists()
    pick(page, "^Study", "second")
    expect(page.get_by_text("3 pictures, 0 with a known class")).to_be_visible(timeout=WAIT)


@pytest.mark.slow
def test_a_point_shows_the_pictures_behind_it_and_the_address_opens_them_again(page, link):
    page.goto(f"{link}&part=Accuracy+against+drift")
    settled(page)
    page.locator(".js-plotly-plot").first.locator(".scatterlayer .point").first.click(force=True, timeout=WAIT)
    expect(page.get_by_text(re.compile(f"pictures of {SQUEEZE} at W4A4, the largest drift first"))).to_be_visible(
        timeout=WAIT
    )
    addressed(page, f"behind=curves%21{SQUEEZE}%21W4A4%21calibrated%21%21")
    settled(page)
    page.goto(page.url)
    expect(page.get_by_text(re.compile(f"pictures of {SQUEEZE} at W4A4, the largest drift first"))).to_be_visible(
        timeout=WAIT
    )
    expect(page.get_by_role("link", name="Compare").first).to_be_visible()
    button(page, "Close$").click()
    settled(page)
    expect(page).not_to_have_url(re.compile("behind="))
