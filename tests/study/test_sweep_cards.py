"""Studies of network cards: given files, and files beside simulated bits; resumed, replayed, reported."""

import json
import shutil
from pathlib import Path

import pytest
from cli_support import assert_refused
from onnx_support import lite_files, quantized, saved, small
from own_data_support import NAMES, exported, own_network, own_pictures
from PIL import Image
from study_support import rows_of

from quantviz.comparison import card_of, compare_card
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.images import bundled, load
from quantviz.specs import GIVEN, spec_of
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.pictures import picture_grid
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.worker import job_of

VARIANTS = "[[variants]]\nfile = 'int8.onnx'\nname = 'shipped'\n[[variants]]\nfile = 'other.onnx'\n"
SEVEN = ["Rocket", "tiger cat", "cup of coffee", "d", "e", "f", "g"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    own_pictures(folder / "photos")
    reference = saved(folder, small())
    quantized(reference, "int8.onnx")
    quantized(reference, "other.onnx", per_channel=False)
    (folder / "shapes.toml").write_text(
        f"name = 'shapes'\nfloat = 'float.onnx'\nclasses = {SEVEN}\n{VARIANTS}[input]\nsize = 48\norder = 'BGR'\n"
    )
    exported(own_network(folder / "own.safetensors"), folder / "own.onnx", 96)
    (folder / "own.toml").write_text(
        f"model = 'squeezenet1_1'\nweights = 'own.safetensors'\nclasses = {list(NAMES)}\n"
        "[input]\nsize = 96\n[[variants]]\nfile = 'own.onnx'\nname = 'the same'\n[[variants]]\nbits = 'W4A8'\n"
    )
    return folder


@pytest.fixture(scope="module")
def study(folder, cache):
    return folder / "study"


def swept(run, folder, study, *options):
    return run("sweep", folder / "photos", *options, "--out", study, "--batch", 3)


def test_given_files_are_swept_with_their_labels(run, folder, study, cache):
    status, told, error = swept(run, folder, study, "--card", folder / "shapes.toml")
    assert status == 0, error
    assert "4 pictures, 1 model, 2 variants" in told
    plan = StudyFolder(study).plan()
    assert plan.cells == (("shapes", "shipped", GIVEN), ("shapes", "other", GIVEN))
    assert plan.models[0].weights.preprocessing.order == "BGR"
    assert [file.bits for file in plan.models[0].files] == ["W8A8 QDQ", "W8A8 QDQ"]
    rows = rows_of(study)
    assert len(rows) == 8
    assert {row["scheme"] for row in rows} == {"W8A8 QDQ"}
    labels = {plan.images[row["index"]].path.split("/")[0]: row["label"] for row in rows}
    assert labels == {"Rocket": 0, "Tiger-Cat": 1, "cup of coffee": 2, "loose.png": None}
    assert all(row["quantized_v_float_cc"] > 0.9 for row in rows)
    # The same picture by `compare --card`, in one thread as here.
    with TensorStore(cache / "alone") as store:
        path = folder / "photos" / plan.images[0].path
        card = card_of(str(folder / "shapes.toml"))
        alone = compare_card(Workbench(store), card, CompareRequest(str(card.path)), load(path))
    for name, comparison in alone.items():
        row = next(row for row in rows if (row["index"], row["setting"]) == (0, name))
        assert row["quantized_v_float_cc"] == pytest.approx(comparison.scores["quantized_v_float"].cc, abs=1e-4)
        assert row["float_top1"] == comparison.reference.predictions[0].index


def test_such_a_study_goes_on_and_is_the_same_to_the_byte(run, folder, study, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(study, again)
    (again / "results.parquet").unlink()
    (again / "pieces" / "000001.parquet").unlink()
    status, told, error = swept(run, folder, again, "--models", folder / "shapes.toml", "--workers", 2)
    assert status == 0, error
    assert "1 of 2 pieces computed" in told
    assert (again / "results.parquet").read_bytes() == (study / "results.parquet").read_bytes()


def test_such_a_study_is_summed_up_reported_and_replayed(run, folder, study, tmp_path, monkeypatch):
    status, told, _ = run("summary", study)
    assert status == 0
    assert "gradcam++, ONNX files as they are" in told
    assert "Under the given protocol at shipped, quantized and float maps agree" in told
    page, bundle = tmp_path / "page.html", tmp_path / "study.zip"
    status, _, error = run("report", study, "--html", page, "--tables", tmp_path / "tables", "--bundle", bundle)
    assert status == 0, error
    html = page.read_text()
    assert "<dt>File shipped</dt><dd>int8.onnx beside shapes: W8A8 QDQ, maps at last" in html
    assert ">variant</th>" in html
    assert ">bits</th>" not in html  # files have none to be told apart by
    monkeypatch.chdir(tmp_path)
    status, told, error = run("replay", bundle, "--limit", 2)
    assert status == 0, error + told
    moved = folder.rename(folder.with_name("moved"))
    try:
        assert_refused(
            run("replay", bundle, "--dataset", moved / "photos"), "The card of shapes is not where the study"
        )
        asked = ["--dataset", moved / "photos", "--card", moved / "shapes.toml", "--limit", 1]
        status, told, error = run("replay", bundle, *asked)
        assert status == 0, error + told
    finally:
        moved.rename(folder)


def test_files_and_simulated_bits_stand_side_by_side(run, folder, tmp_path):
    study = tmp_path / "both"
    status, told, error = swept(run, folder, study, "--card", folder / "own.toml", "--limit", 2)
    assert status == 0, error
    assert StudyFolder(study).plan().cells == (("own", "W4A8", "calibrated"), ("own", "the same", GIVEN))
    rows = rows_of(study)
    same = [row for row in rows if row["setting"] == "the same"]
    assert len(same) == 2
    assert all(row["quantized_v_float_cc"] > 0.9999 and not row["flipped"] for row in same)
    assert all(row["quantized_v_float_cc"] < 0.9999 for row in rows if row["setting"] == "W4A8")
    status, told, error = run("replay", study, "--limit", 1)
    assert status == 0, error + told
    status, told, error = run("summary", study, "--json", "-")
    assert status == 0, error
    assert [cell["setting"] for cell in json.loads(told)["cells"]] == ["W4A8", "the same"]
    assert run("report", study, "--html", tmp_path / "both.html")[0] == 0


@pytest.mark.slow  # processes of their own, which import everything
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_several_workers_find_the_same_to_the_byte(run, folder, tmp_path, executor):
    """Files and simulated bits; of a card of files, test_such_a_study_goes_on has two workers."""
    options = ("--card", folder / "own.toml", "--card", folder / "shapes.toml")
    alone, many = tmp_path / "alone", tmp_path / "many"
    status, _, error = swept(run, folder, alone, *options)
    assert status == 0, error
    status, _, error = swept(run, folder, many, *options, "--workers", 2, "--executor", executor)
    assert status == 0, error
    assert (many / "results.parquet").read_bytes() == (alone / "results.parquet").read_bytes()


def test_workers_elsewhere_get_absolute_paths(folder, cache, monkeypatch):
    monkeypatch.chdir(folder)
    weights, layers = {"own.toml": "own.safetensors"}, {"own.toml": "features.5"}
    asked = SweepRequest(Path("photos"), ("own.toml",), (spec_of("standard", 8, 8),), weights, layers=layers)
    with TensorStore(cache / "job") as store:
        given = job_of(StudyFolder(folder / "study").plan(), asked, store).request
    card = str(folder / "own.toml")
    assert (given.models, given.layers) == ((card,), {card: "features.5"})
    assert given.weights == {card: str(folder / "own.safetensors")}


def test_what_cannot_be_swept_is_told(run, folder, study, tmp_path):
    out, shapes = tmp_path / "none", folder / "shapes.toml"
    refused = swept(run, folder, out, "--card", shapes, "--bits", 4)
    assert_refused(refused, "--bits simulates networks in torch, and", "is of ONNX files; leave it out, or add a model")
    assert_refused(swept(run, folder, out), "No model is given; name one or more by --models, or a network card")
    (tmp_path / "bare.toml").write_text(f"float = '{folder / 'float.onnx'}'\n")
    assert_refused(swept(run, folder, out, "--card", tmp_path / "bare.toml"), "'bare.toml' has no quantized file")
    assert_refused(swept(run, folder, out, "--card", shapes, "--card", shapes), "is given twice; name it once")
    weights = swept(run, folder, out, "--card", shapes, "--weights", f"{shapes}=untrained")
    assert_refused(weights, "has its weights in its files; leave --weights of it out")
    assert not out.exists()
    changed = folder / "changed.toml"
    changed.write_text(shapes.read_text().replace("[[variants]]\nfile = 'other.onnx'\n", ""))
    assert_refused(swept(run, folder, study, "--card", changed), "was made with models shapes with shipped (int8.onnx")


def test_a_picture_is_compared_again_as_in_the_study(run, folder, tmp_path, cache):
    study = tmp_path / "two"
    cards = ["--card", folder / "shapes.toml", "--card", folder / "own.toml"]
    status, told, error = swept(run, folder, study, *cards, "--limit", 1)
    assert status == 0, error
    assert "The labels are not of the classes of own, so that no accuracy is counted there." in told
    plan, rows = StudyFolder(study).plan(), rows_of(study)
    with TensorStore(cache / "grid") as store:
        for protocol in plan.protocols:
            cells = [cell for cell in plan.cells if cell[2] == protocol]
            grid = picture_grid(Workbench(store), plan, 0, folder / "photos", cells)
            shown = [comparison for row in grid for comparison in row]
            for (name, setting, _), comparison in zip(cells, shown, strict=True):
                row = next(row for row in rows if (row["model"], row["setting"]) == (name, setting))
                cc = comparison.scores["quantized_v_float"].cc
                assert row["quantized_v_float_cc"] == pytest.approx(cc, abs=1e-3)


@pytest.mark.slow
def test_a_real_networks_export_is_swept_and_reported(run, tmp_path):
    pictures = tmp_path / "photos"
    for synset, name in (("n02123159", "chelsea"), ("n07920052", "coffee"), ("n03773504", "rocket")):
        (pictures / synset).mkdir(parents=True)
        Image.fromarray(bundled(name).rgb).save(pictures / synset / f"{name}.png")
    lite_files(tmp_path, sorted(pictures.rglob("*.png")))
    card = tmp_path / "lite0.toml"
    half = "mean = 0.5\nstd = 0.5\ninterpolation = 'bicubic'\n"
    card.write_text(f"float = 'lite0.onnx'\n[[variants]]\nfile = 'lite0-int8.onnx'\n[input]\n{half}")
    study, page = tmp_path / "study", tmp_path / "study.html"
    status, told, error = run("sweep", pictures, "--card", card, "--out", study)
    assert status == 0, error
    rows = rows_of(study)
    assert [row["float_correct"] for row in rows] == [True] * 3
    assert all(row["quantized_v_float_cc"] > 0.9 for row in rows)
    assert run("report", study, "--html", page)[0] == 0
    assert "<dt>File lite0-int8</dt>" in page.read_text()
    # Told nothing of it, the input is another one than the network was trained with.
    card.write_text("float = 'lite0.onnx'\n[[variants]]\nfile = 'lite0-int8.onnx'\n[input]\nrange = '0-255'\n")
    status, told, error = run("sweep", pictures, "--card", card, "--out", tmp_path / "wrong")
    assert status == 0, error
    assert "lite0 may have been trained with another normalization" in told
