"""The published table: what a study shows beside it, which of its numbers can be, and attributions that are shipped."""

import fnmatch
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quantviz
from quantviz import images
from quantviz.figures import agreement_figure, triangle_figure
from quantviz.layerwise.output import report_attribution
from quantviz.specs import DEVIATIONS, StoreError, spec_of
from quantviz.store import TensorStore
from quantviz.study.planning import SweepRequest
from quantviz.study.published import (
    SHIPPED,
    TRIANGLE_COLUMNS,
    published_cells,
    published_triangles,
    read_attribution,
    report_published,
    reproductions,
    shipped_attributions,
    study_triangles,
)
from quantviz.study.summary import summary
from quantviz.study.sweep.run import sweep
from quantviz.study.table import study_table

SQUEEZE, LITE = "squeezenet1_1", "efficientnet_lite0"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a real study of three pictures, one of them without salience, at W8A8 under both protocols."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(images.bundled("chelsea").rgb[:250, :300]).save(folder / "a.png")
    Image.fromarray(images.bundled("coffee").rgb[:250, 100:400]).save(folder / "b.png")
    Image.fromarray(np.full((64, 64, 3), 127, np.uint8)).save(folder / "grey.png")
    request = SweepRequest(
        folder, (SQUEEZE, LITE), (spec_of("standard", 8, 8),), {SQUEEZE: "untrained"}, ("calibrated", "paper")
    )
    out = tmp_path_factory.mktemp("studies") / "one"
    with TensorStore(tmp_path_factory.mktemp("cache")) as store:
        sweep(request, out, store)
    return out


def cell(precision, comparison, metric, model):
    places = [one for one in published_cells() if (one.precision, one.comparison) == (precision, comparison)]
    (found,) = (one for one in places if (one.metric, one.model) == (metric, model))
    return found


