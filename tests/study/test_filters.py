"""Parts of a study: filters and numbers against plain loops, ranks, single pictures, and the time taken."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from study_support import ARCHITECTURES, LITE, SQUEEZE, labelled_pictures, synthetic_plan, synthetic_study

from quantviz import specs, statistics
from quantviz.cam import one_thread
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.report.tables import headline, study_tables
from quantviz.specs import ImageError, UsageError
from quantviz.store import TensorStore
from quantviz.study.cells import sum_up
from quantviz.study.filters import Filters, class_name, extremes, ranking, study_view
from quantviz.study.pictures import compare_request, picture_grid, pictures_folder, study_picture, weights_choice
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.table import StudyTable
from quantviz.study.summary import summary
from quantviz.study.sweep.run import sweep
from quantviz.study.table import study_table

MODELS, BITS = ("mobilenet_v2", "resnet50"), ("8", "4")
CELL = ("resnet50", "W4A4", "paper")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    plan = synthetic_plan(1100, models=MODELS, bits=BITS, protocols=("calibrated", "paper"))
    return synthetic_study(tmp_path_factory.mktemp("studies") / "made", plan)


@pytest.fixture(scope="module")
def table(study):
    return study_table(study)


def values_of(table, cell, column):
    return table.columns[column][table.cells.index(cell)].tolist()


def passing(table, cell, keep):
    """Return the places of a cell's pictures whose rows, as dictionaries, pass."""
    rows = zip(*(values_of(table, cell, name) for name in table.columns), strict=True)
    return [place for place, row in enumerate(rows) if keep(dict(zip(table.columns, row, strict=True)))]


def check_estimate(estimate, values):
    known = [value for value in values if not math.isnan(value)]
    assert estimate.n == len(known)
    if not known:
        assert estimate.mean is None
        return
    mean = sum(known) / len(known)
    assert estimate.mean == pytest.approx(mean, abs=1e-11)
    if len(known) > 1:
        sd = math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1))
        assert estimate.sd == pytest.approx(sd, rel=1e-9)
    interval = statistics.summary(values, resampled=False).interval
    assert (estimate.method is None) == (interval is None) == (len(known) < 5)
    if interval is not None:
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert estimate.method == interval.method


def cell_of(view, cell):
    (found,) = [one for one in view.cells if (one.model, one.setting, one.protocol) == cell]
    return found


