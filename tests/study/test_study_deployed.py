"""Studies with the deployed protocol: integer kernels beside their simulation, in rows, summary, report and times."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from study_support import SQUEEZE, one, rows_of, synthetic_plan, synthetic_study

import quantviz
from quantviz import figures, images
from quantviz.api.report_figures import report_figures
from quantviz.cam import one_thread
from quantviz.comparison.machine import KERNELS
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.figures.print import study as study_print
from quantviz.report.html import study_html
from quantviz.report.tables import csv_bytes, headline, study_tables
from quantviz.report.times import times_table
from quantviz.specs import DEPLOYED, QuantvizError, UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.filters import Filters, extremes, ranking, study_view
from quantviz.study.folder import StudyFolder
from quantviz.study.pictures import picture_grid
from quantviz.study.plan_file import plan_bytes
from quantviz.study.planning import SweepRequest, deciding
from quantviz.study.replay import ReplayRequest, replay
from quantviz.study.specs.plan import SIMULATION_COLUMNS, STUDY_METRICS
from quantviz.study.summary import summary, summary_table
from quantviz.study.sweep.executor import Executor
from quantviz.study.sweep.jobs import SweepOrder, start
from quantviz.study.sweep.merge import merge
from quantviz.study.sweep.run import sweep
from quantviz.study.sweep.worker import RemoteWorker, job_of
from quantviz.study.table import study_table
from quantviz.study.tables import SCHEMA, read_table, write_tables
from quantviz.study.times import kept_times, measure_times
from quantviz.ui.from_study import compare_address

SHIPPED = Path(quantviz.__file__).parent / "studies" / "imagenet-200"
CELLS = ((SQUEEZE, "W8A8", "calibrated"), (SQUEEZE, "W4A4", "calibrated"), (SQUEEZE, "W8A8", DEPLOYED))
BITS = (spec_of("standard", 8, 8), spec_of("standard", 4, 4))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with TensorStore(tmp_path_factory.mktemp("cache") / "tensors") as opened:
        yield opened


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(images.bundled(name).rgb[:200, :260]).save(folder / f"{name}.png")
    (folder / "broken.png").write_text("no picture")
    weights = {SQUEEZE: "untrained"}
    command = f"quantviz sweep {folder} --models {SQUEEZE} --weights {SQUEEZE}=untrained"
    return SweepRequest(folder, (SQUEEZE,), BITS, weights, ("calibrated", DEPLOYED), batch=2, command=command)


@pytest.fixture(scope="module")
def study(asked, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "deployed"
    sweep(asked, out, store)
    return out


@pytest.fixture(scope="module")
def found(study):
    return summary(study)


@pytest.fixture(scope="module")
def table(study):
    return study_table(study)


@pytest.fixture(scope="module")
def cell(found):
    return found.cells[2]


def results(study):
    return (study / "results.parquet").read_bytes()


def test_the_deployed_protocol_runs_where_integer_kernels_do_and_nowhere_else(study, asked):
    plan, rows = StudyFolder(study).plan(), rows_of(study)
    assert plan.cells == CELLS
    assert len(rows) == len(CELLS) * 4
    assert {(row["setting"], row["protocol"]) for row in rows} == {cell[1:] for cell in CELLS}
    assert [variant.label for variant in plan.deployed] == ["W8A8"]
    assert set(pq.read_schema(study / "results.parquet").names) == {*SCHEMA.names, *SIMULATION_COLUMNS, "brightness"}


def test_its_rows_are_what_a_comparison_with_deployed_int8_says(study, asked, store):
    request = CompareRequest(SQUEEZE, "untrained", deployed=True)
    for row in rows_of(study):
        if row["protocol"] != DEPLOYED or row["error"]:
            assert [row[name] for name in SIMULATION_COLUMNS] == [None] * 4
            continue
        name = StudyFolder(study).plan().images[row["index"]].path
        assert 0.99 < row["simulated_v_deployed_cc"] < 1  # the two are not one network
        if name != "coffee.png":
            continue
        sample = images.load((asked.dataset / name).read_bytes(), name=name)
        with one_thread():  # as a sweep computes: several add up to other last bits
            deployed = Workbench(store).compare(request, sample).deployed
        scores = deployed.scores
        assert row["quantized_top1"] == deployed.result.predictions[0].index
        for metric in STUDY_METRICS:
            marks = {"quantized_v_float": "deployed_v_float", "quantized_v_saliency": "deployed_v_saliency"}
            for column, other in marks.items():
                assert row[f"{column}_{metric}"] == pytest.approx(getattr(scores[other], metric), abs=1e-6)
        for metric in ("sim", "cc"):  # which do not depend on which map is the first
            wanted = getattr(scores["deployed_v_quantized"], metric)
            assert row[f"simulated_v_deployed_{metric}"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
def test_the_other_protocols_are_as_without_it(study, asked, store, tmp_path):
    sweep(replace(asked, protocols=("calibrated",)), tmp_path / "plain", store)
    plain = rows_of(tmp_path / "plain")
    names = [*SCHEMA.names, "brightness"]
    assert pq.read_schema(tmp_path / "plain" / "results.parquet").names == names
    mine = [row for row in rows_of(study) if row["protocol"] == "calibrated"]
    assert [{name: row[name] for name in names} for row in mine] == plain
    plan = StudyFolder(tmp_path / "plain").plan()
    assert KERNELS not in plan.versions
    assert "onnxruntime" not in plan.versions


def test_a_broken_picture_has_rows_that_say_why(study):
    rows = [row for row in rows_of(study) if row["protocol"] == DEPLOYED]
    broken = one(rows, index=0)
    assert "broken.png" in broken["error"]
    assert sum(bool(row["error"]) for row in rows) == 1


def test_an_interrupted_study_goes_on_to_the_same_bytes(study, asked, store, tmp_path):
    out = shutil.copytree(study, tmp_path / "study")
    (out / "results.parquet").unlink()
    last = StudyFolder(out).plan().pieces[-1]
    assert last.protocol == DEPLOYED
    (out / "pieces" / f"{last.number:06d}.parquet").unlink()
    assert sweep(asked, out, store).computed == 1
    assert results(out) == results(study)
    assert sweep(asked, out, store).computed == 0


@pytest.mark.slow
def test_workers_and_shards_make_the_same_bytes(study, asked, store, tmp_path):
    sweep(asked, tmp_path / "workers", store, executor=Executor(workers=2))
    assert results(tmp_path / "workers") == results(study)
    for number in (1, 2):
        sweep(asked, tmp_path / f"shard{number}", store, shard=(number, 2))
    merge([tmp_path / "shard1", tmp_path / "shard2"], tmp_path / "merged")
    assert results(tmp_path / "merged") == results(study)


def elsewhere(study, out, shift=0.0):
    """Write a study as a machine with other integer kernels would have, its numbers those of this one, or shifted."""
    plan = StudyFolder(study).plan()
    other = replace(plan, versions={**plan.versions, KERNELS: "x86_64 of long ago"})
    out.mkdir()
    (out / "plan.json").write_bytes(plan_bytes(other))
    rows = read_table(study / "results.parquet")
    place = rows.schema.get_field_index("simulated_v_deployed_cc")
    rows = rows.set_column(place, rows.schema.field(place), pc.add(rows.column(place), shift))
    write_tables(out / "results.parquet", [rows], {"plan": other.digest})
    return out


def test_another_kind_of_processor_does_not_go_on_with_it(study, asked, store, tmp_path):
    planned = StudyFolder(study).plan().versions
    assert planned.items() >= deciding(StudyFolder(study).plan().deployed).items()
    assert {"onnxruntime", "onnx", "onnxscript", "ONNX export", KERNELS} <= set(planned)
    other = elsewhere(study, tmp_path / "other")
    with pytest.raises(UsageError, match=r"integer kernels x86_64 of long ago, not integer kernels"):
        sweep(asked, other, store)
    job = job_of(StudyFolder(other).plan(), asked, store)
    kind, error = RemoteWorker(job).open(job.plan.pieces[0])
    assert kind == "failed"
    assert "use machines of one kind" in str(error)


@pytest.mark.parametrize(
    ("bits", "told"),
    [
        ((spec_of("standard", 4, 4), spec_of("standard", 6, 6)), "not W4A4, W6A6;"),
        ((spec_of("naive", 8, 8),), "not a symmetric activation grid;"),
        ((spec_of("affine", 8, 8),), "not an affine weight grid;"),
    ],
)
def test_a_study_without_anything_to_deploy_is_refused(asked, bits, told):
    with pytest.raises(UsageError, match=told):
        replace(asked, quants=bits)


def test_the_pages_form_refuses_it_at_once(asked, tmp_path):
    order = SweepOrder("one", asked.dataset, (SQUEEZE,), ("6",), ("calibrated", DEPLOYED))
    with pytest.raises(UsageError, match="not W6A6;"):
        start(tmp_path, order)
    assert list(tmp_path.iterdir()) == []


def test_protocols_that_a_sweep_does_not_know_are_told_with_those_it_does(asked):
    with pytest.raises(UsageError, match=r"'int8' is unknown; use calibrated, paper, .*; or deployed\."):
        replace(asked, protocols=("int8",))


def test_a_network_that_cannot_be_deployed_is_refused_before_there_is_a_plan(asked, store, float_model, tmp_path):
    state = dict(float_model(SQUEEZE).state_dict())
    for name in ("features.0.weight", "features.3.squeeze.weight"):
        state[name] = state[name] * 1e30  # so that activations are infinite, and on no grid
    torch.save(state, tmp_path / "large.pth")
    asked = replace(asked, weights={SQUEEZE: str(tmp_path / "large.pth")})
    for protocols in (("calibrated",), ("calibrated", DEPLOYED)):
        with pytest.raises(QuantvizError, match="changed the output by nan"):
            sweep(replace(asked, protocols=protocols), tmp_path / protocols[-1], store)
    assert (tmp_path / "calibrated" / "plan.json").exists()
    assert not (tmp_path / DEPLOYED / "plan.json").exists()


def test_the_summary_tells_how_the_simulation_agrees(study, found, cell, store):
    rows = [row for row in rows_of(study) if row["protocol"] == DEPLOYED and not row["error"]]
    assert [(one.model, one.setting, one.protocol) for one in found.cells] == list(CELLS)
    assert [one.simulation is None for one in found.cells] == [True, True, False]
    for metric, worst in {"sim": min, "cc": min, "kld": max}.items():
        values = [row[f"simulated_v_deployed_{metric}"] for row in rows]
        # Values are taken on a grid of 2^-38 of the greatest one.
        assert cell.simulation.scores[metric].mean == pytest.approx(sum(values) / 3, abs=max(values) * 2**-38)
        assert cell.simulation.worst[metric] == worst(values)
    assert (cell.simulation.flips.n, cell.simulation.flips.count) == (3, sum(row["simulated_flipped"] for row in rows))
    assert summary(study, store=store) == summary(study, store=store) == found


def test_filters_act_on_it(table, found):
    whole = study_view(table, Filters())
    check = whole.cells[2].simulation
    assert check.worst == found.cells[2].simulation.worst
    assert check.scores["cc"].mean == pytest.approx(found.cells[2].simulation.scores["cc"].mean, abs=1e-9)
    some = study_view(table, Filters(text="coffee"))
    assert some.cells[2].simulation.flips.n == 1
    assert [entry.name for entry in study_tables(some.summary)][-1] == DEPLOYED
    fewer = study_view(table, Filters(settings=("W4A4",)))
    assert fewer.summary.plan.protocols == ("calibrated",)
    assert DEPLOYED not in [entry.name for entry in study_tables(fewer.summary)]
    assert ranking(table, "W8A8", DEPLOYED).models[0].model == SQUEEZE
    assert len(extremes(whole, CELLS[2], "worst", 4)) == 3


def test_tables_report_and_headline_have_it(found, cell):
    tables = {entry.name: entry for entry in study_tables(found)}
    lines = list(csv.DictReader(io.StringIO(csv_bytes(tables[DEPLOYED]).decode())))
    assert [(line["protocol"], line["setting"]) for line in lines] == [(DEPLOYED, "W8A8")]
    assert float(lines[0]["cc_mean"]) == cell.simulation.scores["cc"].mean
    assert float(lines[0]["greatest_kld"]) == cell.simulation.worst["kld"]
    assert lines[0]["flips_n"] == "3"
    assert {row[1] for row in tables["table1"].rows if row[0] == DEPLOYED} >= {"W8A8 v float"}
    assert not any("W4A4" in str(row) for entry in tables.values() for row in entry.rows if row[0] == DEPLOYED)
    assert "Deployed and simulated maps agree with a mean CC of" in headline(found)[1]
    assert "Deployed" not in headline(found)[0]
    page = study_html(found, [], "").decode()
    assert 'href="#deployed"' in page
    assert "integer kernels; else as under the calibrated protocol" in page
    assert 'href="#deployed"' not in study_html(summary(SHIPPED), [], "").decode()
    lines = list(csv.DictReader(io.StringIO(summary_table(found).decode())))
    told = one(lines, comparison="simulated_v_deployed", metric="cc")
    assert (told["protocol"], float(told["mean"])) == (DEPLOYED, cell.simulation.scores["cc"].mean)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a study of made-up numbers whose most bits are none that run on integer kernels."""
    plan = synthetic_plan(120, (SQUEEZE, "vgg16"), ("16", "8", "4"), ("calibrated", "paper", DEPLOYED))
    return synthetic_study(tmp_path_factory.mktemp("large") / "study", plan)


