"""The folder of a study: plans, pieces and results that are whole or absent."""

import json
import resource
from dataclasses import fields, replace

import numpy as np
import pytest

from quantviz.specs import (
    CalibrationRef,
    CamSpec,
    Preprocessing,
    QuantSpec,
    StoreError,
    UsageError,
    WeightsRef,
    digest_of,
    spec_of,
)
from quantviz.study.folder import StudyFolder
from quantviz.study.plan_file import plan_bytes
from quantviz.study.specs.plan import (
    COMPARISONS,
    STUDY_METRICS,
    StudyImage,
    StudyModel,
    StudyPlan,
)
from quantviz.study.specs.row import StudyRow

PREPROCESSING = Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def plan_for(images=5, batch=2, **changes):
    weights = WeightsRef("file", "one.pth", "ab" * 32, PREPROCESSING)
    plan = StudyPlan(
        models=(StudyModel("vgg16", weights, "features.29"), StudyModel("resnet50", weights, "layer4")),
        quants=(spec_of("standard", 8, 8), spec_of("standard", 4, None)),
        protocols=("calibrated", "paper"),
        cam=CamSpec("gradcam"),
        calibration=CalibrationRef("bundled photographs", 40, "cd" * 32),
        saliency="spectral_residual 1",
        images=tuple(StudyImage(f"n0/{place}.png", f"{place:064d}", place) for place in range(images)),
        limit=None,
        seed=None,
        batch=batch,
        versions={"torch": "2.14.1", "numpy": "2.3.4"},
        computation=1,
        dataset="pictures",
        command="quantviz sweep pictures",
    )
    return replace(plan, **changes)


def rows_for(plan, piece):
    rows = []
    for index in range(piece.start, piece.stop):
        for quant in plan.quants:
            known = (index, plan.images[index].sha256, plan.models[piece.model].name, quant.label, "standard")
            if index == 3:
                rows.append(StudyRow(*known, piece.protocol, error="3.png is broken"))
            else:
                cc = index / 10 + piece.number / 100
                told = {"quantized_v_float_cc": cc, "flipped": index % 2 == 0, "label": index, "float_top1": 7}
                rows.append(StudyRow(*known, piece.protocol, **told))
    return rows


def finished(path, plan):
    folder = StudyFolder(path)
    with folder.locked():
        folder.begin(plan)
        for piece in plan.pieces:
            folder.commit(plan, piece, rows_for(plan, piece), {"seen": piece.number / 3})
        folder.finish(plan)
    return folder


def left_behind(path):
    return [file for file in path.rglob("*") if file.name.endswith(".part")]


def test_pieces_cover_every_picture_of_every_model_and_protocol_once():
    plan = plan_for(images=5, batch=2)
    assert [piece.number for piece in plan.pieces] == list(range(2 * 2 * 3))
    seen = [(piece.model, piece.protocol, index) for piece in plan.pieces for index in range(piece.start, piece.stop)]
    assert len(seen) == len(set(seen)) == 2 * 2 * 5
    assert max(piece.stop - piece.start for piece in plan.pieces) == 2
    for run in plan.runs:
        assert len({(piece.model, piece.protocol) for piece in run}) == 1
        assert [piece.start for piece in run] == [0, 2, 4]


def test_columns_are_named_by_comparison_and_metric():
    names = {field.name for field in fields(StudyRow)}
    assert {f"{comparison}_{metric}" for comparison in COMPARISONS for metric in STUDY_METRICS} <= names


def test_a_plan_is_read_back_as_it_was(tmp_path):
    plan = plan_for(quants=(spec_of("best", 4, 8), QuantSpec(3, None, equalize=True)))
    folder = StudyFolder(tmp_path / "study")
    assert folder.plan() is None
    with folder.locked():
        folder.begin(plan)
    assert folder.plan() == plan
    assert folder.plan().digest == plan.digest


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("limit",), 1.5, "1.5 is missing or of another type"),
        (("shard",), [1], "cannot be used"),
        (("images",), "abc", "cannot be used"),
        (("images", 0, "label"), "1", "'1' is missing or of another type"),
        (("models", 0, "weights"), None, "cannot be used"),
        (("models", 0, "layer"), {}, "{} is missing or of another type"),
        (("quants", 0, "more"), 1, "more is unknown"),
        (("protocols",), ["int8"], "Protocol 'int8' is unknown"),
        (("protocols",), ["deployed"], "Protocol 'deployed' runs W8A8"),
        (("versions",), ["torch"], "cannot be used"),
        (("quants", 0, "scheme"), "odd", "'odd' is missing or of another type"),
    ],
)
def test_a_forged_plan_is_refused_in_one_sentence(tmp_path, place, value, told):
    data = json.loads(plan_bytes(plan_for(quants=(QuantSpec(4, 8),))))
    entry = data
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    decides = set(data) - {"format", "digest", "dataset", "command", "shard", "truth", "notes"}
    data["digest"] = digest_of({name: data[name] for name in decides})
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(StoreError) as error:
        StudyFolder(tmp_path).plan()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_where_a_study_lies_and_how_it_was_called_do_not_change_it():
    plan = plan_for()
    moved = replace(plan, dataset="/elsewhere", command="")
    assert moved.digest == plan.digest
    assert plan.difference(moved) == ""


