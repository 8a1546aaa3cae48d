"""The commands that look at single layers, and the quantization options, as a user meets them."""

import csv
import json

import pytest
from cli_support import assert_refused
from own_data_support import NAMES, own_network, own_pictures
from PIL import Image

MODEL = ("--model", "squeezenet1_1", "--weights", "untrained")


@pytest.fixture
def bits_file(run, tmp_path):
    """Return the path of a bits file that a search wrote, and what the search printed."""
    file = tmp_path / "bits.json"
    arguments = ("--max-drift", "0.02", "--max-flips", "1", "--widths", "3,8", "--bits-file", file)
    code, out, err = run("search", "chelsea", "china", *MODEL, *arguments)
    assert (code, err) == (0, "")
    return file, out


def test_sensitivity_tells_floor_network_and_ranked_layers(run, tmp_path):
    file = tmp_path / "layers.csv"
    code, out, err = run("sensitivity", "coffee", *MODEL, "--weight-bits", "4", "--csv", file)
    assert (code, err) == (0, "")
    assert "crop moved by one pixel" in out
    assert "UNTRAINED" in out
    assert "times the noise floor" in out
    assert "multiply-accumulates" in out
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["depth"] for row in rows] == [str(place) for place in range(26)]
    assert rows[0]["layer"] == "features.0"
    assert rows[0]["alone_accuracy"] == ""
    worst = max(rows, key=lambda row: float(row["alone_cam"]))
    first = next(line for line in out.splitlines() if line.startswith("1 "))
    assert worst["layer"] in first
    assert f"{float(worst['alone_cam']):.5f}" in first

    code, out, err = run("sensitivity", "coffee", *MODEL, "--weight-bits", "4", "--json", "-")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["quantization"]["label"] == "W4A8"
    assert found["quantization"]["scheme_words"] == "standard"
    floor = found["noise_floor"]
    assert floor["floor"] == max(floor["grey"]["cam"], floor["shift"]["cam"])
    assert [layer["cost"]["name"] for layer in found["layers"]] == [row["layer"] for row in rows]
    assert [repr(layer["alone"]["cam"]) for layer in found["layers"]] == [row["alone_cam"] for row in rows]
    assert found["layers"][0]["alone"]["cams"] == [found["layers"][0]["alone"]["cam"]]


def test_a_search_writes_bits_that_compare_uses(run, bits_file, tmp_path):
    file, out = bits_file
    assert "mixed (found)" in out
    assert "W3A8" in out
    assert "W8A8" in out
    entry = json.loads(file.read_text())
    code, out, err = run("compare", "chelsea", *MODEL, "--saliency", "none", "--bits-file", file, "--json", "-")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["quantization"]["label"] in ("W3A8", "W8A8", "mixed W3-8A8")
    assert 1 - found["scores"]["quantized_v_float"]["cc"] == pytest.approx(entry["found"]["searched"]["drift"])
    assert found["cost"]["bytes"] == entry["found"]["bytes"]

    entry["found"]["weights"] = {"name": "elsewhere.pth", "sha256": "0" * 64}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(entry))
    code, _, err = run("compare", "chelsea", *MODEL, "--saliency", "none", "--bits-file", other)
    assert (code, err) == (0, "Note: the bits of 'other.json' were found for other weights (elsewhere.pth).\n")


def test_a_search_that_finds_nothing_writes_no_file(run, tmp_path):
    file = tmp_path / "bits.json"
    arguments = ("--max-drift", "1e-9", "--widths", "3,8", "--bits-file", file)
    code, out, err = run("search", "chelsea", "china", *MODEL, *arguments)
    assert code == 1
    assert "Searched on 1 picture, 1 held out." in out
    assert "Nothing measured is within the budgets" in err
    assert not file.exists()
    assert run("search", "chelsea", "china", *MODEL, *arguments[:-2])[0] == 1


@pytest.mark.parametrize(
    ("given", "value"), [("--weight-bits", "8"), ("--act-bits", "none"), ("--scheme", "best"), ("--ranges", "mse")]
)
def test_a_bits_file_excludes_the_options_that_it_replaces(run, tmp_path, given, value):
    result = run("compare", "coffee", "--bits-file", tmp_path / "bits.json", given, value)
    assert_refused(result, given, "--bits-file", "exclude each other")


