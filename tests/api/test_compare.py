"""Comparing and explaining by ``import quantviz as qv``: the command's numbers, modules in memory, what is shown."""

import copy
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from onnx_support import quantized, saved, small
from PIL import Image
from torch import nn

import quantviz as qv
from quantviz import images, networks
from quantviz.api.inputs import sample_of
from quantviz.api.table import PictureOptions

SQUEEZENET = networks.spec("squeezenet1_1").weights[0].preprocessing


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return a folder of two pictures, by which calibrating is quick."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("coffee", "china"):
        shutil.copy(images.bundled_path(name), folder / images.bundled_path(name).name)
    return folder


@pytest.fixture
def modules(float_model):
    """Return SqueezeNet and a copy with rounded weights."""
    module = copy.deepcopy(float_model("squeezenet1_1"))
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for inner in rounded.modules():
            if isinstance(inner, nn.Conv2d):
                step = inner.weight.abs().amax() / 15
                inner.weight.copy_((inner.weight / step).round() * step)
    return module, rounded


def test_the_command_gives_the_same_numbers_and_the_same_entry_of_the_cache(run, few, cache):
    given = ("compare", "chelsea", "--model", "squeezenet1_1", "--weights", "untrained", "--calibration", few)
    status, out, _ = run(*given, "--weight-bits", 4, "--metrics", "spearman", "--json", "-")
    assert status == 0
    told = json.loads(out)
    result = qv.compare(
        "chelsea",
        model="squeezenet1_1",
        weights="untrained",
        calibration=few,
        bits="W4A8",
        metrics=["spearman"],
        cache=cache,
    )
    assert result.comparison.cached
    own = json.loads(json.dumps(result.to_dict()))
    for changing in ("seconds", "cached"):
        del told[changing], own[changing]
    assert own == told
    assert result.scores["quantized_v_float"].cc == told["scores"]["quantized_v_float"]["cc"]


def test_onnx_files_give_what_the_command_gives(run, cache, tmp_path):
    float_file = saved(tmp_path, small())
    files = [quantized(float_file, f"{name}.onnx", per_channel=flag) for name, flag in (("one", True), ("two", False))]
    given = [part for file in files for part in ("--quantized-model", file)]
    status, out, _ = run("compare", "coffee", "--float-model", float_file, *given, "--json", "-")
    assert status == 0
    told = json.loads(out)
    result = qv.compare("coffee", float_model=float_file, quantized_model=files, cache=cache)
    own = json.loads(json.dumps(result.to_dict()))
    assert own["scores"] == told["scores"]
    assert own.keys() == told.keys()
    assert [*result.others] == ["two"]
    assert repr(result).count("looks") + repr(result).count("cannot be compared") == 2
    with pytest.raises(qv.UsageError, match="Option 'float_model' is missing"):
        qv.compare("coffee", quantized_model=files)
    with pytest.raises(qv.UsageError, match="No quantized file was named"):
        qv.compare("coffee", float_model=float_file)


def test_a_picture_is_taken_in_every_form(tmp_path):
    known = images.bundled("chelsea")
    path = images.bundled_path("chelsea")
    array, pillow = known.rgb, Image.open(path)
    for given in ("chelsea", path, str(path), path.read_bytes(), array, pillow, pillow.convert("RGBA")):
        assert (sample_of(given).rgb == known.rgb).all()
    assert sample_of(path).id == sample_of("chelsea").id == known.id
    assert sample_of(array).id == sample_of(pillow).id != known.id
    assert sample_of(pillow).name == path.name
    turned = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    turned.getexif()[0x112] = 6
    assert sample_of(turned).rgb.shape == (60, 40, 3)
    for wrong, message in [
        (array / 255, r"float64 array \(300, 451, 3\); give uint8"),
        (array[..., 0], r"uint8 array \(300, 451\); give uint8"),
        (array[:9], "451 x 9 pixels"),
        (7, "int is no picture; give a path"),
        (b"no picture", "is not an image of a supported format"),
        (tmp_path / "absent.png", "does not exist"),
    ]:
        with pytest.raises(qv.ImageError, match=message):
            sample_of(wrong)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"bits": "W4A8"}, "W4A8"),
        ({"bits": "8"}, "W8A8"),
        ({"bits": 6}, "W6A6"),
        ({"bits": "W4"}, "W4"),
        ({"bits": (3, None)}, "W3"),
        ({"weight_bits": 4, "act_bits": "none"}, "W4"),
        ({}, "W8A8"),
    ],
)
def test_bits_are_taken_in_every_form(options, label):
    assert PictureOptions(**options).quant()[0].label == label