ONE = WeightsRef("file", "other.pth", "12" * 32, PREPROCESSING)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"models": plan_for().models[:1]}, "models resnet50 (one.pth abababab), not vgg16 (one.pth abababab)"),
        (
            {"models": (plan_for().models[0], StudyModel("resnet50", ONE, "layer4"))},
            "models resnet50 (one.pth abababab), not resnet50 (other.pth 12121212)",
        ),
        ({"quants": (spec_of("standard", 8, 8),)}, "quantization W8A8, W4, not W8A8"),
        (
            {"quants": (spec_of("standard", 8, 8), spec_of("standard,mse_weights", 4, None))},
            "quantization weight_ranges minmax, not weight_ranges mse",
        ),
        ({"protocols": ("calibrated",)}, "protocols calibrated,paper, not calibrated"),
        ({"cam": CamSpec("layercam")}, "CAM method gradcam, not layercam"),
        ({"limit": 5}, "limit None, not 5"),
        ({"seed": 1}, "seed None, not 1"),
        ({"calibration": CalibrationRef("mine", 3, "ef" * 32)}, "calibration pictures bundled photographs (40 inputs"),
        ({"saliency": "other"}, "saliency spectral_residual 1, not other"),
        ({"batch": 3}, "batch 2, not 3"),
        ({"versions": {"torch": "2.15", "numpy": "2.3.4"}}, "library versions torch 2.14.1, not torch 2.15"),
        ({"computation": 2}, "version of the computation 1, not 2"),
        ({"images": plan_for(4).images}, "pictures 5, not 4"),
        (
            {"images": (*plan_for(4).images, StudyImage("n0/4.png", "9" * 64, 4))},
            "pictures 'n0/4.png' (sha256 00000000, label 4), not 'n0/4.png' (sha256 99999999, label 4)",
        ),
    ],
)
def test_the_first_difference_of_two_plans_is_told(change, told):
    plan = plan_for()
    other = replace(plan, **change)
    assert plan.difference(other).startswith(told)
    assert other.digest != plan.digest


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[: len(data) // 2], "cannot be used"),
        (lambda data: b"[]", "cannot be used"),
        (lambda data: b"\xff\xfe", "cannot be used"),
        (lambda data: data.replace(b'"batch": 2', b'"batch": 3'), "changed after it was written"),
        (lambda data: data.replace(b'"format": 1', b'"format": 2'), "its format is 2, not 1"),
        (lambda data: data.replace(b'"weight_bits": 8', b'"weight_bits": 99'), "bit-width 99"),
        (lambda data: data.replace(b'"limit"', b'"limits"'), "'limit' is missing"),
    ],
)
def test_a_damaged_plan_is_told_in_a_sentence(tmp_path, damage, told):
    folder = finished(tmp_path, plan_for())
    file = tmp_path / "plan.json"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StoreError, match="begin a new study") as caught:
        folder.plan()
    assert told in str(caught.value)


def test_a_folder_with_other_things_is_no_study(tmp_path):
    (tmp_path / "holiday.txt").write_text("")
    with pytest.raises(UsageError, match=r"is no study but holds 'holiday.txt'"):
        StudyFolder(tmp_path).plan()
    with pytest.raises(UsageError, match="is a file"):
        StudyFolder(tmp_path / "holiday.txt").plan()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    plan = plan_for()
    first, second = finished(tmp_path / "a", plan), finished(tmp_path / "b", plan)
    files = sorted(file.relative_to(first.path) for file in first.path.rglob("*") if file.is_file())
    assert len(files) == len(plan.pieces) + 3
    for file in files:
        assert (first.path / file).read_bytes() == (second.path / file).read_bytes()


def test_results_do_not_depend_on_how_rows_were_cut_into_pieces(tmp_path):
    cut, whole = plan_for(images=8500, batch=4000), plan_for(images=8500, batch=8500)
    numbers = []
    for name, plan in (("cut", cut), ("whole", whole)):
        plan = replace(plan, models=plan.models[:1], protocols=("calibrated",))
        folder = StudyFolder(tmp_path / name)
        with folder.locked():
            folder.begin(plan)
            for piece in plan.pieces:
                rows = [replace(row, quantized_v_float_cc=row.index / 8500) for row in rows_for(plan, piece)]
                folder.commit(plan, piece, rows, {})
            folder.finish(plan)
        numbers.append(folder.results()[1].numbers("vgg16", "W4", "calibrated", "quantized_v_float_cc"))
    assert np.array_equal(*numbers)
    assert len(numbers[0]) == 8500
    assert numbers[0][4001] == 4001 / 8500


