"""The command card: what it drafts is a card, and known pictures tell whether the input is right."""

import pytest
from cli_support import assert_refused
from onnx_support import CLASSES, LAST, quantized, saved, small
from own_data_support import own_network

from quantviz.networks.card import parse_card, read_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("draft")
    model = small()
    model.metadata_props.add(key="names", value=str({index: f"kind {index}" for index in range(CLASSES)}))
    quantized(saved(folder, model), "int8.onnx")
    return folder


def test_files_are_drafted_and_compared_as_drafted(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    status, text, error = run("card", "float.onnx", "int8.onnx")
    assert status == 0, error
    card = parse_card(text, folder / "net.toml")
    assert (card.float_file, card.files[0].file) == (folder / "float.onnx", folder / "int8.onnx")
    assert card.classes == tuple(f"kind {index}" for index in range(CLASSES))
    assert (card.layout, card.settings["crop"], card.settings["order"]) == ("NCHW", 48, "RGB")
    assert f'# layer = "{LAST}"' in text
    told = error.splitlines()
    assert [line.partition(":")[0] for line in told[:2]] == ["coffee", "chelsea"]
    assert all(line.count("kind ") == 5 for line in told[:2])
    (folder / "net.toml").write_text(text)
    assert run("compare", "coffee", "--card", "net.toml")[0] == 0


def test_the_draft_of_a_model_has_its_own_settings(run, folder):
    status, text, error = run("card", "efficientnet_lite0")
    assert status == 0, error
    card = parse_card(text, folder / "lite.toml")
    assert (card.model, card.bits, card.settings["interpolation"]) == ("efficientnet_lite0", ("W8A8",), "bicubic")
    assert "coffee: espresso 9" in error
    assert "chelsea: tiger cat" in error
    assert "NOT" not in error


def test_a_users_weights_are_in_the_draft(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    own_network(folder / "own.safetensors")
    status, text, error = run("card", "squeezenet1_1", "int8.onnx", "--weights", "own.safetensors")
    assert status == 0, error
    (folder / "own.toml").write_text(text)
    card = read_card(folder / "own.toml")
    assert card.weights == str(folder / "own.safetensors")
    assert [variant.name for variant in card.variants] == ["int8", "W8A8"]
    assert "# A file with a name a line, 3 lines, or a list." in text


def test_what_is_no_network_is_refused(run, folder):
    assert_refused(run("card", folder / "net.toml"), "is a card already")
    assert_refused(run("card", "vgg17"), "Model 'vgg17' is unknown")
    assert_refused(run("card", folder / "float.onnx", "b.pth"), "'b.pth' is no .onnx file")
    assert_refused(run("card", folder / "float.onnx", "--weights", "untrained"), "goes with a model")
    assert_refused(run("card", folder / "none.onnx"), "none.onnx does not exist")
