"""Drift and changed classes by thirds of the pictures' properties, and studies that were swept without these."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from study_support import one, synthetic_plan, synthetic_rows, synthetic_study

from quantviz import statistics
from quantviz.report.properties import property_tables
from quantviz.report.tables import csv_bytes
from quantviz.report.wide import all_tables
from quantviz.specs import GroundTruth
from quantviz.study.cells import sum_up
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import PROPERTY_COLUMNS, StudyTruth, TruthFile
from quantviz.study.specs.summary import StudySummary
from quantviz.study.summary import report_summary, summary, summary_table
from quantviz.study.sweep.properties import brightness, object_share, picture_properties
from quantviz.study.table import study_table
from quantviz.study.tables import read_notes, read_table, write_tables

COUNT = 90
COLUMNS = {"brightness": "brightness", "object_share": "object_share", "confidence": "float_probability"}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Return a study that was swept before there were properties."""
    plan = synthetic_plan(COUNT, models=("squeezenet1_1",), bits=("8", "4"))
    path = synthetic_study(tmp_path_factory.mktemp("studies") / "old", plan)
    notes, _ = read_notes(path / "results.parquet")
    rows = read_table(path / "results.parquet").drop_columns(["brightness"])
    write_tables(path / "results.parquet", [rows], notes)
    return path


@pytest.fixture(scope="module")
def table(old):
    """Return its table with properties: a brightness of nearly all pictures, an object's share of a few."""
    random, whole = np.random.default_rng(7), study_table(old)
    bright, share = random.random(COUNT), np.where(np.arange(COUNT) % 4, np.nan, random.random(COUNT))
    bright[::13] = np.nan
    columns = dict(whole.columns) | {"brightness": np.stack([bright] * 2), "object_share": np.stack([share] * 2)}
    return replace(whole, columns=columns)


@pytest.fixture(scope="module")
def summed(table):
    return StudySummary(table.plan, sum_up(table), {})


def test_thirds_are_those_of_pandas(table, summed):
    for row, cell in enumerate(summed.cells):
        frame = pd.DataFrame({name: values[row] for name, values in table.columns.items()})
        frame["drift"] = 1 - frame["quantized_v_float_cc"]
        assert [(third.by, third.group) for third in cell.thirds] == [
            (by, group) for by in COLUMNS for group in ("low", "middle", "high")
        ]
        for by, column in COLUMNS.items():
            part_of = pd.qcut(frame[column], 3, labels=["low", "middle", "high"])
            for third in (third for third in cell.thirds if third.by == by):
                part = frame[part_of == third.group]
                assert third.pictures == len(part)
                assert part[column].max() <= (np.inf if third.up_to is None else third.up_to)
                assert part[column].min() > (-np.inf if third.above is None else third.above)
                assert (third.drift.n, third.drift.mean) == (part["drift"].count(), pytest.approx(part["drift"].mean()))
                expected = statistics.summary(part["drift"].to_numpy()).interval
                ends = (expected.low, expected.high, expected.method)
                assert (third.drift.low, third.drift.high, third.drift.method) == ends
                assert (third.flips.n, third.flips.count) == (part["flipped"].count(), part["flipped"].sum())
                low, high = statistics.wilson([third.flips.count], [third.flips.n])
                assert (third.flips.low, third.flips.high) == (low[0], high[0])


def test_the_thirds_by_confidence_are_those_of_the_drift_table(summed):
    for cell in summed.cells:
        splits = {split.group: split.drift for split in cell.splits if split.by == "confidence"}
        thirds = {third.group: third for third in cell.thirds if third.by == "confidence"}
        assert {group: third.drift for group, third in thirds.items()} == splits
        assert (thirds["low"].up_to, thirds["high"].above) == cell.terciles


def test_equal_values_stay_together(table):
    columns = dict(table.columns) | {"brightness": np.full_like(table.columns["brightness"], 0.5)}
    cell = sum_up(replace(table, columns=columns), [0])[0]
    assert [(third.group, third.pictures) for third in cell.thirds if third.by == "brightness"] == [("low", COUNT)]


