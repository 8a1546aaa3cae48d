"""Studies as Python has them."""

import shutil

import pytest

import quantviz as qv


@pytest.fixture(scope="module")
def study():
    return qv.open_study("imagenet-200")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, cache):
    monkeypatch.setenv("QUANTVIZ_CACHE", str(cache))


def test_rows_are_a_data_frame_that_agrees_with_the_summary(study):
    rows = study.to_pandas()
    plan = study.plan
    assert len(rows) == len(plan.images) * len(plan.cells)
    assert rows.columns[0] == "image"
    assert rows["image"][0] == plan.images[rows["index"][0]].path
    cell = study.summary().cells[1]
    own = rows.query("model == @cell.model and setting == @cell.setting and protocol == @cell.protocol")
    assert own["quantized_v_float_cc"].mean() == pytest.approx(cell.scores["quantized_v_float"]["cc"].mean)
    assert own["flipped"].sum() == cell.flips.count
    assert study.summary() is study.summary()


def test_a_study_is_shown(study):
    shown = repr(qv.open_study(study.path)).splitlines()
    assert "200 pictures" in shown[0]
    assert shown[1:] == ["Study imagenet-200."]
    text = study._repr_html_()
    assert "mean CC of 0.997" in text
    assert text.count("<tr>") == 1 + len(study.plan.cells)
    assert "<img" not in text


@pytest.mark.slow
def test_the_report_is_that_of_the_command(study, run, tmp_path):
    files = study.report(tables=tmp_path / "tables")
    assert tmp_path / "tables" / "summary.json" in files
    assert run("report", study.path, "--tables", tmp_path / "again")[0] == 0
    for file in files:
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
    with pytest.raises(qv.UsageError, match="Nothing is to be written; give one or more of html"):
        study.report()


def test_a_study_that_is_not_finished_shows_its_plan_only(study, tmp_path):
    shutil.copy(study.path / "plan.json", tmp_path)
    begun = qv.open_study(tmp_path)
    assert not begun.finished
    assert "200 pictures" in repr(begun)
    for shown in (repr(begun), begun._repr_html_()):
        assert "is not finished" in shown
    for call in (begun.to_pandas, begun.summary):
        with pytest.raises(qv.UsageError, match="is not finished"):
            call()
