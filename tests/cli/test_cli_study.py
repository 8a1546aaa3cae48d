"""The commands sweep and summary, as a user meets them."""

import csv
import json
import shlex

import numpy as np
import pytest
from cli_support import assert_refused
from PIL import Image

from quantviz import images

MODEL = ("--models", "squeezenet1_1", "--weights", "squeezenet1_1=untrained")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return a folder with a space in its name, four crops and a file that is no picture."""
    folder = tmp_path_factory.mktemp("of pictures")
    for name in ("chelsea", "coffee", "rocket", "china"):
        Image.fromarray(images.bundled(name).rgb[:200, :260]).save(folder / f"{name}.png")
    (folder / "notes.png").write_text("not a picture")
    return folder


@pytest.fixture
def study(run, pictures, cache):
    """Return the folder of a study that the first test to ask for it makes."""
    out = cache / "study"
    code, told, err = run("sweep", pictures, *MODEL, "--bits", "8,W3", "--ranges", "mse", "--seed", 2, "--out", out)
    assert (code, err) == (0, "")
    assert "is finished (5 pictures, 1 model, 2 bit-widths" in told
    return out


def test_the_plan_keeps_the_command_which_is_accepted_as_the_same_study(study, run, pictures):
    command = json.loads((study / "plan.json").read_text())["command"]
    words = shlex.split(command)
    assert words[:3] == ["quantviz", "sweep", str(pictures)]
    assert "--cam" not in words  # only what the user gave
    code, out, err = run(*words[1:])
    assert (code, err) == (0, "")
    assert "nothing to compute" in out


def test_summary_prints_the_tables(study, run):
    code, out, err = run("summary", study)
    assert (code, err) == (0, "")
    assert "5 pictures" in out
    assert "0 with a label" in out
    assert "ranges mse" in out
    assert "UNTRAINED" in out
    assert "the saliency is predicted" in out
    assert "Protocol calibrated" in out
    lines = out.splitlines()
    for words in (
        "float v saliency  SIM",
        "W8A8 v saliency   KLD",
        "W3 v float        CC",
        "squeezenet1_1 (UNTRAINED)  W3 ",
        "1 picture without a result: notes.png is not an image",
    ):
        assert any(line.startswith(words) for line in lines), words
    assert sum("float v saliency" in line for line in lines) == 3  # once, not for each bit-width


def test_summary_as_json_and_csv_agree(study, run, tmp_path):
    file = tmp_path / "numbers.csv"
    code, out, err = run("summary", study, "--json", "-", "--csv", file)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["plan"]["images"] == 5
    assert [cell["setting"] for cell in told["cells"]] == ["W8A8", "W3"]
    assert told["errors"] == {next(iter(told["errors"])): 1}
    for line in csv.DictReader(file.read_text().splitlines()):
        cell = next(cell for cell in told["cells"] if cell["setting"] == line["setting"])
        if line["comparison"] in cell["scores"]:
            assert float(line["mean"]) == cell["scores"][line["comparison"]][line["metric"]]["mean"]
    w8a8, w3 = (cell["drift"]["mean"] for cell in told["cells"])
    assert 0 < w8a8 < w3


def test_a_changed_setting_is_refused_with_what_differs(study, run, pictures):
    command = ("sweep", pictures, *MODEL, "--bits", "8,W3", "--ranges", "mse", "--seed", 2, "--out", study)
    assert_refused(run(*command, "--limit", 3), "limit None, not 3", "choose another folder", "quantviz sweep")
    assert_refused(run(*command, "--cam", "layercam"), "CAM method gradcam++, not layercam")
    assert_refused(run(*command, "--scheme", "per_tensor"), "granularity per_channel, not granularity per_tensor")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--models", "alexnet"), "Model 'alexnet' is unknown"),
        (("--models", "squeezenet1_1,squeezenet1_1"), "given twice"),
        (("--bits", "8,nine"), "Bits 'nine' are unknown"),
        (("--bits", "8,W8A8"), "Bit-width 'W8A8' is given twice"),
        (("--bits", "64"), "bit-width 64"),
        (("--protocols", "published"), "Protocol 'published' is unknown"),
        (("--scheme", "clever"), "Scheme word 'clever' is unknown"),
        (("--cam", "blurcam"), "CAM method 'blurcam' is unknown"),
        (("--state", "/nowhere/state.json"), "Folder '/nowhere' does not exist"),
        (("--weights", "untrained"), "Weights 'untrained' name no model; write MODEL=CHOICE"),
        (("--weights", "vgg16=untrained"), "Weights are given for 'vgg16'"),
        (("--calibration", "nowhere"), "Calibration folder 'nowhere' does not exist"),
        (("--limit", "0"), "--limit"),
        (("--layer", "layer4"), "Layer 'layer4' of squeezenet1_1 is unknown"),
        (("--layer", "vgg16=features.28"), "A layer is given for 'vgg16', which is not swept"),
        (
            ("--layer", "features.9", "--layer", "features.10"),
            "Layers 'features.9' and 'features.10' are both of every",
        ),
        (("--layer", "squeezenet1_1="), "Layers 'squeezenet1_1=' name no model; write MODEL=CHOICE"),
        (("--truth", "nowhere"), "nowhere does not exist; give the path of a folder of ground truth"),
        (("--truth-kind", "circles"), "'circles' is not one of 'map', 'mask', 'fixations', 'boxes'"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(run, pictures, tmp_path, arguments, told):
    given = ("--models", "squeezenet1_1") if "--models" not in arguments else ()
    assert_refused(run("sweep", pictures, *given, *arguments, "--out", tmp_path / "study"), told)
    assert not (tmp_path / "study").exists()


def test_folders_that_are_none(run, pictures, tmp_path):
    out = ("--out", tmp_path / "study")
    assert_refused(run("sweep", tmp_path / "absent", *MODEL, *out), "does not exist")
    (tmp_path / "empty").mkdir()
    assert_refused(run("sweep", tmp_path / "empty", *MODEL, *out), "holds no image file")
    assert_refused(run("sweep", pictures, *MODEL, "--out", pictures), "is no study but holds")
    assert_refused(run("summary", tmp_path / "absent"), "There is no study", "quantviz sweep")
    assert_refused(run("summary", pictures), "is no study but holds")


def test_an_output_that_cannot_be_written_is_told_before_anything_is_read(study, run, tmp_path):
    assert_refused(run("summary", study, "--csv", tmp_path / "absent" / "a.csv"), "does not exist; make it first")
    assert_refused(run("summary", study, "--json", tmp_path), "is a folder; name a file")


def test_a_picture_without_evidence_is_counted_and_not_averaged(run, tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    Image.fromarray(np.full((64, 64, 3), 127, np.uint8)).save(folder / "a.png")
    Image.fromarray(images.bundled("coffee").rgb[:200, :260]).save(folder / "b.png")
    out = tmp_path / "study"
    assert run("sweep", folder, *MODEL, "--out", out)[0] == 0
    code, told, _ = run("summary", out, "--json", "-")
    cell = json.loads(told)["cells"][0]
    assert code == 0
    assert cell["degenerate"]["saliency"] == 1
    assert cell["scores"]["float_v_saliency"]["cc"]["n"] == 1
    assert cell["errors"] == 0


def test_ground_truth_and_layers_of_a_sweep_are_summed_up(run, pictures, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "coffee.csv").write_text("x,y\n100,90\n130,100\n")
    (truth / "rocket.csv").write_text("no points\n")
    options = ("--truth", truth, "--truth-kind", "fixations", "--layer", "features.9", "--out", tmp_path / "study")
    code, told, err = run("sweep", pictures, *MODEL, "--bits", "4", *options)
    assert (code, err) == (0, "")
    plan = json.loads((tmp_path / "study" / "plan.json").read_text())
    assert plan["models"][0]["layer"] == "features.9"
    assert shlex.split(plan["command"])[-8:-2] == [str(word) for word in ("--layer", "features.9", *options[:4])]
    code, told, err = run("summary", tmp_path / "study")
    assert (code, err) == (0, "")
    assert f"1 picture with ground truth (fixations) from {truth}, scored by NSS, AUC-Judd" in told
    assert "1 picture without a usable ground truth: rocket.csv" in told
    lines = told.splitlines()
    place = {words: at for at, line in enumerate(lines) for words in ("W4A4 v float", "W4A4 v truth") if words in line}
    assert place["W4A4 v truth"] > place["W4A4 v float"]
    assert any("W4A4  ground truth  Information gain" in line for line in lines)
    code, told, err = run("summary", tmp_path / "study", "--json", "-")
    cell = json.loads(told)["cells"][0]
    assert cell["scores"]["quantized_v_truth"]["nss"]["n"] == 1
    assert set(cell["truth_tests"]) == {"nss", "auc_judd", "auc_borji", "information_gain"}