def test_bits_files_that_cannot_be_used_are_refused(run, bits_file, tmp_path):
    assert_refused(run("compare", "coffee", "--bits-file", tmp_path / "none.json"), "cannot be read", "none.json")
    assert_refused(run("compare", "coffee", "--bits-file", bits_file[0]), "squeezenet1_1", "efficientnet_lite0")
    (tmp_path / "text.json").write_text("W4A8")
    assert_refused(run("compare", "coffee", "--bits-file", tmp_path / "text.json"), "'text.json' is no JSON")


def test_compare_takes_a_scheme_and_tells_the_cost(run):
    command = ("compare", "coffee", *MODEL, "--saliency", "none", "--weight-bits", "4")
    code, out, err = run(*command, "--scheme", "naive,affine", "--ranges", "moving_average", "--json", "-")
    assert (code, err) == (0, "")
    quantization = json.loads(out)["quantization"]
    told = [quantization[name] for name in ("scheme", "granularity", "act_scheme", "ranges", "weight_bits", "protocol")]
    assert told == ["affine", "per_tensor", "symmetric", "moving_average", 4, "calibrated"]
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    # 1,231,552 weights at 4 bits; 3,944 biases and as many scales; 26 inputs' grids of 5 bytes.
    size = 1_231_552 // 2 + 2 * 4 * 3_944 + 26 * 5
    assert f"Size {size / 1024:,.0f} KiB" in out
    assert "349 M multiply-accumulates" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("compare", "coffee", "--scheme", "fancy"), ("Scheme word 'fancy' is unknown", "naive, standard, best")),
        (("compare", "coffee", "--ranges", "widest"), ("'widest'", "minmax")),
        (("compare", "coffee", "--protocol", "papier"), ("Protocol 'papier' is unknown",)),
        (("sensitivity", "coffee", "--model", "resnet51"), ("resnet51", "resnet50")),
        (("sensitivity",), ("Missing argument",)),
        (("sensitivity", "coffee", "--limit", "0"), ("0 is not in the range",)),
        (("sensitivity", "nowhere.png"), ("nowhere.png",)),
        (("sensitivity", "coffee", "--csv", "/nowhere/layers.csv"), ("'/nowhere' does not exist",)),
        (("search", "coffee"), ("Missing option '--max-drift'",)),
        (("search", "coffee", "--max-drift", "-1"), ("greatest drift of -1.0",)),
        (("search", "coffee", "--max-drift", "0.1", "--widths", "4,x"), ("'4,x' are no bit-widths",)),
        (("search", "coffee", "--max-drift", "0.1", "--widths", "4,99"), ("Width 99",)),
        (("search", "coffee", "--max-drift", "0.1", "--bits-file", "/nowhere/bits.json"), ("'/nowhere' does not",)),
    ],
)
def test_wrong_use_is_told_in_one_sentence(run, arguments, parts):
    assert_refused(run(*arguments), *parts)


def test_a_folder_is_limited_evenly(run, tmp_path, noise_picture):
    for seed in range(4):
        Image.fromarray(noise_picture(seed)).save(tmp_path / f"{seed}.png")
    arguments = ("--max-drift", "2", "--widths", "4,8", "--json", "-", "--limit", "2")
    code, out, err = run("search", tmp_path, *MODEL, *arguments)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [picture["name"] for picture in found["searched"] + found["held_out"]] == ["0.png", "2.png"]
    assert {bits["weight_bits"] for bits in found["found"]["bits"]} == {4}


def test_a_cards_classes_and_names_are_those_of_single_layers(run, tmp_path):
    pictures = own_pictures(tmp_path / "photos")
    own_network(tmp_path / "own.safetensors")
    card = tmp_path / "own.toml"
    card.write_text(
        f"model = 'squeezenet1_1'\nweights = 'own.safetensors'\nclasses = {list(NAMES)}\n[input]\nsize = 96\n"
    )
    asked = ["sensitivity", pictures, "--card", card, "--weight-bits", "4", "--cam", "gradcam", "--json", "-"]
    status, out, error = run(*asked)
    assert status == 0, error
    told = json.loads(out)
    assert (told["model"], told["labelled"]) == ("own", 3)
    bits = tmp_path / "bits.json"
    budgets = ["--max-drift", "0.5", "--max-flips", "1", "--widths", "4,8", "--cam", "gradcam"]
    status, _, error = run("search", pictures, "--card", card, *budgets, "--bits-file", bits)
    assert status == 0, error
    status, out, error = run("compare", "coffee", "--card", card, "--bits-file", bits)
    assert status == 0, error
    assert all(name in out for name in NAMES)