CHOICES = {
    "all": (Filters(), lambda row: True),
    "flipped": (Filters(flipped=True), lambda row: row["flipped"] == 1),
    "kept": (Filters(flipped=False), lambda row: row["flipped"] == 0),
    "wrong": (Filters(float_correct=False), lambda row: row["float_correct"] == 0),
    "right": (Filters(quantized_correct=True), lambda row: row["quantized_correct"] == 1),
    "sure": (Filters(confidence=(0.5, 0.9)), lambda row: 0.5 <= row["float_probability"] <= 0.9),
    "with evidence": (Filters(evidence=True), lambda row: not row["error"] and not row["quantized_degenerate"]),
    "without": (Filters(evidence=False), lambda row: not row["error"] and row["quantized_degenerate"] == 1),
    "both": (
        Filters(flipped=False, confidence=(0, 0.7)),
        lambda row: row["flipped"] == 0 and row["float_probability"] <= 0.7,
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_numbers_are_those_of_a_plain_loop_over_the_rows(table, name):
    filters, keep = CHOICES[name]
    view = study_view(table, filters)
    assert len(view.cells) == len(table.cells)
    everyone = set()
    for cell in table.cells:
        places = passing(table, cell, keep)
        everyone |= set(places)
        found = cell_of(view, cell)
        assert np.flatnonzero(view.chosen[table.cells.index(cell)]).tolist() == places
        assert found.images == len(places)
        for comparison, metrics in table.plan.comparisons.items():
            for metric in metrics:
                values = values_of(table, cell, f"{comparison}_{metric}")
                check_estimate(found.scores[comparison][metric], [values[place] for place in places])
        drift = [1 - value for value in values_of(table, cell, "quantized_v_float_cc")]
        check_estimate(found.drift, [drift[place] for place in places])
        flips = [values_of(table, cell, "flipped")[place] for place in places]
        assert found.flips.count == sum(value == 1 for value in flips)
        assert found.flips.n == sum(not math.isnan(value) for value in flips)
        assert found.errors == sum(values_of(table, cell, "error")[place] == 1 for place in places)
        lost = values_of(table, cell, "quantized_degenerate")
        assert found.degenerate["quantized"] == sum(lost[place] == 1 for place in places)
    assert view.pictures == len(everyone) > 0


def test_parts_of_the_drift_are_those_of_a_plain_loop(table):
    found = cell_of(study_view(table, Filters()), CELL)
    sure = values_of(table, CELL, "float_probability")
    drift = [1 - value for value in values_of(table, CELL, "quantized_v_float_cc")]
    low, high = np.quantile([value for value in sure if not math.isnan(value)], (1 / 3, 2 / 3))
    assert found.terciles == pytest.approx((low, high))
    parts = {(split.by, split.group): split.drift for split in found.splits}
    check_estimate(parts["confidence", "middle"], [d for d, p in zip(drift, sure, strict=True) if low < p <= high])
    flipped = values_of(table, CELL, "flipped")
    check_estimate(parts["flipped", "kept"], [d for d, flag in zip(drift, flipped, strict=True) if flag == 0])
    assert set(parts) >= {("correct", "correct"), ("correct", "wrong"), ("confidence", "low"), ("flipped", "flipped")}


def test_models_bits_and_protocols_leave_a_summary_of_their_own(table):
    view = study_view(table, Filters(models=("resnet50",), settings=("W4A4",), protocols=("paper",)))
    assert [(one.model, one.setting, one.protocol) for one in view.cells] == [CELL]
    plan = view.summary.plan
    assert [model.name for model in plan.models] == ["resnet50"]
    assert [quant.label for quant in plan.quants] == ["W4A4"]
    assert plan.protocols == ("paper",)
    assert not view.chosen[[row for row, cell in enumerate(table.cells) if cell != CELL]].any()
    assert {entry.name for entry in study_tables(view.summary)} >= {"table1", "rates", "drift"}
    assert all("calibrated" not in sentence for sentence in headline(view.summary))


def test_letters_find_files_labels_and_classes(table):
    by_file = study_view(table, Filters(text="00042.JPG"))
    assert np.flatnonzero(by_file.chosen[0]).tolist() == [42]
    assert class_name(282) == "tiger cat"
    by_label = study_view(table, Filters(text="tiger CAT"))
    assert np.flatnonzero(by_label.chosen[0]).tolist() == [282]
    assert study_view(table, Filters(text="no class has this name")).pictures == 0
    assert class_name(3, classes=10) == "class 3"
    assert class_name(math.nan) == ""


@pytest.mark.parametrize("confidence", [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1)])
def test_a_confidence_that_is_no_range_is_refused(confidence):
    with pytest.raises(UsageError, match="no range within 0 and 1"):
        Filters(confidence=confidence)


def test_the_worst_and_the_median_pictures(table):
    view = study_view(table, Filters(flipped=False))
    drift = [1 - value for value in values_of(table, CELL, "quantized_v_float_cc")]
    places = [place for place in passing(table, CELL, lambda row: row["flipped"] == 0) if not math.isnan(drift[place])]
    ordered = sorted(places, key=lambda place: (drift[place], place))
    worst = extremes(view, CELL, "worst", 3)
    assert [one.index for one in worst] == ordered[::-1][:3]
    assert worst[0].drift == pytest.approx(drift[ordered[-1]])
    assert worst[0].path == table.plan.images[ordered[-1]].path
    middle = [ordered.index(one.index) for one in extremes(view, CELL, "median", 3)]
    assert middle == list(range(middle[0], middle[0] + 3))
    assert abs(middle[1] - (len(ordered) - 1) / 2) <= 1
    assert len(extremes(study_view(table, Filters(text="00042.jpg")), CELL, "median", 4)) <= 1
    with pytest.raises(UsageError, match="no cell"):
        extremes(view, ("resnet50", "W3A3", "paper"), "worst", 3)


def test_a_ranking_tells_how_often_other_pictures_would_change_it(table):
    found = ranking(table, "W4A4", "calibrated")
    rows = [table.cells.index((model, "W4A4", "calibrated")) for model in MODELS]
    drift = 1 - table.columns["quantized_v_float_cc"][rows]
    shared = drift[:, ~np.isnan(drift).any(axis=0)]
    assert found.pictures == shared.shape[1]
    assert [one.drift.mean for one in found.models] == pytest.approx(sorted(shared.mean(axis=1)))
    # The normal approximation of the same chance, from the spread of the paired differences.
    first, second = (shared[MODELS.index(one.model)] for one in found.models)
    gap = second - first
    z = gap.mean() / (gap.std(ddof=1) / math.sqrt(len(gap)))
    assert found.models[0].shares[0] == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))), abs=0.05)
    for one in found.models:
        assert sum(one.shares) == pytest.approx(1)
    assert ranking(table, "W4A4", "calibrated") == found
    with pytest.raises(UsageError, match="W5A5"):
        ranking(table, "W5A5", "calibrated")