def test_the_table_has_every_cell_once():
    models = {"vgg16", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_1", "efficientnet_b0"}
    comparisons = {
        ("f32", "float_v_saliency"),
        *(
            (precision, name)
            for precision in ("int16", "int8")
            for name in ("quantized_v_saliency", "quantized_v_float")
        ),
    }
    places = {((one.precision, one.comparison), one.metric, one.model) for one in published_cells()}
    assert places == {
        (place, metric, model) for place in comparisons for metric in ("sim", "cc", "kld") for model in models
    }
    assert len(published_cells()) == 90
    assert all(0 < one.mean < 1.2 and 0 < one.sd < 0.5 for one in published_cells())


@pytest.mark.parametrize(
    ("place", "mean", "sd"),
    [
        (("f32", "float_v_saliency", "sim", "vgg16"), 0.485, 0.093),
        (("int16", "quantized_v_saliency", "kld", "resnet50"), 1.065, 0.344),
        (("int8", "quantized_v_float", "cc", "squeezenet1_1"), 0.893, 0.196),
        (("int8", "quantized_v_float", "kld", "efficientnet_b0"), 0.396, 0.172),
    ],
)
def test_cells_are_those_of_the_paper(place, mean, sd):
    found = cell(*place)
    assert (found.mean, found.sd) == (mean, sd)
    assert found.estimate.n == 10_000
    assert found.estimate.high - found.mean == pytest.approx(1.96 * sd / 100)
    assert found.mean - found.estimate.low == pytest.approx(1.96 * sd / 100)


def test_nine_published_similarities_cannot_be():
    checks = {(check.model, check.setting): check for check in published_triangles()}
    assert len(checks) == 12
    impossible = {place: check.excess for place, check in checks.items() if not check.holds}
    assert set(impossible) == {
        *((model, "int16") for model in ("vgg16", "resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0")),
        *((model, "int8") for model in ("vgg16", "resnet50", "densenet121", "mobilenet_v2")),
    }
    # 0.703 - (0.485 + 1 - 0.926), and so on, from the paper's table
    assert impossible["vgg16", "int16"] == pytest.approx(0.144, abs=1e-9)
    assert impossible["resnet50", "int16"] == pytest.approx(0.226, abs=1e-9)
    assert impossible["densenet121", "int8"] == pytest.approx(0.022, abs=1e-9)
    assert (checks["squeezenet1_1", "int8"].low, checks["squeezenet1_1", "int8"].high) == pytest.approx((0.355, 0.559))
    assert all(check.n == 10_000 and check.source == "published" for check in checks.values())


def test_the_part_scored_one_gives_the_published_mean_and_the_deviation_of_such_a_mixture():
    random = np.random.default_rng(5)
    for check in published_triangles():
        assert check.share is not None
        if check.share == 0:
            assert check.quantized_v_truth <= check.float_v_truth
            continue
        truth = cell("f32", "float_v_saliency", "sim", check.model)
        scores = random.normal(truth.mean, truth.sd, 400_000)
        scores[random.random(len(scores)) < check.share] = 1.0
        assert scores.mean() == pytest.approx(check.quantized_v_truth, abs=0.002)
        assert scores.std() == pytest.approx(check.share_sd, abs=0.002)
    # What the page says: wherever a large part is needed, the mixture has the published deviation.
    needed = [check for check in published_triangles() if check.share > 0.05]
    assert len(needed) == 10
    assert max(abs(check.share_sd - check.sd) for check in needed) < 0.015


def test_a_real_study_stands_the_check_and_a_changed_number_does_not(study):
    table = study_table(study, TRIANGLE_COLUMNS)
    checks = study_triangles(table)
    assert {(check.model, check.setting, check.source) for check in checks} <= set(table.cells)
    assert len(checks) == 4
    for check in checks:
        assert check.holds
        assert check.n <= 2  # nothing stands out in the grey picture
        assert check.low <= check.quantized_v_truth <= check.high
        assert (check.share, check.pictures_outside) == (None, 0)
    assert all(check.n == 2 for check in checks if check.source == "calibrated")
    row = table.cells.index((LITE, "W8A8", "calibrated"))
    columns = {name: np.array(values) for name, values in table.columns.items()}
    columns["quantized_v_saliency_sim"][row, 0] = 1.0
    changed = study_triangles(replace(table, columns=columns))[row]
    assert changed.pictures_outside == 1
    assert not changed.holds
    columns["quantized_v_saliency_sim"][row] = np.nan
    assert len(study_triangles(replace(table, columns=columns))) == 3


def test_a_studys_numbers_stand_beside_the_published_ones(study):
    found = summary(study)
    rows = {(row.precision, row.comparison, row.metric, row.model): row for row in reproductions(found)}
    assert len(rows) == 90 + 15  # those of the model that the paper lacks
    own = next(one for one in found.cells if (one.model, one.protocol) == (SQUEEZE, "paper"))
    row = rows["int8", "quantized_v_float", "cc", SQUEEZE]
    assert row.published.mean == 0.893
    assert row.found["paper"] == own.scores["quantized_v_float"]["cc"]
    assert set(row.found) == {"calibrated", "paper"}
    assert rows["f32", "float_v_saliency", "sim", SQUEEZE].found["paper"] == own.scores["float_v_saliency"]["sim"]
    assert rows["int16", "quantized_v_float", "cc", SQUEEZE].found == {}  # the study has no W16A16
    assert rows["int8", "quantized_v_float", "cc", "vgg16"].found == {}
    extra = rows["int8", "quantized_v_float", "cc", LITE]
    assert extra.published is None
    lite = next(one for one in found.cells if (one.model, one.protocol) == (LITE, "calibrated"))
    assert extra.found["calibrated"] == lite.scores["quantized_v_float"]["cc"]
    assert all(row.found == {} for row in reproductions())


def test_the_agreement_figure_shows_every_number_once_at_its_row(study):
    figure = agreement_figure(reproductions(summary(study)), "cc", untrained=(SQUEEZE,))
    names = list(figure.layout.yaxis.ticktext)
    assert names[-1] == LITE
    assert f"{SQUEEZE} UNTRAINED" in names
    published = [trace for trace in figure.data if trace.legendgroup == "published"]
    assert [len(trace.x) for trace in published] == [6, 6]
    for trace, precision in zip(published, ("int16", "int8"), strict=True):
        for mean, place, text in zip(trace.x, trace.y, trace.hovertext, strict=True):
            model = names[round(place)].removesuffix(" UNTRAINED")
            assert mean == cell(precision, "quantized_v_float", "cc", model).mean
            assert model in text
    assert {trace.legendgroup: len(trace.x) for trace in figure.data[3:]} == {
        "published": 6,
        "paper": 2,
        "calibrated": 2,
    }
    assert sum(trace.showlegend for trace in figure.data) == 3
    assert len(agreement_figure(reproductions(), "kld").data) == 2


def test_the_triangle_figure_crosses_what_cannot_be(study):
    checks = published_triangles()
    figure = triangle_figure(checks)
    bars, ticks, dots, crosses = figure.data
    assert [low + width for low, width in zip(bars.base, bars.x, strict=True)] == pytest.approx(
        [check.high for check in checks]
    )
    assert list(ticks.x) == [check.float_v_truth for check in checks]
    assert [checks[place] for place in crosses.y] == [check for check in checks if not check.holds]
    assert sorted([*dots.y, *crosses.y]) == list(range(12))
    assert "0.144 outside" in crosses.hovertext[0]
    kept = triangle_figure(study_triangles(study_table(study, TRIANGLE_COLUMNS)), untrained=(SQUEEZE,))
    assert len(kept.data) == 3  # nothing to cross
    assert f"{SQUEEZE} UNTRAINED W8A8" in kept.layout.yaxis.ticktext
    json.loads(kept.to_json())


def test_names_in_figures_are_text_and_no_markup():
    rows = [replace(row, model="<b>one</b>") for row in reproductions() if row.model == "vgg16"]
    checks = [replace(check, model="<b>one</b>") for check in published_triangles()[:1]]
    for figure in (agreement_figure(rows), triangle_figure(checks)):
        assert "<b>one" not in figure.to_json()
        assert "&lt;b&gt;one" in figure.to_json().replace("\\u003c", "<").replace("\\u0026", "&")


def test_shipped_attributions_add_up_and_name_no_folder():
    found = {one.model: one for one in shipped_attributions()}
    assert set(found) == {"mobilenet_v2", "squeezenet1_1", "efficientnet_lite0"}
    for one in found.values():
        assert sum(one.share.values()) == pytest.approx(one.paper - one.calibrated, abs=1e-9)
        assert len(one.subsets) == 2 ** len(DEVIATIONS)
        assert one.subsets[""] == one.calibrated
        assert (one.quant.label, len(one.images), one.weights.trained) == ("W8A8", 100, True)
        assert set(one.intervals) == set(DEVIATIONS)
        for name, (low, high) in one.intervals.items():
            assert low < one.share[name] < high
        low, high = one.mean_intervals[""]
        assert low < one.calibrated < high
    assert found["mobilenet_v2"].calibrated > 0.99 > 0.8 > found["mobilenet_v2"].paper
    for file in SHIPPED.glob("attribution-*.json"):
        assert "/" not in file.read_text()


def test_an_attribution_is_read_back_as_it_was_written():
    for one in shipped_attributions():
        assert read_attribution(json.dumps(report_attribution(one)).encode()) == one


def test_an_attribution_of_before_is_read_without_what_it_does_not_have():
    one = shipped_attributions()[0]
    data = report_attribution(one)
    for key in ("share_intervals", "mean_intervals", "intervals_by", "common"):
        del data[key]
    found = read_attribution(json.dumps(data).encode())
    assert found == replace(one, intervals={}, mean_intervals={}, common=None)


def changed(**parts):
    return json.dumps(report_attribution(shipped_attributions()[0]) | parts).encode()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "Expecting"),
        (b"[]", "indices must be"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"calibrated": NaN}', "holds NaN"),
        (b"{}", "'share' is missing"),
        (lambda: changed(paper=0.5), "do not add up"),
        (lambda: changed(paper="high"), "could not convert"),
        (lambda: changed(model="alexnet"), "alexnet"),
        (lambda: changed(calibrated=1e400), "no finite number"),
        (lambda: changed(quantization={"weight_bits": 99}), "99"),
        (lambda: changed(quantization={"colour": 1}), "colour"),
        (lambda: changed(weights=None), "NoneType"),
        (lambda: changed(mean_intervals={"colour": [0, 1]}), "'colour' is no subset"),
        (lambda: changed(common={"images": 3, "calibrated": 1, "paper": 0, "share": {}}), "is missing"),
    ],
)
def test_an_attribution_that_cannot_be_used_is_one_sentence(data, told):
    data = data if isinstance(data, bytes) else data().replace(b"Infinity", b"1e999")
    with pytest.raises(StoreError) as caught:
        read_attribution(data, "attribution-x.json")
    message = str(caught.value)
    assert message.startswith("Attribution 'attribution-x.json' cannot be used (")
    assert told in message
    assert message.endswith("write it anew by quantviz attribute --json.")


