"""Check files, and the command that checks them, on studies of made-up numbers."""

import json
from dataclasses import replace
from xml.etree import ElementTree as Xml

import numpy as np
import onnxruntime
import pytest
from cli_support import assert_refused
from onnx_support import SIDE, quantized, saved, small
from PIL import Image
from study_support import synthetic_plan, synthetic_study

import quantviz as qv
from quantviz.guard.file import parse_check
from quantviz.guard.record import junit_xml, markdown
from quantviz.guard.run import measure_study
from quantviz.specs import UsageError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study of a network at 8 and 4 bits on 200 pictures, 4 of every 5 with a label."""
    plan = synthetic_plan(200, models=("squeezenet1_1",), bits=("8", "4"))
    return synthetic_study(tmp_path_factory.mktemp("guard") / "study", plan)


@pytest.fixture
def check(study, tmp_path):
    """Return a function that writes a check file on the study's W8A8 network, or other text."""

    def written(limits, top='variants = ["W8A8"]\n'):
        path = tmp_path / "check.toml"
        path.write_text(f'study = "{study}"\n{top}\n[limits]\n{limits}\n')
        return path

    return written


@pytest.mark.parametrize(
    ("limits", "status", "word"),
    [
        ("mean_drift = 0.1", 0, "holds"),
        ("mean_drift = 0.0001", 1, "broken"),
        ('flips = "0.9 %"', 3, "undecided"),
    ],
)
def test_the_status_tells_the_outcome(run, check, limits, status, word):
    code, out, _ = run("check", str(check(limits)))
    assert (code, out.splitlines()[1].split()[0]) == (status, word)
    assert f"\n{word.capitalize()}: " in out


def test_a_check_file_of_a_study_holds_on_it(run, study, tmp_path):
    path, json_path = tmp_path / "own.toml", tmp_path / "own.json"
    code, _, _ = run("check", str(path), "--init", str(study), "--variant", "W8A8")
    assert code == 0
    code, out, _ = run("check", str(path), "--json", str(json_path), "--junit", str(tmp_path / "own.xml"))
    assert (code, "Holds: all" in out) == (0, True)
    data = json.loads(json_path.read_text())
    assert data["outcome"] == "holds"
    assert {entry["limit"]["name"] for entry in data["verdicts"]} == {
        *("mean_drift", "probability", "flips", "accuracy", "accuracy_drop", "worst_picture")
    }
    suite = Xml.parse(tmp_path / "own.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "0", "0")
    assert_refused(run("check", str(path), "--init", str(study)), "exists")


def test_a_baseline_is_written_and_judged_against(run, check, tmp_path):
    base = tmp_path / "base.json"
    limits = "mean_drift = 1\n[change]\nmean_drift = 0.001\naccuracy = 0.1"
    assert_refused(run("check", str(check(limits))), "line 7", "--write-baseline")
    code, _, _ = run("check", str(check("mean_drift = 1")), "--write-baseline", str(base))
    assert code == 0
    code, out, _ = run("check", str(check(limits)), "--baseline", str(base))
    assert (code, "paired on 200 pictures" in out) == (0, True)
    code, out, _ = run("check", str(check(limits, 'variants = ["W4A4"]\n')), "--baseline", str(base))
    assert (code, "change.mean_drift" in out) == (1, True)


def test_a_summary_says_why_there_are_no_maps(run, check, tmp_path):
    path = tmp_path / "summary.md"
    run("check", str(check("mean_drift = 0.1")), "--markdown", str(path))
    text = path.read_text()
    assert text.startswith("## quantviz check: ✅ holds\n")
    assert text.count("top-1 kept") + text.count("top-1 changed") == 3
    assert "Their maps are not drawn: The study's pictures are not at hand" in text


def test_python_checks_as_the_command_does(check):
    result = qv.check(check("mean_drift = 0.0001\nflips = 1.0"))
    assert result.outcome == "broken"
    assert [verdict.outcome for verdict in result.verdicts] == ["broken", "holds"]
    assert result.to_dict()["exit_status"] == 1
    assert "Broken: of 2 limits 1 holds, 1 is broken" in repr(result)
    assert "<table" in result._repr_html_()


def test_names_of_files_cannot_break_a_report(check):
    report = qv.check(check("mean_drift = 0.1")).report
    worst = replace(report.worst[0], path="a|b](x)<script>\x1b.jpg")
    text = markdown(replace(report, worst=(worst,)), {}).decode()
    assert r"a\|b\](x)\<script\>\\x1b.jpg" in text
    Xml.fromstring(junit_xml(replace(report, check="<&\x1b>")))


def test_a_broken_network_does_not_pass_by_giving_nothing(study, tmp_path):
    _, (values,) = measure_study(study, (), ("W8A8",), None)
    # Every 97th picture's quantized map has lost its evidence.
    assert (values.drift == 1).sum() == 3


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[limits]\nmean_drift = 0.1", ("names nothing to check", "study")),
        ('study = "none"\n[limits]\nmean_drift = 0.1', ("line 1", "no folder")),
        ('study = "."\nphotos = "."\n[limits]\nflips = 1', ("line 2", "a study and photos")),
        ('study = "."\n\nbits = "8"\n[limits]\nflips = 1', ("line 3", "bits goes with photos")),
        ('study = "."', ("no limits",)),
        ('study = "."\n[limits]\ndrift = 1', ("line 3", "'drift' of limits", "mean_drift")),
        ('study = "."\n[limits]\nflips = "many"', ("line 3", "'many'", "0 to 1")),
        ('study = "."\n[limits]\nflips = 1.5', ("line 3", "1.5")),
        ('study = "."\n[limits]\nmean_drift = true', ("line 3", "True")),
        ('study = "."\n[limits]\nsize = "1 pound"', ("line 3", "1 pound", "1.3 MB")),
        ('study = "."\n[limits]\nworst_picture = { part = 1 }', ("line 3", "no drift")),
        ('study = "."\nconfidence = 95\n[limits]\nflips = 1', ("line 2", "95")),
        ('study = "."\nworst = -1\n[limits]\nflips = 1', ("line 2", "-1", "from 0 to 50")),
        ('photos = "."\n[limits]\nflips = 1', ("line 1", "names no network")),
        ('photos = "."\nmodel = "squeezenet1_1"\nbits = "W99"\n[limits]\nflips = 1', ("line 3", "99")),
        ('photos = "."\nmodel = "squeezenet1_1"\ncam = "x"\n[limits]\nflips = 1', ("line 3", "'x'", "gradcam++")),
        ("study = [", ("is no TOML",)),
        ("study = " + "[" * 5000, ("is nested deeper than 16",)),
        ("study = " + "[" * 16 + "]" * 16, ("is nested deeper than 16",)),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path, text, parts):
    with pytest.raises(UsageError) as caught:
        parse_check(text, tmp_path / "check.toml")
    for part in parts:
        assert part in str(caught.value)