def test_figures_draw_what_there_is(large):
    table, found = study_table(large), summary(large)
    spread = figures.distribution_figure(figures.distribution_chart(table, "simulated_v_deployed", "cc", DEPLOYED))
    assert [(trace.name, len(trace.x)) for trace in spread.data if trace.type == "box"] == [("W8A8", 2)]
    curves = [trace for trace in figures.drift_figure(figures.drift_chart(found.cells)).data if trace.x[0] is not None]
    assert [len(trace.x) for trace in curves] == [3, 3, 1] * 2
    points = [
        trace for trace in figures.accuracy_figure(figures.accuracy_chart(found.cells)).data if trace.x[0] is not None
    ]
    assert [len(trace.x) for trace in points] == [3, 3, 1] * 2
    (ranks,) = (figure for figure in report_figures(found, table) if figure.title == "Architectures by drift")
    assert [name for name in ranks.choices if DEPLOYED in name] == ["W8A8, deployed"]


def test_a_printed_distribution_has_the_float_maps_beside_the_deployed_ones(large):
    table = study_table(large)
    chart = figures.distribution_chart(table, "quantized_v_saliency", "cc", DEPLOYED, complete=True)
    drawn = study_print.distribution_print([chart], table.plan)
    texts = set(re.findall(r"<!-- (.*?) -->", drawn.decode()))
    assert texts >= {"float", "W8A8"}
    assert not texts & {"W16A16", "W4A4"}