def test_published_prints_the_table_and_the_check(run):
    code, out, err = run("published")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    row = next(line for line in lines if line.startswith("int8 v f32") and " CC " in line)
    assert row.split()[5:8] == ["0.875", "±", "0.161"]
    assert sum(line.startswith("published ") for line in lines) == 12
    cannot = next(line for line in lines if line.startswith("published  resnet50") and "int16" in line)
    assert cannot.split() == "published resnet50 int16 0.455 0.964 0.419 to 0.491 0.717 0.226 48.1% 10,000".split()


def test_published_prints_a_study_beside_it(run, study):
    code, out, err = run("published", study)
    assert (code, err) == (0, "")
    assert "UNTRAINED (random) weights, a sanity control: squeezenet1_1" in out
    for words in ("W8A8, calibrated", "W8A8, paper", "float, paper", "efficientnet_lite0"):
        assert words in out
    code, told, err = run("published", study, "--json", "-")
    assert (code, err) == (0, "")
    data = json.loads(told)
    assert data == json.loads(
        json.dumps(
            report_published(
                reproductions(summary(study)),
                (*published_triangles(), *study_triangles(study_table(study, TRIANGLE_COLUMNS))),
            )
        )
    )
    assert data["cells"][0]["published"]["mean"] == 0.485
    assert [entry["holds"] for entry in data["triangle"]].count(False) == 9


def test_published_refuses_what_is_no_study(run, tmp_path):
    code, out, err = run("published", tmp_path / "absent")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "There is no study" in err
    code, out, err = run("published", "--json", tmp_path)
    assert (code, out) == (2, "")
    assert "is a folder; name a file" in err


def test_a_wheel_has_every_file_of_data():
    package = Path(quantviz.__file__).parent
    project = tomllib.loads((package.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["quantviz"]
    data = [
        str(file.relative_to(package))
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    ]
    assert "published/table1.csv" in data
    for file in data:
        assert any(fnmatch.fnmatch(file, pattern.replace("**/", "")) for pattern in patterns), file