def test_a_ranking_counts_only_pictures_that_every_model_has(table):
    chosen = np.zeros((len(table.cells), 1100), bool)
    rows = [table.cells.index((model, "W8A8", "paper")) for model in MODELS]
    chosen[rows[0], :40], chosen[rows[1], 20:60] = True, True
    assert ranking(table, "W8A8", "paper", chosen=chosen).pictures == 20
    chosen[rows[1]] = False
    (alone,) = ranking(table, "W8A8", "paper", chosen=chosen).models
    assert (alone.model, alone.shares) == (MODELS[0], (1.0,))
    chosen[:] = False
    assert ranking(table, "W8A8", "paper", chosen=chosen).models == ()


def test_equal_models_share_the_better_rank(table):
    columns = dict(table.columns)
    columns["quantized_v_float_cc"] = np.full_like(columns["quantized_v_float_cc"], 0.75)
    same = ranking(StudyTable(table.plan, table.cells, columns), "W8A8", "paper")
    assert [one.shares for one in same.models] == [(1.0, 0.0)] * 2


def test_where_every_picture_is_left_the_cells_are_those_of_the_summary(study, table):
    whole = summary(study)
    everything = study_view(table, Filters(), whole)
    assert everything.summary == whole
    part = study_view(table, Filters(models=("resnet50",), settings=("W4A4",), text=" "), whole)
    assert part.cells == tuple(one for one in whole.cells if (one.model, one.setting) == ("resnet50", "W4A4"))
    assert all(cell.tests for cell in part.cells)
    narrowed = study_view(table, Filters(flipped=False), whole)
    assert not any(cell.tests for cell in narrowed.cells)


def test_many_pictures_have_the_same_interval_however_they_were_chosen(study, table):
    of_summary, of_view = (cell_of(view, CELL) for view in (summary(study), study_view(table, Filters())))
    assert of_view.drift.method == of_summary.drift.method == statistics.LIMIT
    for one, other in ((of_view.drift, of_summary.drift), (of_view.flips, of_summary.flips)):
        assert (one.n, one.low, one.high) == pytest.approx((other.n, other.low, other.high), abs=1e-12)


def test_a_ranking_has_the_drift_of_the_summary_where_every_model_has_every_picture(tmp_path):
    plan = synthetic_plan(60, models=MODELS, bits=("4",))
    path = synthetic_study(tmp_path / "made", plan)
    table, columns = study_table(path), {}
    for name, values in table.columns.items():
        columns[name] = values[:, 1:]  # the first has no map in either model
    fewer = StudyTable(replace(plan, images=plan.images[1:]), table.cells, columns)
    drifts = {cell.model: cell.drift for cell in sum_up(fewer)}
    ranked = ranking(fewer, "W4A4", "calibrated")
    assert {one.model: one.drift for one in ranked.models} == drifts
    assert {drift.method for drift in drifts.values()} == {"BCa bootstrap, 9,999 resamples"}