def test_the_grid_of_a_picture_has_both_networks(table, store, asked):
    with one_thread():
        rows = picture_grid(Workbench(store), table.plan, 1, asked.dataset, [CELLS[2]])
    cc = table.columns["simulated_v_deployed_cc"][2, 1]
    assert rows[0][0].deployed.scores["deployed_v_quantized"].cc == pytest.approx(cc, abs=1e-6)
    names = figures.grid_figure(rows).layout.xaxis.ticktext
    assert names[-2:] == ("<b>W8A8 simulated</b>", "<b>W8A8 deployed</b>")
    address = compare_address("mine", table.plan, CELLS[2], 1, None)
    assert "protocol=calibrated&deployed=true" in address


@pytest.mark.slow
def test_replay_finds_the_same_bits_and_says_why_it_might_not_elsewhere(study, asked, store, run, tmp_path):
    same = replay(ReplayRequest(study, limit=2), store)
    assert same.agrees
    assert all(column.identical for column in same.columns)
    assert {column.name for column in same.columns} >= set(SIMULATION_COLUMNS)
    assert same.kernels == ""
    other = elsewhere(study, tmp_path / "other")
    assert replay(ReplayRequest(other, limit=1), store).agrees  # the numbers are those of this machine
    moved = elsewhere(study, tmp_path / "moved", shift=0.01)
    code, told, err = run("replay", moved, "--limit", 2, "--cache", store.info().directory.parent)
    assert code == 1
    assert "swept on integer kernels 'x86_64 of long ago'; this processor has" in told
    assert err == "quantviz: 1 of 32 columns do not agree within 1e-06: simulated_v_deployed_cc.\n"


