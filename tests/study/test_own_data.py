"""A study of one's own data: labels, accuracy and names in rows, summary, report, pictures and replay."""

import json

import pytest
import safetensors.torch
import torch
from own_data_support import CLASSES_OF, NAMES, names_file, own_network, own_pictures
from study_support import rows_of

from quantviz.study.filters import Filters, extremes, study_view
from quantviz.study.table import study_table

MODEL = "squeezenet1_1"
COMPARED = ("compare", "coffee", "--model", MODEL, "--act-bits", "none")  # spares the calibration


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def files(folder):
    return own_pictures(folder / "photos"), own_network(folder / "own.safetensors"), names_file(folder / "names.txt")


def test_a_study_of_ones_own_classes_is_right_everywhere(run, folder, files):
    pictures, weights, names = files
    study = folder / "study"
    asked = ["--models", MODEL, "--weights", f"{MODEL}={weights}", "--classes", names, "--bits", "W8"]
    status, told, error = run("sweep", pictures, *asked, "--out", study)
    assert status == 0, error
    rows = {row["index"]: row for row in rows_of(study)}
    paths = [image["path"] for image in json.loads((study / "plan.json").read_text())["images"]]
    for index, path in enumerate(paths):
        row, label = rows[index], CLASSES_OF.get(path.split("/")[0])
        assert row["label"] == label
        assert row["float_correct"] == (None if label is None else row["float_top1"] == label)
        assert row["quantized_correct"] == (None if label is None else row["quantized_top1"] == label)
        assert row["flipped"] == (row["float_top1"] != row["quantized_top1"])
    status, told, _ = run("summary", study, "--json", "-")
    cell = json.loads(told)["cells"][0]
    right = sum(bool(row["float_correct"]) for row in rows.values())
    assert (cell["float_accuracy"]["n"], cell["float_accuracy"]["count"]) == (3, right)
    drifts = extremes(study_view(study_table(study), Filters()), (MODEL, "W8", "calibrated"), "worst", 4)
    assert {drift.label for drift in drifts} == {*NAMES, ""}
    assert {drift.float_top1 for drift in drifts} <= set(NAMES)
    status, told, _ = run("summary", study)
    assert "4 pictures of" in told
    assert "3 with a label of 3 classes" in told
    page = folder / "report.html"
    assert run("report", study, "--html", page)[0] == 0
    assert f"<dt>Classes</dt><dd>3: {', '.join(NAMES)}</dd>" in page.read_text()
    status, told, error = run("replay", study, "--limit", 1)
    assert status == 0, told + error


def test_a_comparison_names_ones_own_classes(run, files):
    _, weights, names = files
    status, told, error = run(*COMPARED, "--weights", weights, "--classes", names)
    assert status == 0, error
    assert all(name in told for name in NAMES)
    again, told, _ = run(*COMPARED, "--weights", weights)
    assert again == 0
    assert "class 0" in told
    named = weights.with_name("named.pth")
    torch.save({"model": safetensors.torch.load_file(weights), "classes": list(NAMES)}, named)
    status, told, error = run(*COMPARED, "--weights", named)
    assert status == 0, error
    assert all(name in told for name in NAMES)
    status, _, error = run(*COMPARED, "--weights", "untrained", "--classes", names)
    assert (status, error.count("\n")) == (2, 1)
    assert "3 class names were given, but the float model has 1000 classes" in error
