"""Network cards: what they say, and each wrong key or value by its line."""

from dataclasses import replace

import pytest

from quantviz import networks
from quantviz.networks.card import CardVariant, read_card
from quantviz.networks.preprocessing import IMAGENET
from quantviz.networks.toml_lines import line_of
from quantviz.specs import Preprocessing, UsageError

WHOLE = """\
# Everything that a card can say.
name = "leaves"
float = "nets/leaves.onnx"
classes = [
    "oak",   # a comment, and a comma
    "beech",
]
layer = { float = "last", quantized = "last_quantized" }

[[variants]]
file = "nets/leaves-int8.onnx"

[[variants]]
file = "nets/leaves-int4.onnx"
name = "by hand"

[input]
size = 48
resize = 52
interpolation = "bicubic"
mean = [104, 117, 124]
std = 1
range = "0-255"
order = "BGR"
layout = "NHWC"
"""
TORCH = 'model = "squeezenet1_1"\nweights = "mine.pth"\n'


@pytest.fixture
def write(tmp_path):
    (tmp_path / "nets").mkdir()
    for name in ("leaves", "leaves-int8", "leaves-int4"):
        (tmp_path / "nets" / f"{name}.onnx").write_bytes(b"")
    (tmp_path / "mine.pth").write_bytes(b"")
    (tmp_path / "names.txt").write_text("oak\nbeech\n")

    def card(text):
        path = tmp_path / "net.toml"
        path.write_text(text)
        return path

    return card


def test_a_card_says_it_all(write, monkeypatch):
    path = write(WHOLE)
    monkeypatch.chdir(path.parent)
    card = read_card(path.relative_to(path.parent))
    nets = path.parent / "nets"
    assert (card.name, card.float_file, card.model) == ("leaves", nets / "leaves.onnx", "")
    assert card.variants == (
        CardVariant("leaves-int8", nets / "leaves-int8.onnx"),
        CardVariant("by hand", nets / "leaves-int4.onnx"),
    )
    assert (card.classes, card.layer, card.quantized_layer) == (("oak", "beech"), "last", "last_quantized")
    mean, std = (104.0, 117.0, 124.0), (1.0, 1.0, 1.0)
    assert card.preprocessing(IMAGENET) == Preprocessing(52, 48, "bicubic", mean, std, "crop", "BGR", "0-255")
    assert card.layout == "NHWC"