def test_json_csv_and_the_table_have_the_same_numbers(summed):
    third = next(third for third in summed.cells[1].thirds if (third.by, third.group) == ("object_share", "high"))
    told = json.loads(json.dumps(report_summary(summed), allow_nan=False))["cells"][1]["thirds"]
    entry = one(told, by="object_share", group="high")
    assert (entry["drift"]["mean"], entry["flips"]["value"]) == (third.drift.mean, third.flips.value)
    lines = list(csv.DictReader(io.StringIO(summary_table(summed).decode())))
    line = one(lines, setting="W4A4", comparison="drift", metric="object_share_high")
    assert float(line["mean"]) == third.drift.mean
    assert one(lines, setting="W4A4", comparison="drift", metric="confidence_low")["n"]  # once, as it was
    line = one(lines, setting="W4A4", comparison="top1", metric="flips_object_share_high")
    assert float(line["mean"]) == third.flips.value
    (shown,) = property_tables(summed)
    assert "ground truth's boxes" in shown.title
    assert "BCa" in shown.title
    lines = csv.DictReader(io.StringIO(csv_bytes(shown).decode()))
    line = one(lines, setting="W4A4", property="object's share", third="high")
    assert (float(line["drift_mean"]), float(line["flips_value"])) == (third.drift.mean, third.flips.value)
    assert (float(line["above"]), line["up_to"], int(line["pictures"])) == (third.above, "", third.pictures)


def test_an_old_study_has_what_is_known(old):
    assert not {*PROPERTY_COLUMNS} & {*pq.read_schema(old / "results.parquet").names}
    assert np.isnan(study_table(old).columns["brightness"]).all()
    found = summary(old)
    assert {third.by for cell in found.cells for third in cell.thirds} == {"confidence"}
    shown = next(one for one in all_tables(found) if one.name == "properties")
    assert "brightness" not in shown.title
    assert {row[3] for row in shown.rows} == {"confidence"}


def test_a_study_begun_before_there_were_properties_is_finished_with_both_kinds_of_pieces(old, tmp_path):
    plan = synthetic_plan(8, models=("squeezenet1_1",), bits=("8",), batch=4)
    files = tuple(TruthFile(f"{place}.csv", "ab" * 32) for place in range(8))
    plan = replace(plan, truth=StudyTruth("boxes", ("energy_pointing",), files))
    path = synthetic_study(tmp_path / "study", plan)
    folder, (_, second) = StudyFolder(path), plan.pieces
    known = {"brightness": 0.25, "object_share": 0.5}
    rows = [replace(row, properties=known) for row in synthetic_rows(plan, second, np.random.default_rng(0))]
    with folder.locked():
        folder.commit(plan, second, rows, {})
        folder.finish(plan)
    assert folder.finished(plan)
    columns = study_table(path).columns
    for name, value in known.items():
        np.testing.assert_array_equal(columns[name], [[np.nan] * 4 + [value] * 4])
    assert summary(path).truths == 8


def test_brightness_and_share_of_made_up_pictures():
    white, red = np.full((4, 6, 3), 255, np.uint8), np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 255
    assert (brightness(white), brightness(red), brightness(0 * red)) == (1.0, 0.299, 0.0)
    boxes = np.array([[0.0, 0.0, 3.0, 2.0], [2.0, 1.0, 4.0, 4.0]])  # 6 and 6 pixels, of which they share one
    assert object_share(GroundTruth("boxes", (4, 6), "a.csv", False, boxes=boxes)) == 11 / 24
    tiny = np.array([[0.1, 0.1, 0.2, 0.2]])
    assert object_share(GroundTruth("boxes", (4, 6), "a.csv", False, boxes=tiny)) == 0
    mask = np.array([[1, 0, np.nan, 1]], np.float32)
    of_mask = GroundTruth("mask", (1, 4), "a.png", False, values=mask)
    assert object_share(of_mask) == 0.5
    assert object_share(GroundTruth("map", (1, 4), "a.png", False, values=np.ones((1, 4), np.float32))) is None
    assert picture_properties(PROPERTY_COLUMNS, white, of_mask) == {"brightness": 1.0, "object_share": 0.5}
    assert picture_properties(("brightness",), white, of_mask) == {"brightness": 1.0}
    assert picture_properties(PROPERTY_COLUMNS, white, "a.csv: no box lies in the crop.")["object_share"] is None
