"""Network cards compared on one picture: ONNX files, and a model with bits and files, by command and in Python."""

import json

import numpy as np
import pytest
from cli_support import assert_refused
from onnx_support import CLASSES, LAST, quantized, saved, small
from onnxruntime.quantization import QuantFormat
from own_data_support import NAMES, exported, names_file, own_network
from PIL import Image

import quantviz as qv
from quantviz import images

INPUT = "[input]\nsize = 48\nmean = [104, 117, 124]\nstd = [60, 57, 58]\nrange = '0-255'\norder = 'BGR'\n"
WORDS = "crop=48,resize=55,mean=104/117/124,std=60/57/58,range=0-255,order=BGR"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    reference = saved(folder, small())
    quantized(reference, "int8.onnx", quant_format=QuantFormat.QOperator, per_channel=False)
    quantized(reference, "quantized.onnx")
    names_file(folder / "seven.txt", [f"kind {index}" for index in range(CLASSES)])
    return folder


def written(folder, text, name="net.toml"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def card(folder):
    variants = "[[variants]]\nfile = 'int8.onnx'\nname = 'shipped'\n[[variants]]\nfile = 'quantized.onnx'\n"
    return written(folder, f"name = 'shapes'\nfloat = 'float.onnx'\nclasses = 'seven.txt'\n{variants}{INPUT}")


def test_a_card_of_files_is_those_files_with_the_same_input(run, folder, card):
    status, text, error = run("compare", "coffee", "--card", card, "--json", "-")
    assert status == 0, error
    told = json.loads(text)
    files = ["--float-model", folder / "float.onnx", "--quantized-model", folder / "int8.onnx"]
    _, text, _ = run("compare", "coffee", *files, "--classes", folder / "seven.txt", "--input", WORDS, "--json", "-")
    same = json.loads(text)
    for key in ("scores", "predictions", "preprocessing", "class_index"):
        assert told[key] == same[key]
    assert told["model"] == "shapes"
    assert told["preprocessing"]["order"] == "BGR"
    assert list(told["others"]) == ["quantized.onnx"]
    assert {entry["label"] for entry in told["predictions"]["float"]} < {f"kind {index}" for index in range(CLASSES)}


def test_channel_order_and_range_reach_both_networks(folder, card):
    """A picture with its channels reversed is seen by an RGB network as the picture is by a BGR one."""
    rgb = images.bundled("coffee").rgb
    bgr = Image.fromarray(np.ascontiguousarray(rgb[..., ::-1]))
    scaled = (
        "[input]\nsize = 48\nmean = [0.40784314, 0.45882353, 0.48627451]\nstd = [0.23529412, 0.22352941, 0.22745098]\n"
    )
    other = written(folder, f"float = 'float.onnx'\n[[variants]]\nfile = 'int8.onnx'\n{scaled}", "rgb.toml")
    found = qv.compare("coffee", card=card, saliency=None)
    swapped = qv.compare(bgr, card=other, saliency=None)
    for name in ("float", "quantized"):
        assert np.abs(found.maps[name] - swapped.maps[name]).max() < 1e-3
    assert np.abs(found.maps["float"] - qv.compare("coffee", card=other, saliency=None).maps["float"]).max() > 0.05


def test_what_a_card_says_of_files_is_held_to_them(run, folder):
    start = "float = 'float.onnx'\n[[variants]]\nfile = 'int8.onnx'\n"
    for text, words in (
        ("[input]\nsize = 64", "float.onnx takes 48 pixels, not 64; correct size in card 'wrong.toml'"),
        ("[input]\nlayout = 'NHWC'", "float.onnx takes NCHW, not NHWC; correct layout in card 'wrong.toml'"),
    ):
        assert_refused(run("compare", "coffee", "--card", written(folder, start + text, "wrong.toml")), words)
    tensors = written(folder, f"layer = {{ float = '{LAST}', quantized = 'none' }}\n{start}", "wrong.toml")
    assert_refused(run("compare", "coffee", "--model", tensors), "int8.onnx has no tensor 'none'")
    names = written(folder, f"classes = ['a', 'b']\n{start}", "wrong.toml")
    assert_refused(run("compare", "coffee", "--card", names), "2 class names were given, but float.onnx has 7 classes")
    alone = written(folder, "float = 'float.onnx'", "wrong.toml")
    assert_refused(run("compare", "coffee", "--card", alone), "'wrong.toml' has no quantized file; add [[variants]]")


def test_options_that_do_not_go_with_a_card_are_refused(run, card):
    assert_refused(
        run("compare", "coffee", "--card", card, "--model", "vgg16"), "--model and --card exclude each other"
    )
    assert_refused(run("compare", "coffee", "--card", card, "--weight-bits", "4"), "--weight-bits and a card of ONNX")
    assert_refused(run("compare", "coffee", "--card", "net.json"), "Card 'net.json' does not end in .toml")
    refused = run("sensitivity", "coffee", "--card", card)
    assert_refused(refused, "'net.toml' is of ONNX files, which `quantviz compare` and `quantviz sweep` take")


def test_a_model_stands_beside_bits_and_files(run, folder):
    weights = own_network(folder / "own.safetensors")
    exported(weights, folder / "own.onnx", 96)
    text = f"""
name = "own"
model = "squeezenet1_1"
weights = "own.safetensors"
classes = {list(NAMES)}
[input]
size = 96
[[variants]]
file = "own.onnx"
[[variants]]
bits = "W4A8"
"""
    status, out, error = run("compare", "coffee", "--card", written(folder, text, "own.toml"), "--json", "-")
    assert status == 0, error
    told = json.loads(out)
    # The file is the same network, unquantized: its map is the float network's.
    assert told["scores"]["quantized_v_float"]["cc"] > 0.9999
    assert {entry["label"] for entry in told["predictions"]["quantized"]} == set(NAMES)
    assert told["others"]["W4A8"]["scores"]["quantized_v_float"]["cc"] < 0.9999
    status, out, error = run("compare", "coffee", "--card", folder / "own.toml", "--weight-bits", "8")
    assert status == 0, error
    assert "coffee: own, own.safetensors, float against W8A8" in out
    assert all(name in out for name in NAMES)