def test_a_card_of_a_model_changes_its_entry(write):
    card = read_card(write(TORCH + 'classes = "names.txt"\nlayer = "features.5"\n[[variants]]\nbits = "4"\n'))
    entry = networks.spec("squeezenet1_1")
    made = card.of_spec(entry)
    assert (made.name, made.layer, made.class_names) == ("net", "features.5", ("oak", "beech"))
    assert made.chosen_weights == str(card.path.parent / "mine.pth")
    assert (made.constructor, made.weights) == (entry.constructor, entry.weights)
    assert card.bits == ("W4A4",)
    assert card.variants[0].name == "W4A4"
    published = read_card(write('model = "squeezenet1_1"\nweights = "untrained"\n[input]\nsize = 128\n'))
    assert published.weights == "untrained"
    usual = entry.weights[0].preprocessing
    assert published.of_spec(entry).weights[0].preprocessing == replace(usual, crop=128, resize=146)


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("name = ", "nme = "), 2, "key 'nme' is unknown; use name, float, model"),
        (('"nets/leaves.onnx"', '"nets/none.onnx"'), 3, "there is no file .*none.onnx'; paths start in the card's"),
        (("quantized = ", "int8 = "), 8, "key 'int8' of layer is unknown; use float, quantized"),
        (('"oak"', "3"), 4, "classes are a list of names"),
        (
            ('file = "nets/leaves-int8.onnx"', 'path = "b.onnx"'),
            11,
            "key 'path' of variants is unknown; use file, bits",
        ),
        (('name = "by hand"', 'bits = "W4A8"'), 13, "a variant is a file or has bits"),
        (('"nets/leaves-int4.onnx"', '"nets/leaves-int8.onnx"'), 14, "file 'leaves-int8.onnx' is given twice"),
        (('"by hand"', '"leaves-int8"'), 13, "two variants are called 'leaves-int8'"),
        (("size = 48", "size = 48.5"), 18, r"size 48\.5 is no side in pixels; use 16 to 4096"),
        (('"bicubic"', '"nearest"'), 20, "interpolation 'nearest' is unknown; use bilinear or bicubic"),
        (("[104, 117, 124]", "[104, 117]"), 21, r"mean \[104, 117\] cannot be used; give a number, or three"),
        (("std = 1", "std = 0"), 22, "std 0 cannot be used; give a number above 0"),
        (('"0-255"', "255"), 23, "range 255 is unknown; use 0-1 or 0-255"),
        (('"BGR"', '"GBR"'), 24, "order 'GBR' is unknown; use RGB or BGR"),
        (('"NHWC"', '"HWC"'), 25, "layout 'HWC' is unknown; use NCHW or NHWC"),
        (("[input]", "[inputs]"), 17, "key 'inputs' is unknown; use name, float"),
        (("[input]", "[input"), 17, "is no TOML: .*line 17"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(write, change, line, words):
    assert change[0] in WHOLE
    where = "" if "no TOML" in words else f", line {line}: "
    with pytest.raises(UsageError, match=f"^Card 'net.toml'{where}.*{words}.*$"):
        read_card(write(WHOLE.replace(*change)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Card 'net.toml': names no network; give model = "),
        (TORCH + 'float = "nets/leaves.onnx"', "line 3: names a model and a float file"),
        ('float = "nets/leaves.onnx"\nweights = "a.pth"', "line 2: weights go with model"),
        ('model = "other.toml"', "line 1: model 'other.toml' is a card itself"),
        ('float = "nets/leaves.onnx"\n[[variants]]\nbits = "8"', "line 3: bits are simulated in torch"),
        (TORCH + '[[variants]]\nbits = "8A"', "line 4: bits '8A' are unknown; use 8 for W8A8"),
        (TORCH + '[[variants]]\nbits = "8"\nname = "x"', "line 5: a simulated network is called by its bits"),
        (TORCH + "classes = 'no.txt'", "line 3: there is no file"),
        (TORCH + "name = ''", "line 3: name is ''; give a text in quotes"),
        (TORCH + "layer = 7", "line 3: layer is 7; give a text in quotes"),
        (TORCH + "variants = 'b.onnx'", "line 3: variants are tables"),
    ],
)
def test_origins_and_variants_go_together(write, text, words):
    with pytest.raises(UsageError, match=words):
        read_card(write(text))


def test_a_crop_fits_into_what_it_is_cut_from(write):
    with pytest.raises(UsageError, match=r"Card 'net\.toml' cuts 224 pixels out of 200; raise resize"):
        read_card(write(TORCH + "input.resize = 200")).preprocessing(IMAGENET)


def test_files_that_are_no_cards_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"none.toml' cannot be read \(No such file"):
        read_card(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary.toml' is no text in UTF-8"):
        read_card(tmp_path / "binary.toml")


def test_lines_are_found_in_any_manner_of_writing():
    text = 'a.b = 1\na.c = """\n[x]\nd = 1\n"""\n"q k" = [1,\n  2]\n'
    text += "\n[[t]]\n[[t]]\n# comment\nz = { y = 3 }\n[t.u]\nv = 1\n"
    places = {("a", "b"): 1, ("a", "c"): 2, ("q k",): 6, ("t", 0): 9, ("t", 1): 10, ("t", 1, "z", "y"): 12}
    assert {place: line_of(text, place) for place in places} == places
    assert line_of(text, ("d",)) is None
