"""A study that measures how faithful its maps are, and studies from before there was such a thing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from study_support import rows_of, synthetic_plan, synthetic_study

from quantviz import images
from quantviz.cam import FAITHFULNESS, faithfulness
from quantviz.comparison.workbench import Workbench
from quantviz.report.wide import all_tables
from quantviz.specs import UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.plan_file import plan_bytes, read_plan
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.plan import FAITHFUL_COLUMNS, FAITHFUL_METRICS
from quantviz.study.specs.summary import Estimate
from quantviz.study.summary import report_summary, summary, summary_table
from quantviz.study.sweep.rows import RowMaker
from quantviz.study.sweep.run import sweep


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    plan = synthetic_plan(30, models=("squeezenet1_1",), bits=("8", "4"), faithful=True)
    return synthetic_study(tmp_path_factory.mktemp("faithful") / "study", plan)


def test_the_metrics_are_those_of_the_maps_room():
    assert set(FAITHFUL_METRICS) == set(FAITHFULNESS)


def test_rows_and_means_are_kept(study):
    rows, found = rows_of(study), summary(study)
    assert set(FAITHFUL_COLUMNS) <= set(rows[0])
    for cell in found.cells:
        own = [row for row in rows if row["setting"] == cell.setting]
        for metric, sides in cell.faithful.items():
            for side in ("float", "quantized"):
                assert sides[side].mean == pytest.approx(np.mean([row[f"{side}_{metric}"] for row in own]))
            changes = [row[f"quantized_{metric}"] - row[f"float_{metric}"] for row in own]
            assert sides["change"].mean == pytest.approx(np.mean(changes))
            assert sides["change"].low < sides["change"].mean < sides["change"].high


def test_summary_csv_json_and_report_have_them(study):
    found = summary(study)
    lines = summary_table(found).decode()
    assert "float_faithfulness,deletion" in lines
    assert "quantized_minus_float_faithfulness,road" in lines
    told = json.loads(json.dumps(report_summary(found)))
    assert set(told["cells"][0]["faithful"]["insertion"]) == {"float", "quantized", "change"}
    table = next(one for one in all_tables(found) if one.name == "faithfulness")
    assert len(table.rows) == 2 * len(FAITHFUL_METRICS)
    assert isinstance(table.rows[0][-1], Estimate)


def test_a_kept_summary_is_the_computed_one(study, tmp_path):
    with TensorStore(tmp_path / "cache") as store:
        first = summary(study, store=store)
        assert summary(study, store=store) == first
    assert first.cells[0].faithful


def test_a_study_without_is_what_it_was():
    plan = synthetic_plan(4)
    assert plan.digest == read_plan(plan_bytes(plan)).digest
    entry = json.loads(plan_bytes(plan))
    entry.pop("faithful", None)  # as plans of before have it
    before = read_plan(json.dumps(entry).encode())
    assert (before.faithful, before.faithful_columns, before.digest) == (False, (), plan.digest)
    other = replace(plan, faithful=True)
    assert other.digest != plan.digest
    assert plan.difference(other) == "faithfulness False, not True"
    assert read_plan(plan_bytes(other)) == other


def test_observers_that_follow_the_pictures_are_refused(tmp_path):
    with pytest.raises(UsageError, match="which the observers of protocol 'paper' would see"):
        SweepRequest(tmp_path, ("squeezenet1_1",), (spec_of("standard"),), protocols=("paper",), faithful=True)


@pytest.mark.slow
def test_rows_are_what_the_maps_room_measures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    images.bundled("coffee")
    from PIL import Image

    Image.fromarray(images.bundled("coffee").rgb).save(folder / "coffee.png")
    request = SweepRequest(
        folder, ("squeezenet1_1",), (spec_of("standard"),), weights={"squeezenet1_1": "untrained"}, faithful=True
    )
    with TensorStore(tmp_path / "cache") as store:
        plan = sweep(request, tmp_path / "study", store).plan
        (row,) = rows_of(tmp_path / "study")
        maker = RowMaker(Workbench(store), plan, request, plan.pieces[0], lambda *_: None)
        picture = maker.load(plan.images[0])
        sides = {"float": maker.float_network, "quantized": maker.networks["W8A8"]}
        for side, network in sides.items():
            result = maker._result(picture, network, None if side == "float" else maker.variants[0], row["float_class"])
            found = faithfulness(network[0], torch.from_numpy(picture.input), result.heatmap, row["float_class"])
            for metric in FAITHFUL_METRICS:
                assert row[f"{side}_{metric}"] == found[metric].value
