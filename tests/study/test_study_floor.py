"""A study's noise floor on disk: read as it was written, and never taken for another study's."""

import json

import pytest
from study_support import SQUEEZE, labelled_pictures, synthetic_plan

from quantviz.api.floor import measure_floor
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.noise import noise_floor
from quantviz.specs import StoreError, spec_of
from quantviz.store import TensorStore
from quantviz.study.floor import FLOOR_FILE, NetworkFloor, StudyFloor, read_floor, write_floor
from quantviz.study.folder import StudyFolder
from quantviz.study.pictures import study_picture
from quantviz.study.planning import SweepRequest
from quantviz.study.shipped import shipped_studies
from quantviz.study.sweep.run import sweep


@pytest.fixture
def floor():
    plan = synthetic_plan(5)
    return plan, StudyFloor(plan.digest, (0, 2, 4), {"vgg16": NetworkFloor((0.1, None, 0.3), (0.02, None, 0.05))})


def test_it_is_read_as_it_was_written(floor, tmp_path):
    plan, wanted = floor
    assert read_floor(tmp_path, plan) is None
    write_floor(tmp_path, wanted)
    found = read_floor(tmp_path, plan)
    assert found == wanted
    assert found.mean("vgg16") == pytest.approx(0.2)  # of the twin that moves the maps more
    assert found.mean("resnet50") is None
    assert found.networks["vgg16"].pictures == (0.1, None, 0.3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": "00"}, "is of another study"),
        ({"format": 2}, "format 2 is unknown"),
        ({"pictures": [0]}, "not a drift for each picture"),
        ({"networks": {"vgg16": {"grey": [3, 0, 0], "shift": [0, 0, 0]}}}, "not within 0 and 2"),
        ({"networks": None}, "cannot be used"),
    ],
)
def test_what_is_no_floor_of_the_study_is_refused(floor, tmp_path, change, said):
    plan, wanted = floor
    write_floor(tmp_path, wanted)
    content = json.loads((tmp_path / FLOOR_FILE).read_text())
    (tmp_path / FLOOR_FILE).write_text(json.dumps(content | change))
    with pytest.raises(StoreError, match=said):
        read_floor(tmp_path, plan)


def test_it_is_that_of_the_pictures_and_unreadable_ones_are_left_out(tmp_path, run, cache):
    (tmp_path / "pictures").mkdir()
    folder = labelled_pictures(tmp_path / "pictures")
    with TensorStore(cache / "tensors") as store:
        request = SweepRequest(folder, (SQUEEZE,), (spec_of("standard", 8, 8),), {SQUEEZE: "untrained"})
        sweep(request, tmp_path / "study", store)
        bench, plan = Workbench(store), StudyFolder(tmp_path / "study").finished_plan()
        found = measure_floor(bench, tmp_path / "study")
        broken = next(place for place, image in enumerate(plan.images) if "broken" in image.path)
        assert found.pictures == tuple(place for place in range(len(plan.images)) if place != broken)
        samples = [study_picture(plan, place, folder) for place in found.pictures]
        wanted = noise_floor(bench, CompareRequest(SQUEEZE, weights="untrained"), samples, calibration=False)
    assert found.mean(SQUEEZE) == pytest.approx(wanted.floor, abs=1e-6)
    assert read_floor(tmp_path / "study", plan).mean(SQUEEZE) == pytest.approx(wanted.floor, abs=1e-6)
    code, out, err = run("floor", tmp_path / "study")
    assert (code, err) == (0, "")
    assert "5 pictures measured" in out
    code, out, err = run("floor", tmp_path / "study", "--pictures", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_the_shipped_study_has_one_for_each_network():
    path = shipped_studies()["imagenet-200"]
    plan = StudyFolder(path).finished_plan()
    floor = read_floor(path, plan)
    assert set(floor.networks) == {model.name for model in plan.models}
    assert all(one.estimate.n == len(plan.images) for one in floor.networks.values())
    assert all(0 < floor.mean(name) < 0.1 for name in floor.networks)