def test_units_are_read(tmp_path):
    text = 'study = "."\n[limits]\nflips = "5 %"\nsize = "1.5 MB"\nworst_picture = { drift = 0.4, part = 0.1 }'
    flips, size, worst = parse_check(text, tmp_path / "check.toml").limits
    assert (flips.value, size.value, worst.value, worst.part) == (0.05, 1_500_000, 0.4, 0.1)
    assert [limit.line for limit in (flips, size, worst)] == [3, 4, 5]


def test_photos_are_swept_with_the_settings_of_the_file(tmp_path):
    text = 'photos = "."\nmodel = "squeezenet1_1"\nbits = ["W8A8", "W4A8"]\nweights = "untrained"\npictures = 7\n'
    request = parse_check(text + "[limits]\nflips = 1", tmp_path / "check.toml").request
    assert [quant.label for quant in request.quants] == ["W8A8", "W4A8"]
    assert (request.dataset, request.limit, dict(request.weights)) == (tmp_path, 7, {"squeezenet1_1": "untrained"})
    assert request.command.startswith(f"quantviz sweep {tmp_path} --models squeezenet1_1 --weights")


def test_the_noise_of_the_logits_is_that_of_onnx_runtime(run, tmp_path, noise_picture):
    reference = saved(tmp_path, small())
    files = [reference, quantized(reference, "int8.onnx")]
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(noise_picture(seed, SIDE, SIDE)).save(tmp_path / "photos" / f"{seed}.png")
    size = f"[input]\nsize = {SIDE}\nresize = {SIDE}\nmean = 0\nstd = 1\n"
    card = f'name = "net"\nfloat = "{reference.name}"\n[[variants]]\nname = "int8"\nfile = "{files[1].name}"\n{size}'
    (tmp_path / "net.toml").write_text(card)
    check = 'photos = "photos"\ncard = "net.toml"\nworst = 0\n[limits]\nlogit_noise = 1\nprobability = 0.5\n'
    (tmp_path / "check.toml").write_text(check)
    code, _, err = run("check", tmp_path / "check.toml", "--json", tmp_path / "out.json")
    assert code == 3, err
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in files]
    expected = []
    for seed in range(2):
        pixels = noise_picture(seed, SIDE, SIDE).transpose(2, 0, 1)[None].astype(np.float32) / 255
        first, second = (one.run(None, {one.get_inputs()[0].name: pixels})[0].astype(float) for one in sessions)
        expected.append(np.square(second - first).sum() / np.square(first).sum())
    noise = json.loads((tmp_path / "out.json").read_text())["verdicts"][0]
    assert (noise["limit"]["name"], noise["n"]) == ("logit_noise", 2)
    assert noise["estimate"] == pytest.approx(np.mean(expected), rel=1e-4)