def test_the_command_line_measures_and_the_store_keeps_it(study, store, run):
    cache = store.info().directory.parent
    code, told, err = run("summary", study, "--times", "--json", "-", "--cache", cache)
    assert (code, err) == (0, "")
    data = json.loads(told)
    assert data["cells"][2]["simulation"]["flips"]["value"] == 0.0
    (measured,) = data["times"]
    assert set(measured["milliseconds"]) == {"float", "float_onnxruntime", "simulated", "deployed"}
    assert min(measured["milliseconds"].values()) > 0
    plan = StudyFolder(study).plan()
    kept = kept_times(store, plan)
    assert [dict(one.milliseconds) for one in kept if one.threads == measured["threads"]] == [measured["milliseconds"]]
    (row,) = times_table(plan, kept).of_protocol(DEPLOYED)
    assert row[-1] == measured["milliseconds"]["simulated"] / measured["milliseconds"]["deployed"]
    code, told, _ = run("summary", study)
    assert code == 0
    assert "Deployed int8 against its simulation" in told
    assert "Milliseconds" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "vgg16=untrained", "--times"], "not in the study"),
        (["--weights", "squeezenet1_1=untrained"], "are for --times"),
        (["--times", "--weights", "squeezenet1_1=missing.pth"], "missing.pth"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(study, run, words, told):
    code, _, err = run("summary", study, *words)
    assert code == 2
    assert told in err
    assert err.startswith("quantviz: ")
    assert err.count("\n") == 1


def test_a_study_without_the_protocol_has_no_times(store):
    plan = StudyFolder(SHIPPED).plan()
    assert kept_times(store, plan) == ()
    with pytest.raises(UsageError, match="no deployed protocol"):
        measure_times(store, plan)