def test_results_by_model_bits_and_protocol(tmp_path):
    plan = plan_for()
    folder = finished(tmp_path, plan)
    found, results = folder.results(["quantized_v_float_cc", "flipped", "error"])
    assert found == plan
    expected = []
    for piece in plan.pieces:
        if (piece.model, piece.protocol) == (1, "paper"):
            rows = rows_for(plan, piece)
            expected += [row.quantized_v_float_cc for row in rows if row.setting == "W4"]
    values = results.numbers("resnet50", "W4", "paper", "quantized_v_float_cc")
    assert values.tolist()[:3] == expected[:3]
    assert np.isnan(values).tolist() == [False, False, False, True, False]
    flipped = results.numbers("resnet50", "W4", "paper", "flipped")
    assert flipped[[0, 1, 2, 4]].tolist() == [1, 0, 1, 1]
    assert np.isnan(flipped[3])
    assert results.texts("vgg16", "W8A8", "calibrated", "error") == ["", "", "", "3.png is broken", ""]


def test_a_piece_is_there_with_its_state_or_not_at_all(tmp_path):
    plan = plan_for()
    folder = StudyFolder(tmp_path)
    piece, other = plan.pieces[1], plan.pieces[2]
    with folder.locked():
        folder.begin(plan)
        assert not folder.has(plan, piece)
        state = {"W8A8": {"features.0": [-0.1, float(np.float32(0.3))]}}
        folder.commit(plan, piece, rows_for(plan, piece), state)
    assert folder.has(plan, piece)
    assert folder.state(piece) == state
    assert not folder.has(plan, other)
    assert not folder.has(replace(plan, computation=2), piece)
    file = tmp_path / "pieces" / "000001.parquet"
    file.rename(tmp_path / "pieces" / "000002.parquet")
    assert not folder.has(plan, other)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_piece_that_was_cut_off_is_not_there(tmp_path, part):
    plan = plan_for()
    folder = finished(tmp_path, plan)
    file = tmp_path / "pieces" / "000004.parquet"
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    assert not folder.has(plan, plan.pieces[4])
    with pytest.raises(StoreError, match=r"000004.parquet' is damaged; delete it"):
        folder.finish(plan)
    assert left_behind(tmp_path) == []


def test_flipped_bits_are_found_when_the_results_are_written_and_read(tmp_path):
    plan = plan_for(images=2000, batch=2000, models=plan_for().models[:1], protocols=("calibrated",))
    folder = finished(tmp_path, plan)
    for name in ("pieces/000000.parquet", "results.parquet"):
        file = tmp_path / name
        data = bytearray(file.read_bytes())
        place = data.find(b"\x28\xb5\x2f\xfd") + 40  # inside the first compressed page
        data[place] ^= 0xFF
        file.write_bytes(data)
    with pytest.raises(StoreError, match=r"results.parquet' is damaged; delete it"):
        folder.results()
    with pytest.raises(StoreError, match=r"000000.parquet' is damaged; delete it"):
        folder.finish(plan)


def test_two_sweeps_cannot_write_one_study(tmp_path):
    with StudyFolder(tmp_path).locked():
        with pytest.raises(UsageError, match="Another sweep is writing"), StudyFolder(tmp_path).locked():
            pass
    with StudyFolder(tmp_path).locked():
        pass


def test_what_a_killed_sweep_left_half_written_is_removed(tmp_path):
    folder = finished(tmp_path, plan_for())
    left = [tmp_path / "results.parquet.part", tmp_path / "pieces" / "000007.parquet.part"]
    for file in left:
        file.write_bytes(b"PAR1")
    with folder.locked():
        assert left_behind(tmp_path) == []


def test_a_disk_without_room_leaves_the_study_as_it_was(tmp_path):
    plan = plan_for(images=4000, batch=4000)
    folder = StudyFolder(tmp_path)
    piece = plan.pieces[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with folder.locked():
        folder.begin(plan)
        rows = rows_for(plan, piece)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, hard))
        try:
            with pytest.raises(StoreError, match="cannot be written"):
                folder.commit(plan, piece, rows, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert left_behind(tmp_path) == []
        assert not folder.has(plan, piece)
        folder.commit(plan, piece, rows, {})
    assert folder.has(plan, piece)


def test_an_unfinished_or_absent_study_has_no_results(tmp_path):
    plan = plan_for()
    folder = StudyFolder(tmp_path / "study")
    with pytest.raises(UsageError, match="There is no study"):
        folder.results()
    with folder.locked():
        folder.begin(plan)
        folder.commit(plan, plan.pieces[0], rows_for(plan, plan.pieces[0]), {})
    with pytest.raises(UsageError, match=r"is not finished \(1 of 12 pieces\); .*: quantviz sweep pictures"):
        folder.results()


def test_the_plan_holds_pictures_with_digests_and_settings(tmp_path):
    finished(tmp_path, plan_for())
    data = json.loads((tmp_path / "plan.json").read_text())
    assert data["images"][1] == {"path": "n0/1.png", "sha256": f"{1:064d}", "label": 1}
    assert [model["weights"]["sha256"] for model in data["models"]] == ["ab" * 32] * 2
    assert data["versions"]["torch"] == "2.14.1"
    assert data["command"] == "quantviz sweep pictures"
