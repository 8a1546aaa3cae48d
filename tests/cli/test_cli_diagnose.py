"""``quantviz diagnose``: what it writes of a pair of files, a card and a network of ours, and what it refuses."""

import csv
import json

import onnx
import pytest
from cli_support import assert_refused
from onnx_support import SIDE, quantized, saved, small

PICTURES = ("coffee", "chelsea")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return a float file and one whose weights share a scale for all channels, a card of them beside them."""
    model = small()
    for place, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{place}"
    path = saved(tmp_path_factory.mktemp("pair"), model)
    files = path, quantized(path, "int8.onnx", per_channel=False)
    card = f'name = "net"\nfloat = "{path.name}"\n[[variants]]\nname = "by card"\nfile = "{files[1].name}"\n'
    path.with_name("net.toml").write_text(f"{card}[input]\nsize = {SIDE}\nresize = {SIDE}\n")
    return files


@pytest.fixture(scope="module")
def planted(pair):
    """Return the quantized file with the step of one activation a tenth of what it was: nine tenths are cut off."""
    model = onnx.load(pair[1])
    name = next(node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear" and "stem" in node.name)
    (stored,) = [entry for entry in model.graph.initializer if entry.name == name]
    stored.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(stored) / 10, name))
    onnx.save(model, pair[1].with_name("planted.onnx"))
    return pair[0], pair[1].with_name("planted.onnx")


def options(files):
    return "--float-model", files[0], "--quantized-model", files[1]


def check_json(data):
    """Check that a diagnosis names each tensor in the order of execution, ranks them, and says why."""
    names = [entry["name"] for entry in data["tensors"]]
    assert [entry["depth"] for entry in data["tensors"]] == list(range(len(names)))
    assert sorted(data["ranking"]) == sorted({*names, *(cause["tensor"] for cause in data["causes"])})
    for cause in data["causes"]:
        assert {"tensor", "cause", "figures", "remedy"} <= set(cause)
        assert cause["figures"]
        assert all(isinstance(value, int | float) for value in cause["figures"].values())


def test_a_planted_tensor_is_ranked_first_with_its_cause_and_mended(run, planted, tmp_path):
    outputs = {name: tmp_path / f"out.{name}" for name in ("json", "html", "csv")}
    words = [word for name, path in outputs.items() for word in (f"--{name}", path)]
    taken = tmp_path / "nodes.json"
    more = ("--drift", 1, "--try", "auto", "--mended", tmp_path / "mended.onnx", "--cam", "gradcam")
    more += ("--export", f"onnxruntime={taken}")
    code, _, err = run("diagnose", *PICTURES, *options(planted), *words, *more)
    assert code == 0, err
    data = json.loads(outputs["json"].read_text())
    check_json(data)
    worst = data["causes"][0]
    assert (worst["tensor"], worst["cause"]) == (data["ranking"][0], "clipping")
    assert worst["figures"]["clipped"] > 0.1
    assert worst["remedy"] in ("full_range", "recalibrate")
    assert next(entry for entry in data["tensors"] if entry["name"] == worst["tensor"])["drift"]["alone"] > 0
    trial = data["trial"]
    assert (trial["tensor"], trial["held_out"]) == (worst["tensor"], 1)
    assert trial["after"]["sqnr_isolated"] > trial["before"]["sqnr_isolated"] + 10
    onnx.checker.check_model(onnx.load(tmp_path / "mended.onnx"))
    named = {node.name for node in onnx.load(planted[1]).graph.node if "Linear" not in node.op_type}
    excluded = json.loads(taken.read_text())
    assert excluded
    assert set(excluded) <= named
    rows = list(csv.DictReader(outputs["csv"].read_text().splitlines()))
    assert [row["tensor"] for row in rows] == [entry["name"] for entry in data["tensors"]]
    assert [row["cause"] for row in rows if row["rank"] == "1"] == ["clipping"]
    assert "clipping" in outputs["html"].read_text()


def test_a_card_is_diagnosed_as_its_files_are(run, pair, tmp_path):
    code, out, err = run("diagnose", PICTURES[0], "--card", pair[0].with_name("net.toml"), "--json", "-")
    assert code == 0, err
    data = json.loads(out)
    check_json(data)
    assert (data["kind"], data["network"]) == ("files", "by card")
    code, out, _ = run("diagnose", PICTURES[0], "--card", pair[0].with_name("net.toml"))
    assert code == 0
    assert out.startswith("by card, W8A8 QDQ, 1 picture\n")
    assert "SQNR is of the tensor's own rounding" in out


def test_a_network_that_quantviz_rounds_is_diagnosed(run, tmp_path):
    model = ("--model", "squeezenet1_1", "--weights", "untrained", "--bits", "W4A8")
    code, out, err = run("diagnose", PICTURES[0], *model, "--json", "-", "--export", f"onnxruntime={tmp_path / 'o'}")
    assert code == 0, err
    data = json.loads(out)
    check_json(data)
    assert (data["kind"], data["quantization"]) == ("simulation", "W4A8")
    assert {entry["bits"] for entry in data["tensors"] if entry["role"] == "weight"} == {4}
    assert "UNTRAINED" in data["notes"][0]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--bits", "W8A8"), ("--bits",)),
        (("--try", "none"), ("no tensor 'none'",)),
        (("--try", "auto=paint"), ("'paint'", "unknown")),
        (("--mended", "out.onnx"), ("--try",)),
        (("--export", "tflite=x.json"), ("tflite", "onnxruntime")),
    ],
)
def test_wrong_use_is_told_in_one_sentence(run, pair, words, parts):
    assert_refused(run("diagnose", *PICTURES, *options(pair), *words), *parts)


def test_a_quantized_file_is_needed(run, pair):
    assert_refused(run("diagnose", PICTURES[0], *options((pair[0], pair[0]))), "no tensor on a grid")
    assert_refused(run("diagnose", PICTURES[0], "--mended", "x.onnx", "--try", "auto"), "--mended writes an ONNX file")