def test_what_cannot_be_asked_for_is_refused_before_anything_is_computed(modules, tmp_path):
    module, rounded = modules
    for call, message in [
        (
            lambda: qv.compare("coffee", bits="W4A8", act_bits=4),
            "'W4A8' and weight_bits or act_bits exclude each other",
        ),
        (lambda: qv.compare("coffee", bits=(1, 2, 3)), r"Bits \(1, 2, 3\) are unknown"),
        (lambda: qv.compare("coffee", bits_file=tmp_path / "b", bits=4), "leave bits, weight_bits, act_bits"),
        (lambda: qv.compare("coffee", bits_file=tmp_path / "b"), "b' cannot be read"),
        (lambda: qv.compare("coffee", bit="W4A8"), "Option 'bit' is unknown here; use some of model, card, weights"),
        (lambda: qv.compare("coffee", model="lenet"), "Model 'lenet' is unknown"),
        (lambda: qv.compare("coffee", metrics="best", cache=tmp_path), "Metric 'best' is unknown"),
        (lambda: qv.compare("coffee", "chelsea"), "2 values were given; give one picture"),
        (lambda: qv.compare(module, rounded), "2 values were given with a module"),
        (lambda: qv.compare(module, rounded, "coffee", bits=4), "Option 'bits' is unknown here; use some of layer"),
        (lambda: qv.compare(module, rounded, "coffee", classes="cats"), "Classes 'cats' are one text"),
        (lambda: qv.compare(module, rounded, "coffee", classes={0: "a", 2: "b"}), "Class 1 has no name among 2"),
        (lambda: qv.explain("coffee", module), "str is no torch module"),
        (lambda: qv.explain(module, "coffee", method="cam"), "CAM method 'cam' is unknown"),
        (lambda: qv.open_study(tmp_path / "none"), r"no study at .* come with quantviz \(imagenet-200, photographs\)"),
    ]:
        with pytest.raises(qv.UsageError, match=message):
            call()


def test_two_modules_are_compared_shown_and_saved(modules, tmp_path):
    result = qv.compare(*modules, "chelsea", preprocessing=SQUEEZENET, name="net", label="W5")
    assert result.maps.keys() == {"float", "quantized", "saliency", "float_native", "quantized_native"}
    lines = repr(result).splitlines()
    assert lines[0].startswith("chelsea: net (net), float against W5; gradcam++ at features.12, class ")
    assert lines[1].startswith(result.verdict)
    assert ("Label flip" in lines[1]) == result.flipped
    assert len(lines) < 20
    assert f"CC {result.scores['quantized_v_float'].cc:.3f}" in result.verdict
    assert result.plot(opacity=0.3).data
    folder = result.save(tmp_path / "made")
    assert {path.name for path in folder.iterdir()} == {"result.json", "maps.npz", "figure.png"}
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    with np.load(folder / "maps.npz") as maps:
        assert (maps["quantized"] == result.maps["quantized"]).all()
    (tmp_path / "file").touch()
    with pytest.raises(qv.UsageError, match="is a file; name a folder"):
        result.save(tmp_path / "file")


def test_what_a_notebook_shows_is_whole_and_escaped_and_asks_for_nothing(modules):
    classes = {index: f"<u>kind {index}</u>" for index in range(1000)}
    result = qv.compare(
        *modules, "chelsea", preprocessing=SQUEEZENET, name="<script>net</script>", label="<i>", classes=classes
    )
    text = result._repr_html_()
    assert not re.search("<(script|i|u)>", text)
    assert "&lt;script&gt;net&lt;/script&gt;" in text
    assert f"&lt;u&gt;kind {result.predictions['float'][0].index}&lt;/u&gt;" in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    assert text.count("<div") == text.count("</div>") > 0
    assert not re.search(r"(?<!-)(color|background)\s*:", text)  # the page's own, light or dark


def test_one_module_is_explained_by_layer_class_and_input(modules, photograph, tmp_path):
    module, rounded = modules
    own = qv.explain(module, "chelsea", layer=module.features[12], preprocessing=SQUEEZENET)
    pair = qv.compare(module, rounded, "chelsea", preprocessing=SQUEEZENET, layer="features.12")
    assert own.map.tobytes() == pair.maps["float"].tobytes()
    assert own.native.shape == (13, 13)
    assert own.predictions == pair.predictions["float"]
    assert own.scores["map_v_saliency"] == pair.scores["float_v_saliency"]
    by_tensor = qv.explain(module, photograph("squeezenet1_1"), method="eigencam", class_=7, saliency="none")
    assert (by_tensor.scores, by_tensor.to_dict()["class_index"]) == ({}, 7)
    assert repr(own).splitlines()[1].startswith("SqueezeNet says ")
    assert own._repr_html_().count("data:image/png") == 3
    assert len(own.plot().data) == 2
    with np.load(own.save(tmp_path / "own") / "maps.npz") as maps:
        assert set(maps) == {"map", "map_native", "saliency"}
    assert Image.open(io.BytesIO((tmp_path / "own" / "figure.png").read_bytes())).width > 1000


class Black(nn.Module):
    """A network that sees nothing of the picture."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image * 0)


def test_a_map_without_evidence_is_told_and_not_scored(modules):
    black = Black(modules[0])
    result = qv.explain(black, "chelsea", layer="network.features.0", preprocessing=SQUEEZENET, method="eigencam")
    assert result.scores["map_v_saliency"].cc is None
    assert "carries no evidence" in repr(result)
    assert "no evidence" in result._repr_html_()
