"""A study's report: the page, figures and tables for paper."""

import csv
import io
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from itertools import takewhile

import pytest
import report_support
from cli_support import assert_refused
from PIL import Image
from report_support import HOSTILE
from study_support import synthetic_plan, synthetic_study

from quantviz import figures
from quantviz.api.report_figures import figure_files, report_figures
from quantviz.cli import main
from quantviz.figures.print.study import accuracy_print, distribution_print, drift_print, ranking_print
from quantviz.report.html import ReportFigure, study_html
from quantviz.report.latex import escaped, latex_bytes
from quantviz.report.tables import Column, ReportTable, csv_bytes, headline, shown, study_tables
from quantviz.report.wide import all_tables
from quantviz.specs import UsageError
from quantviz.study.filters import ranking
from quantviz.study.specs.plan import StudyTruth, TruthFile
from quantviz.study.specs.summary import Estimate, Rate
from quantviz.study.summary import summary
from quantviz.study.table import study_table

study, found = report_support.study, report_support.found


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    """Return the report's page, as the command writes it."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["quantviz", "report", str(study), "--html", str(file)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return file


def test_the_command_writes_everything_and_the_same_again(study, found, written, run, tmp_path):
    def write(name, *more):
        place = tmp_path / name
        place.mkdir()
        code, out, err = run("report", study, "--tables", place / "tables", "--bundle", place / "a.zip", *more)
        assert (code, out) == (0, "")
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*.*")}, err

    first, err = write("first", "--html", tmp_path / "a.html")
    assert re.search(r"a\.html: \d\.\d MB", err)
    assert (tmp_path / "a.html").read_bytes() == written.read_bytes()
    names = [table.name for table in all_tables(found)]
    assert names[:4] == ["table1", "tests", "rates", "drift"]
    tables = {f"tables/{name}.{form}" for name in names for form in ("csv", "tex")}
    assert set(first) == {"a.zip", "tables/summary.json", *tables}
    assert write("second")[0] == first


@pytest.mark.slow
def test_the_command_writes_the_figures_for_paper(study, run, tmp_path):
    assert run("report", study, "--figures", tmp_path / "figures") == (0, "", "")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    for start in ("distribution-quantized_v_float-paper", "bits-drift", "flips-against-drift", "ranking-W8A8-paper"):
        assert {f"{start}.svg", f"{start}.png"} <= names


def test_nothing_to_write_and_paths_that_cannot_be_written_are_refused(study, run, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for arguments, told in (
        ((), "Nothing is to be written; give one or more of --html"),
        (("--html", tmp_path), "is a folder; name a file"),
        (("--bundle", tmp_path / "absent" / "a.zip"), "does not exist; make it first"),
        (("--figures", file), "is a file; name a folder"),
        (("--tables", tmp_path / "absent" / "tables"), "does not exist; make it first"),
    ):
        assert_refused(run("report", study, *arguments), told)
    assert_refused(run("report", tmp_path / "none", "--html", tmp_path / "a.html"), "There is no study")


def test_the_page_escapes_what_comes_from_outside_and_says_how_it_was_made(written, found):
    text = written.read_text()
    body = text[text.index("<body>") : text.index('<script type="application/json"')]
    assert "<img" not in body
    assert "<b>" not in body
    assert "&lt;img src=x onerror=hacked=1&gt;&amp;.png" in body
    assert "pictures &amp; &lt;b&gt;more&lt;" in body
    for part in (
        "squeezenet1_1 (UNTRAINED)",
        "UNTRAINED: the weights of squeezenet1_1 are random",
        found.plan.models[0].weights.sha256,
        found.plan.calibration.sha256,
        found.plan.digest,
        f"torch {found.plan.versions['torch']}",
        "Differs from the calibrated protocol in this",
        "quantviz sweep",
        headline(found)[0],
        "1 picture" if len(found.plan.images) == 1 else "4 pictures",
    ):
        assert part in body, part


def test_text_in_a_figure_cannot_leave_its_script_element(found):
    evil = "</script><script>hacked=1</script><!--"
    figure = ReportFigure(evil, evil, {evil: {"data": [{"name": evil}], "layout": {}}})
    text = study_html(found, [figure], "plotly").decode()
    assert text.count("</script>") == 3
    assert "hacked=1</script>" not in text
    data = text.split('id="figure-data">')[1].split("</script>")[0]
    assert json.loads(data)[0][0]["data"][0]["name"] == evil


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_disk_without_any_request(written, browser, scheme):
    from playwright.sync_api import expect

    opened = browser.new_page(color_scheme=scheme)
    asked, said = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(written.as_uri())
    expect(opened.locator(".plot .main-svg").first).to_be_visible(timeout=60_000)
    expect(opened.locator(".plot:has(.main-svg)")).to_have_count(4, timeout=60_000)
    opened.locator("select[data-figure='1']").select_option(index=1)
    expect(opened.locator("#figure1").get_by_text("mean CC, quantized v float")).to_be_visible()
    assert opened.evaluate("typeof hacked") == "undefined"
    back = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = opened.evaluate("getComputedStyle(document.querySelector('#figure0 .xtick text')).fill")
    opened.close()
    assert asked == [written.as_uri()]
    assert said == []
    assert (back, ink) == {
        "light": ("rgb(255, 255, 255)", "rgb(27, 31, 36)"),
        "dark": ("rgb(14, 17, 23)", "rgb(230, 237, 243)"),
    }[scheme]


def test_the_headline_is_computed_from_the_numbers(found):
    sentences = headline(found)
    assert len(sentences) == 2
    for protocol, sentence in zip(found.plan.protocols, sentences, strict=True):
        cells = {cell.setting: cell for cell in found.cells if cell.protocol == protocol}
        mean, flips = cells["W8A8"].scores["quantized_v_float"]["cc"].mean, cells["W8A8"].flips.value
        assert f"Under the {protocol} protocol at W8A8" in sentence
        assert f"mean CC of {mean:.3f} (squeezenet1_1 (UNTRAINED), 3 of 4 pictures)" in sentence
        assert f"{100 * flips:.1f}\N{NO-BREAK SPACE}% of the top-1 classes change" in sentence
        least = cells["W3"].scores["quantized_v_float"]["cc"].mean
        if least < mean:
            assert f"lowest at W3: {least:.3f}" in sentence


def test_tables_as_csv_have_every_digit_of_the_summary(found):
    tables = {table.name: list(csv.DictReader(io.StringIO(csv_bytes(table).decode()))) for table in study_tables(found)}
    cell = found.cells[1]
    row = next(row for row in tables["table1"] if (row["comparison"], row["metric"]) == ("W3 v float", "CC"))
    assert float(row["squeezenet1_1_mean"]) == cell.scores["quantized_v_float"]["cc"].mean
    assert float(row["squeezenet1_1_sd"]) == cell.scores["quantized_v_float"]["cc"].sd
    assert row["squeezenet1_1_n"] == "3"
    assert len(tables["table1"]) == 2 * (3 + 2 * 6)
    assert float(tables["tests"][0]["change_mean"]) == found.cells[0].tests["sim"].change.mean
    assert int(tables["rates"][1]["flips_count"]) == cell.flips.count
    assert tables["rates"][1]["errors"] == "1"
    assert float(tables["drift"][1]["all_mean"]) == cell.drift.mean
    assert (float(tables["drift"][1]["unsure_up_to"]), float(tables["drift"][1]["sure_above"])) == cell.terciles


def test_numbers_are_shown_with_their_sign_and_never_a_signed_zero():
    interval, change = Column("a", "a", "interval"), Column("a", "a", "change")
    assert shown(interval, Estimate(3, 0.12344, 0.1, -0.00001, 0.5)) == "0.1234 [0.0000, 0.5000]"
    assert shown(change, Estimate(3, -0.5, 0.1, -0.75, 0.25)) == "−0.5000 [−0.7500, +0.2500]"
    assert shown(change, Estimate(0, None, None, None, None)) == "–"
    assert shown(Column("a", "a", "spread"), Estimate(1, -0.25, None, None, None)) == "−0.250 ± –"
    assert shown(Column("a", "a", "rate"), Rate(8, 1, 0.01, 0.5)) == "12.5 % [1.0 %, 50.0 %]"
    assert [shown(Column("a", "a", "p"), value) for value in (0.0002, 0.25, None)] == ["<0.001", "0.250", "–"]


def assert_latex(source):
    """Check what a compiler would stumble over: brackets, environments, columns, letters with a meaning."""
    bare = re.sub(r"\\[\\{}$&#_%]", "", source)
    assert bare.count("{") == bare.count("}")
    assert re.sub(r"(?m)^%.*$", "", bare).count("$") % 2 == 0
    for line in source.splitlines():
        if not line.startswith("%"):
            assert not re.search(r"(?<!\\)[%#]|[<>|~^±−–≤](?!\$)", line), line
    opened = re.findall(r"\\begin\{(\w+)\}", source)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", source))
    for table in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", source, re.S):
        for row in (line for line in table[1].splitlines() if line.endswith(r"\\")):
            assert len(re.findall(r"(?<!\\)&", row)) == len(table[0]) - 1


def test_tables_as_latex_compile_as_far_as_brackets_tell(found):
    for table in study_tables(found):
        source = latex_bytes(table, found.plan.protocols).decode()
        assert_latex(source)
        assert source.count(r"\begin{table}") == len(found.plan.protocols)
        assert source.count(r"\toprule") == source.count(r"\bottomrule") == 2
    assert r"squeezenet1\_1 (UNTRAINED)" in source


def test_latex_escapes_every_letter_with_a_meaning_and_parts_long_tables():
    assert escaped(r"\a{b}$&#_%~^<>|±−–[x]") == (
        r"\textbackslash{}a\{b\}\$\&\#\_\%\textasciitilde{}\textasciicircum{}$<$$>$$|$$\pm$$-$--{[}x{]}"
    )
    assert escaped("a\nb\0c é Fβ 猫") == r"a b c é F$\beta$ ?"
    rows = tuple(("paper", HOSTILE, place) for place in range(100))
    columns = (Column("p", "p"), Column("a", "a_b%&#{}~^\\ 猫"), Column("n", "n", "count"))
    table = ReportTable("long", "50 % & more", columns, rows)
    source = latex_bytes(table, ("paper",)).decode()
    assert_latex(source)
    assert source.count(r"\begin{table}") == 3
    assert "part 3 of 3" in source
    assert source.count(r"a\_b\%\&\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} ? & n \\") == 3
    assert all(f"& {place} \\\\" in source for place in range(100))


@pytest.mark.slow
def test_ground_truth_is_in_every_part_of_the_report(tmp_path):
    files = tuple(TruthFile(f"{place}.xml", "ab" * 32) for place in range(12))
    truth = StudyTruth("boxes", ("pointing_game", "energy_pointing", "nss", "auc_judd", "mae"), files, "boxes & more")
    plan = synthetic_plan(12, ("vgg16", "squeezenet1_1"), ("8", "4"), truth=truth, notes=("A <note>.",))
    study = synthetic_study(tmp_path / "study", plan)
    found, table = summary(study), study_table(study)
    tables = {one.name: csv_bytes(one).decode() for one in study_tables(found)}
    assert "W8A8 v truth,W8A8,Pointing game," in tables["table1"]
    assert "W4A4,ground truth,NSS," in tables["tests"]
    assert "W4A4,saliency,KLD," in tables["tests"]
    text = study_html(found, report_figures(found, table), "").decode()
    for part in ("boxes from boxes &amp; more, of 12 pictures", "A &lt;note&gt;.", "<td>ground truth</td>"):
        assert part in text
    assert "NSS, quantized v truth, calibrated" in text
    names = list(takewhile(lambda name: name.endswith("svg"), (name for name, _ in figure_files(found, table))))
    assert {f"distribution-quantized_v_truth-calibrated-{part}.svg" for part in (1, 2)} <= set(names)


@pytest.mark.slow
def test_the_size_of_the_page_hardly_depends_on_the_number_of_pictures(tmp_path):
    sizes = []
    for count in (300, 1200):
        study = synthetic_study(tmp_path / str(count), synthetic_plan(count, ("vgg16", "resnet50")))
        found, table = summary(study), study_table(study)
        sizes.append(len(study_html(found, report_figures(found, table), "")))
    assert sizes[1] < 1.25 * sizes[0] < 1_000_000


@pytest.fixture(scope="module")
def drawn(study, found):
    """Return a figure of each kind, by kind and form."""
    table = study_table(study)
    plan, marked = found.plan, {"untrained": ["squeezenet1_1"]}
    spreads = [
        figures.distribution_chart(table, "quantized_v_saliency", metric, "paper", complete=True)
        for metric in ("sim", "kld")
    ]
    return {
        form: {
            "spread": distribution_print(spreads, plan, form),
            "bits": drift_print(figures.drift_chart(found.cells, **marked), plan, form),
            "score": drift_print(figures.drift_chart(found.cells, "cc", **marked), plan, form),
            "accuracy": accuracy_print(figures.accuracy_chart(found.cells, **marked), plan, form),
            "ranking": ranking_print(figures.ranking_chart(ranking(table, "W8A8", "paper"), **marked), plan, form),
        }
        for form in ("svg", "png")
    }


def test_the_same_study_gives_the_same_figures(drawn, found):
    for form in ("svg", "png"):
        chart = figures.drift_chart(found.cells, "cc", untrained=["squeezenet1_1"])
        assert drift_print(chart, found.plan, form) == drawn[form]["score"]


def test_figures_for_paper_are_seven_inches_wide_and_tell_what_they_are(drawn, found):
    for data in drawn["png"].values():
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width == 2100
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            told = json.loads(picture.info["Description"])
        assert (told["study"], told["untrained"]) == (found.plan.digest, ["squeezenet1_1"])
        assert "Software" not in picture.info
    for data in drawn["svg"].values():
        root = ElementTree.fromstring(data)
        assert root.get("width") == "504pt"
        assert found.plan.digest in data.decode()
        assert b"<dc:date>" not in data


def test_no_letter_of_a_figure_for_paper_is_smaller_than_six_points(drawn):
    for name, data in drawn["svg"].items():
        # Letters are outlines of a hundred units an em, scaled to their size.
        sizes = [100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -[\d.]+\)", data.decode())]
        assert sizes, name
        assert min(sizes) >= 6


def test_figures_for_paper_refuse_what_the_study_does_not_have(study, found):
    table = study_table(study)
    with pytest.raises(UsageError, match="no score quantized_v_float_nss"):
        figures.distribution_chart(table, "quantized_v_float", "nss", "paper")
    with pytest.raises(UsageError, match="no score quantized_v_float_nss"):
        figures.drift_chart(found.cells, "nss")
    with pytest.raises(UsageError, match="Measure 'loss' is unknown"):
        figures.accuracy_chart(found.cells, "loss")
    with pytest.raises(UsageError, match="Form 'gif' is unknown"):
        drift_print(figures.drift_chart(found.cells), found.plan, "gif")


def test_every_table_has_a_section_of_the_page(tmp_path):
    plan = synthetic_plan(30, models=("vgg16",), bits=("8",), faithful=True)
    whole = summary(synthetic_study(tmp_path / "study", plan))
    page, names = study_html(whole, [], "").decode(), [table.name for table in all_tables(whole)]
    assert {"properties", "faithfulness"} <= {*names}
    assert all(f'<section id="{name}"><h2>' in page and f'<a href="#{name}">' in page for name in names)
