"""What a study sums up to: numbers of its rows, tests, ground truth, files, and its size."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from study_support import (
    BROKEN,
    LITE,
    cost_of_summary,
    labelled_pictures,
    one,
    rows_of,
    synthetic_plan,
    synthetic_study,
)

from quantviz import images, scores, statistics
from quantviz.cam import one_thread
from quantviz.comparison import CompareRequest, Workbench, measure, truth_source
from quantviz.specs import QuantvizError, StoredRecord, spec_of
from quantviz.store import TensorStore
from quantviz.study import summary as summary_module
from quantviz.study.cells import rates
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.plan import COMPARISONS, STUDY_METRICS, StudyTruth, TruthFile
from quantviz.study.summary import MARGINS, margin, report_summary, summary, summary_table
from quantviz.study.sweep.run import sweep
from quantviz.study.table import study_table

QUANTS = (spec_of("standard", 6, 6), spec_of("standard", 3, 8))
LOST = "others/rocket.png"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return labelled_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def truth(tmp_path_factory, pictures):
    """Return a folder of boxes: two pictures have theirs, one a file that is none, one a box outside the crop."""
    folder = tmp_path_factory.mktemp("truth")
    (folder / "cup.csv").write_text("x0,y0,x1,y1\n90,90,300,310\n")
    (folder / "flower.csv").write_text("x0,y0,x1,y1\n50,60,200,220\n240,200,300,260\n")
    (folder / "rocket.csv").write_text("x0,y0,x1,y1\n1,2,three,4\n")
    (folder / "1.csv").write_text("x0,y0,x1,y1\n0,0,5,5\n")
    (folder / "broken.csv").write_text("x0,y0,x1,y1\n0,0,5,5\n")
    return folder


@pytest.fixture(scope="module")
def asked(pictures, truth):
    return SweepRequest(pictures, (LITE,), QUANTS, truth=truth, truth_kind="boxes")


@pytest.fixture(scope="module")
def study(asked, tmp_path_factory):
    """Return a study of the bundled network with ground truth."""
    out = tmp_path_factory.mktemp("studies") / "trained"
    with TensorStore(tmp_path_factory.mktemp("cache")) as store:
        assert sweep(asked, out, store).computed == 1
    return out


def column(rows, name, setting):
    return np.array([np.nan if row[name] is None else row[name] for row in rows if row["setting"] == setting], float)


def test_the_summary_is_that_of_the_rows(study):
    rows, found = rows_of(study), summary(study)
    assert [(cell.model, cell.setting, cell.protocol) for cell in found.cells] == [
        (LITE, "W6A6", "calibrated"),
        (LITE, "W3A8", "calibrated"),
    ]
    for cell in found.cells:
        assert (cell.images, cell.errors) == (6, 1)
        for comparison in COMPARISONS:
            for metric in STUDY_METRICS:
                values = column(rows, f"{comparison}_{metric}", cell.setting)
                values = values[~np.isnan(values)]
                mark = cell.scores[comparison][metric]
                assert mark.n == len(values)
                assert mark.mean == pytest.approx(values.mean())
                assert mark.sd == pytest.approx(values.std(ddof=1))
                interval = statistics.summary(values).interval
                ends = (interval.low, interval.high, interval.method) if interval else (None, None, None)
                assert (mark.low, mark.high, mark.method) == ends
        drift = 1 - column(rows, "quantized_v_float_cc", cell.setting)
        flipped = column(rows, "flipped", cell.setting)
        assert cell.drift.mean == pytest.approx(np.nanmean(drift))
        assert (cell.flips.n, cell.flips.count) == (5, np.nansum(flipped))
        splits = {(split.by, split.group): split.drift for split in cell.splits}
        for group, value in (("flipped", 1), ("kept", 0)):
            if (flipped == value).any():
                assert splits["flipped", group].mean == pytest.approx(np.nanmean(drift[flipped == value]))
        assert sum(drift.n for (by, _), drift in splits.items() if by == "confidence") == cell.drift.n
        sure = column(rows, "float_probability", cell.setting)
        ranks = np.argsort(np.argsort(np.where(np.isnan(sure), 9, sure)))
        assert splits["confidence", "low"].mean == pytest.approx(np.nanmean(drift[ranks < 2]))
        labelled = column(rows, "float_correct", cell.setting)
        assert (cell.float_accuracy.n, cell.float_accuracy.count) == (3, np.nansum(labelled))
        assert cell.accuracy.count == np.nansum(column(rows, "quantized_correct", cell.setting))
    assert len(found.reasons) == 1
    assert list(found.reasons.values()) == [1]


def test_tests_against_the_saliency_are_paired_and_corrected_together(study):
    rows, found = rows_of(study), summary(study)
    for cell in found.cells:
        for metric in STUDY_METRICS:
            first, second = (
                column(rows, f"{name}_v_saliency_{metric}", cell.setting) for name in ("quantized", "float")
            )
            expected = statistics.paired(first, second, margin=MARGINS[metric])
            test = cell.tests[metric]
            assert test.change.mean == pytest.approx(np.nanmean(first - second))
            assert (test.p, test.rank_biserial) == (expected.signed_rank.p, expected.rank_biserial)
            assert cell.setting in test.words
            assert "Holm-corrected over 20 tests" in test.words  # 3 with the saliency, 7 with the ground truth
    every = [test for cell in found.cells for tests in (cell.tests, cell.truth_tests) for test in tests.values()]
    assert [test.p_adjusted for test in every] == pytest.approx(statistics.holm([test.p for test in every]).tolist())


def test_a_rate_is_the_part_of_the_chosen_pictures_that_have_a_flag():
    flags = np.array([[1.0] * 4 + [0.0] * 7 + [np.nan], [np.nan] * 12])
    chosen = np.ones(flags.shape, bool)
    chosen[0, 0] = False
    some, none = rates(flags, chosen)
    assert (some.n, some.count, some.value) == (10, 3, 0.3)
    assert (some.low, some.high) == tuple(end.item() for end in statistics.wilson([3], [10]))
    assert (some.method, none.method) == ("Wilson score", None)
    assert (none.n, none.value) == (0, None)


def test_the_summary_as_json_and_csv(study):
    found = summary(study)
    told = json.loads(json.dumps(report_summary(found), allow_nan=False))
    assert told["plan"]["images"] == 6
    assert told["plan"]["labelled"] == 4
    assert told["plan"]["digest"] == json.loads((study / "plan.json").read_text())["digest"]
    assert [entry["label"] for entry in told["plan"]["settings"]] == ["W6A6", "W3A8"]
    assert told["cells"][0]["flips"]["value"] == found.cells[0].flips.value
    lines = list(csv.DictReader(io.StringIO(summary_table(found).decode())))
    line = one(lines, setting="W3A8", comparison="quantized_v_float", metric="cc")
    mark = found.cells[1].scores["quantized_v_float"]["cc"]
    assert (int(line["n"]), float(line["mean"]), float(line["sd"])) == (mark.n, mark.mean, mark.sd)
    assert {line["comparison"] for line in lines} >= {*COMPARISONS, "drift", "top1", "quantized_minus_float_v_saliency"}


def test_rows_say_how_maps_agree_with_the_ground_truth(study, pictures, truth, tmp_path):
    rows = rows_of(study)
    with TensorStore(tmp_path) as store, one_thread():  # as a sweep computes: several add up to other last bits
        bench = Workbench(store)
        for path, file in (("n07920052/cup.png", "cup.csv"), ("others/flower.png", "flower.csv")):
            sample = images.load(pictures / path)
            for quant in QUANTS:
                request = CompareRequest(LITE, quant=quant)
                source = truth_source(truth / file, "boxes")
                table = measure(bench, request, bench.compare(request, sample), source)[-1]
                row = one(rows, sha256=sample.id, setting=quant.label)
                assert row["truth_error"] == ""
                for side in ("float", "quantized"):
                    for metric, mark in table.columns[side].items():
                        assert row[f"{side}_v_truth_{metric}"] == pytest.approx(mark.value, abs=1e-9)
    names = {name.removeprefix("float_v_truth_") for name in rows[0] if name.startswith("float_v_truth_")}
    assert names == {name for name, metric in scores.METRICS.items() if "boxes" in metric.truths}


def test_rows_have_the_properties_of_what_the_network_sees(study, pictures, truth):
    rows, plan = rows_of(study), study_table(study).plan
    preprocessing = plan.models[0].weights.preprocessing
    for row in rows:
        path = plan.images[row["index"]].path
        if path == BROKEN:
            assert (row["brightness"], row["object_share"]) == (None, None)
            continue
        crop = images.crop(images.load(pictures / path).rgb, preprocessing).astype(np.float64)
        red, green, blue = (crop[..., channel] for channel in range(3))
        assert row["brightness"] == pytest.approx((0.299 * red + 0.587 * green + 0.114 * blue).mean() / 255, abs=1e-12)
        file = {"n07920052/cup.png": "cup.csv", "others/flower.png": "flower.csv"}.get(path)
        assert (row["object_share"] is None) == (file is None)
        if file is not None:
            boxes = truth_source(truth / file, "boxes").read(images.load(pictures / path), preprocessing).boxes
            inside = np.zeros(crop.shape[:2], bool)
            for y, x in np.ndindex(inside.shape):
                inside[y, x] = any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes)
            assert row["object_share"] == inside.mean()
    assert {row["brightness"] for row in rows if row["setting"] == "W6A6"} == {row["brightness"] for row in rows}
    thirds = [third for third in summary(study).cells[0].thirds if third.by != "confidence"]
    counts = [(third.by, third.group, third.pictures) for third in thirds]
    assert counts == [
        *(("brightness", group, count) for group, count in (("low", 2), ("middle", 1), ("high", 2))),
        *(("object_share", group, 1) for group in ("low", "high")),
    ]


def test_ground_truth_that_cannot_be_used_is_told_and_leaves_the_picture_its_other_numbers(study):
    table = study_table(study)
    plan = table.plan
    for row in rows_of(study):
        path = plan.images[row["index"]].path
        agreement = [row[name] for name in plan.truth_columns]
        if path == LOST:
            assert row["truth_error"].startswith("rocket.csv has 'three' in line 2")
        elif path.endswith("/1.png"):
            assert row["truth_error"] == "1.csv: no box lies in the crop."
        else:
            assert row["truth_error"] == ""
        used = path in ("n07920052/cup.png", "others/flower.png")
        assert all((value is not None) == used for value in agreement)
        assert (row["quantized_v_float_cc"] is not None) == (path != BROKEN)
    flags = table.columns["truth_error"]
    assert flags.sum() == 2 * len(table.cells)
    assert np.isnan(table.columns["quantized_v_truth_pointing_game"]).sum() == 4 * len(table.cells)


def test_the_summary_tests_the_agreement_with_the_ground_truth(study, truth):
    rows, found = rows_of(study), summary(study)
    assert found.truths == 3  # the broken picture has a file too, of which nothing bad is known
    assert sorted(found.truth_reasons.values()) == [1, 1]
    for cell in found.cells:
        for metric in found.plan.truth.metrics:
            values = [column(rows, f"{side}_v_truth_{metric}", cell.setting) for side in ("float", "quantized")]
            for side, of_side in zip(("float", "quantized"), values, strict=True):
                assert cell.scores[f"{side}_v_truth"][metric].mean == pytest.approx(np.nanmean(of_side))
            test = cell.truth_tests[metric]
            assert (test.change.n, test.change.mean) == (2, pytest.approx(np.nanmean(values[1] - values[0])))
            assert "with the ground truth" in test.words
            assert scores.METRICS[metric].title in test.words
    told = report_summary(found)
    assert told["plan"]["truth"] == {
        "kind": "boxes",
        "metrics": found.plan.truth.metrics,
        "files": 5,
        "folder": str(truth),
    }
    assert told["truth_errors"] == found.truth_reasons
    lines = list(csv.DictReader(io.StringIO(summary_table(found).decode())))
    line = one(lines, setting="W3A8", comparison="quantized_v_truth", metric="energy_pointing")
    assert float(line["mean"]) == found.cells[1].scores["quantized_v_truth"]["energy_pointing"].mean
    assert one(lines, setting="W6A6", comparison="quantized_minus_float_v_truth", metric="pointing_game")["n"] == "2"


def test_margins_follow_the_range_of_a_metric():
    assert (margin("cc"), margin("kld")) == (MARGINS["cc"], MARGINS["kld"])
    assert (margin("auc_judd"), margin("s_measure"), margin("nss")) == (0.05, 0.05, 0.1)


def test_ground_truth_that_changes_while_the_sweep_runs_ends_it(asked, truth, tmp_path):
    file = truth / "cup.csv"
    data = file.read_bytes()

    def change(message, fraction, _phase=None):
        if message.startswith("Loading"):
            file.write_text("x0,y0,x1,y1\n1,1,9,9\n")

    try:
        with TensorStore(tmp_path / "cache") as store, pytest.raises(QuantvizError, match=r"'cup.csv' changed since"):
            sweep(asked, tmp_path / "study", store, change)
    finally:
        file.write_bytes(data)


def test_masks_and_maps_are_scored_on_the_pixels_of_the_crop(tmp_path):
    folder, truth = tmp_path / "pictures", tmp_path / "truth"
    folder.mkdir()
    truth.mkdir()
    rgb = images.bundled("chelsea").rgb[:240, :400]
    Image.fromarray(rgb).save(folder / "cat.png")
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[:, 150:250] = 255  # a full-height band in the middle, of which the square crop of the middle keeps all
    Image.fromarray(mask).save(truth / "cat.png")
    for kind in ("mask", "map"):
        request = SweepRequest(folder, (LITE,), (spec_of("standard"),), truth=truth, truth_kind=kind)
        with TensorStore(tmp_path / "cache") as store:
            sweep(request, tmp_path / kind, store)
    (of_mask,), (of_map,) = rows_of(tmp_path / "mask"), rows_of(tmp_path / "map")
    assert 0.3 < of_mask["float_v_truth_energy_pointing"] <= 1  # the cat's face is in the band, 100 of 240 pixels wide
    assert of_mask["float_v_truth_mae"] is not None
    assert of_mask["object_share"] == pytest.approx(100 / 240 * (256 / 224), abs=0.01)
    assert "object_share" not in of_map
    assert of_map["float_v_truth_cc"] > 0.1
    assert of_map["quantized_v_truth_kld"] > 0


def test_a_summary_is_kept_and_read_back_as_it_was(study, tmp_path):
    told = []
    with TensorStore(tmp_path) as store:
        found = summary(study, lambda message, fraction, _phase=None: told.append(message), store=store)
        assert told
        told.clear()
        again = summary(study, lambda message, fraction, _phase=None: told.append(message), store=store)
    assert told == []
    assert again == found == summary(study)
    assert json.dumps(report_summary(again)) == json.dumps(report_summary(found))


def test_a_summary_that_an_older_version_kept_is_made_anew(tmp_path, monkeypatch):
    path = synthetic_study(tmp_path / "study", synthetic_plan(30, models=("vgg16",), bits=("4",)))
    with TensorStore(tmp_path / "cache") as store:
        now, version = summary(path), summary_module.SUMMARY_VERSION
        monkeypatch.setattr(summary_module, "SUMMARY_VERSION", version - 1)
        monkeypatch.setattr(
            summary_module, "pack_summary", lambda whole: StoredRecord({}, {"cells": [], "reasons": {}})
        )
        summary(path, store=store)
        assert summary(path, store=store).cells == ()  # what that version reads
        monkeypatch.undo()
        assert summary(path, store=store) == now


def test_other_results_have_another_summary(tmp_path):
    plan = synthetic_plan(30, models=("vgg16",), bits=("4",))
    with TensorStore(tmp_path / "cache") as store:
        means = [
            summary(synthetic_study(tmp_path / str(seed), plan, seed=seed), store=store).cells[0].drift.mean
            for seed in (1, 2)
        ]
    assert means[0] != means[1]


def test_a_study_with_ground_truth_of_few_pictures_has_their_numbers_only(tmp_path):
    plan = synthetic_plan(40, models=("vgg16",), bits=("8", "4"))
    files = tuple(TruthFile(f"{place}.csv", "ab" * 32) if place % 2 else None for place in range(40))
    plan = replace(plan, truth=StudyTruth("fixations", ("nss", "auc_judd"), files))
    found = summary(synthetic_study(tmp_path / "study", plan))
    assert found.truths == 20
    cell = found.cells[0]
    assert {name: list(marks) for name, marks in cell.scores.items() if "truth" in name} == {
        "float_v_truth": ["nss", "auc_judd"],
        "quantized_v_truth": ["nss", "auc_judd"],
    }
    assert "Holm-corrected over 10 tests" in cell.truth_tests["nss"].words


@pytest.mark.slow
def test_two_thousand_pictures_take_little_memory(tmp_path):
    # The full size is in tests/long/test_summary_long.py.
    cells, _, mebibytes = cost_of_summary(synthetic_study(tmp_path / "study", synthetic_plan(2_000)))
    assert cells == 24
    assert mebibytes < 800  # 400 were measured
