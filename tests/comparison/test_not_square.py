"""Networks of pictures that are not square: files, cards and modules, by (height, width)."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnx_support import CLASSES, LAST, quantized, saved, small
from torch import nn

import quantviz as qv
from quantviz import images
from quantviz.comparison import FilesRequest, PairRequest, compare_files
from quantviz.comparison.sandbox import Sandbox, UploadedFiles
from quantviz.networks.card import parse_card
from quantviz.networks.onnx_files import describe, open_file
from quantviz.networks.preprocessing import IMAGENET, of_words
from quantviz.specs import UsageError

PICTURE, SIZE, GRID = images.bundled("coffee"), (48, 72), (12, 18)


@pytest.fixture(scope="module", params=["NCHW", pytest.param("NHWC", marks=pytest.mark.slow)])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    path = saved(folder, small(13, batch=1, layout=request.param, side=SIZE))
    return path, quantized(path, "int8.onnx", layout=request.param, side=SIZE)


def test_the_maps_are_the_closed_form_on_the_files_own_grid(pair):
    reference, int8 = pair
    found = compare_files(FilesRequest(reference, (int8,)), PICTURE, PairRequest("gradcam", saliency=None))["int8"]
    assert "scaled to cover 55x82 (bilinear), centre crop of 48x72 (height x width)" in found.notes[0]
    assert found.crop.shape == (*SIZE, 3)
    preprocessing = of_words("crop=48x72,resize=55x82", IMAGENET)
    assert found.weights.preprocessing == preprocessing
    crop = images.crop(PICTURE.rgb, preprocessing)
    assert np.array_equal(found.crop, crop)
    values = images.normalize(crop, preprocessing)
    opened = open_file(reference)
    model = onnx.load(reference)
    model.graph.output.append(onnx.helper.make_tensor_value_info(LAST, onnx.TensorProto.FLOAT, None))
    activation = onnxruntime.InferenceSession(model.SerializeToString()).run(
        [LAST], {"input": opened.form.given(values)}
    )
    head = next(entry for entry in model.graph.initializer if entry.name == "head.weight")
    weight = numpy_helper.to_array(head)[found.reference.class_index]
    raw = np.maximum(np.einsum("c,chw->hw", weight.astype(np.float64), activation[0][0]), 0)
    native = found.reference.native.values
    assert native.shape == found.quantized.native.values.shape == GRID
    assert np.abs(native - (raw - raw.min()) / (raw.max() - raw.min())).max() < 1e-5
    large = nn.functional.interpolate(torch.tensor(raw)[None, None], SIZE, mode="bilinear")[0, 0].numpy()
    expected = (large - large.min()) / (large.max() - large.min())
    assert found.reference.heatmap.values.shape == SIZE
    assert np.abs(found.reference.heatmap.values - expected).max() < 1e-4
    assert found.scores["quantized_v_float"].cc > 0.9


def test_the_command_line_takes_files_and_cards(run, pair, monkeypatch):
    folder = pair[0].parent
    monkeypatch.chdir(folder)
    told = describe(open_file(pair[0]))["input"]
    assert (told["side"], told["height"], told["width"]) == (None, *SIZE)
    status, text, error = run("card", "float.onnx", "int8.onnx")
    assert status == 0, error
    assert "size = [48, 72]   # height, width" in text
    (folder / "net.toml").write_text(text)
    status, out, error = run("compare", "coffee", "--card", "net.toml", "--maps", "maps.npz", "--json", "-")
    assert status == 0, error
    data = json.loads(out)
    assert (data["preprocessing"]["crop"], data["preprocessing"]["resize"]) == (list(SIZE), [55, 82])
    with np.load("maps.npz") as kept:
        assert {kept[name].shape for name in ("float_native", "quantized_native")} == {GRID}
        assert kept["float"].shape == SIZE
    given = ("compare", "coffee", "--float-model", "float.onnx", "--quantized-model", "int8.onnx")
    status, _, error = run(*given, "--input", "crop=48")
    assert status == 2
    assert "float.onnx takes 48x72 pixels, not 48" in error


@pytest.mark.slow  # a process of its own, which imports everything
def test_uploaded_files_come_back_from_their_own_process(pair):
    reference, int8 = pair
    files = UploadedFiles(reference.read_bytes(), "a.onnx", int8.read_bytes(), "b.onnx")
    found = Sandbox().compare(files, PICTURE, PairRequest(saliency=None))
    assert found.comparison.weights.preprocessing.size == SIZE
    assert found.comparison.quantized.native.values.shape == GRID


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


def test_modules_take_a_height_and_a_width():
    torch.manual_seed(0)
    module = Small().eval()
    wide = qv.Preprocessing((55, 82), SIZE, "bilinear", IMAGENET.mean, IMAGENET.std)
    found = qv.compare(module, module, "coffee", preprocessing=wide, cam="gradcam")
    assert found.comparison.reference.native.values.shape == GRID
    assert found.scores["quantized_v_float"].cc == pytest.approx(1)
    tensor = torch.from_numpy(images.normalize(images.crop(PICTURE.rgb, wide), wide))
    given = qv.compare(module, module, tensor, preprocessing=wide, cam="gradcam", saliency=None)
    assert np.array_equal(given.comparison.reference.native.values, found.comparison.reference.native.values)
    assert given.comparison.weights.preprocessing.size == SIZE


def test_a_size_that_a_card_cannot_mean_is_named_by_line(tmp_path):
    for value in ("[48]", "[48, 72, 3]", "[48, 8]", "[48, 72.0]"):
        text = f'model = "resnet50"\n[input]\nsize = {value}\n'
        with pytest.raises(UsageError, match=r"line 3: size .* use 16 to 4096, or two as \[height, width\]"):
            parse_card(text, tmp_path / "net.toml")
    card = parse_card('model = "resnet50"\n[input]\nsize = [224, 320]\n', tmp_path / "net.toml")
    assert card.preprocessing(IMAGENET).resize == (256, 366)