def test_filters_act_at_once_on_ten_thousand_pictures_of_24_cells(table, monkeypatch):
    """No resample is drawn: that alone would take seconds. A view takes 0.1 s."""
    plan = synthetic_plan(10_000)
    cells = tuple((model.name, quant.label, "calibrated") for model in plan.models for quant in plan.quants)
    places = np.random.default_rng(0).integers(0, 1100, (24, 10_000))
    rows = np.arange(24)[:, None] % len(table.cells)
    large = StudyTable(plan, cells, {name: values[rows, places] for name, values in table.columns.items()})
    monkeypatch.setattr(statistics.sample, "_drawn", None)
    view = study_view(large, Filters(confidence=(0.2, 0.95), flipped=False, evidence=True, text="n0000001"))
    assert 0 < view.pictures < 10_000
    ranked = ranking(large, "W4A4", "calibrated", chosen=view.chosen, resampled=False)
    assert len(ranked.models) == len(ARCHITECTURES)


def test_what_shows_a_study_imports_no_torch():
    code = (
        "import sys, quantviz.study.sweep.jobs, quantviz.study.filters, quantviz.study.table, "
        "quantviz.study.pictures, quantviz.report.tables, quantviz.study.summary, quantviz.figures\n"
        "print('torch' in sys.modules, 'streamlit' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a small real study of labelled pictures, one of them broken, its pictures and a workbench."""
    home = tmp_path_factory.mktemp("swept")
    (home / "pictures").mkdir()
    folder = labelled_pictures(home / "pictures")
    store = TensorStore(home / "tensors")
    request = SweepRequest(
        dataset=folder,
        models=(SQUEEZE, LITE),
        quants=(specs.spec_of("naive", 8, 8), specs.spec_of("naive", 4, 8)),
        weights={SQUEEZE: "untrained"},
    )
    sweep(request, home / "study", store)
    return study_table(home / "study"), folder, Workbench(store)


@pytest.mark.slow
def test_the_grid_compares_a_picture_as_the_study_did(swept):
    table, _, bench = swept
    index = next(place for place, image in enumerate(table.plan.images) if image.path.endswith("cup.png"))
    with one_thread():  # as a sweep computes: several add up to other last bits
        rows = picture_grid(bench, table.plan, index, pictures_folder(table.plan), table.cells)
    assert [[found.quant.label for found in row] for row in rows] == [["W8A8", "W4A8"]] * 2
    for found in (comparison for row in rows for comparison in row):
        kept = values_of(table, (found.model, found.quant.label, "calibrated"), "quantized_v_float_cc")[index]
        assert found.scores["quantized_v_float"].cc == pytest.approx(kept, abs=1e-6)
        assert found.sample.label == 967
    assert rows[0][0].weights.trained is False


def test_a_studys_request_is_the_one_that_it_was_made_with(swept):
    plan = swept[0].plan
    request = compare_request(plan, (LITE, "W4A8", "calibrated"))
    assert request == CompareRequest(
        model=LITE,
        weights=plan.models[1].weights.name,
        quant=specs.spec_of("naive", 4, 8),
        cam=specs.CamSpec("gradcam++", plan.models[1].layer),
    )
    assert weights_choice(plan, plan.models[0]) == "untrained"
    with pytest.raises(UsageError, match="no cell"):
        compare_request(plan, (LITE, "W5A8", "calibrated"))


def test_pictures_are_known_by_their_bytes(swept, tmp_path):
    plan, folder = swept[0].plan, swept[1]
    index = next(place for place, image in enumerate(plan.images) if image.path.endswith("cup.png"))
    other = tmp_path / plan.images[index].path
    other.parent.mkdir()
    other.write_bytes((folder / "others" / "flower.png").read_bytes())
    with pytest.raises(ImageError, match="another file than the study's"):
        study_picture(plan, index, tmp_path)
    with pytest.raises(ImageError, match=r"name their folder\."):
        pictures_folder(plan, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Picture 6 does not exist; the study has pictures 0 to 5"):
        study_picture(plan, 6, folder)
    assert study_picture(plan, index, folder).id == plan.images[index].sha256


def test_weights_of_a_file_are_looked_for_where_the_command_names_them(swept, tmp_path):
    plan = synthetic_plan(3, models=("resnet50",))
    path = tmp_path / "own weights.pth"
    path.write_bytes(b"1")
    with pytest.raises(UsageError, match=r"one\.pth.*put it there"):
        weights_choice(plan, plan.models[0])
    told = synthetic_plan(3, models=("resnet50",), command=f"quantviz sweep x --weights 'resnet50={path}' --out y")
    assert weights_choice(told, told.models[0]) == str(path)
