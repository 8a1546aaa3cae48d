"""Pictures whose decoding takes much, or which only libtiff reads, are decoded by a process of their own."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from quantviz import images
from quantviz.images import apart, decode, suspicion
from quantviz.specs import ImageError

PIXELS = np.random.default_rng(7).integers(0, 255, (40, 60, 3), np.uint8)


def encoded(form, picture=None, **options):
    held = io.BytesIO()
    (picture or Image.fromarray(PIXELS)).save(held, form, **options)
    return held.getvalue()


def of_many_scans():
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 60 + data[-2:]


def run_length_bmp():
    body = b"\x10\x02\0\0" * 16 + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + bytes(range(256)) * 4 + body


@pytest.fixture
def starts(monkeypatch):
    """What was decoded apart, by the file's name."""
    names = []

    def noted(kind, data, name, **more):
        names.append(name)
        return apart.decoded_apart(kind, data, name, **more)

    monkeypatch.setattr(decode, "decoded_apart", noted)
    return names


def test_what_takes_much_is_decoded_apart_to_the_same_pixels(starts, monkeypatch):
    turned = Image.fromarray(PIXELS).getexif()
    turned[0x0112] = 6
    data = encoded("PNG", exif=turned)
    here = images.load(data, name="turned.png")
    assert starts == []
    monkeypatch.setattr(suspicion, "DECODED_HERE", 0)
    there = images.load(data, name="turned.png")
    assert starts == ["turned.png"]
    assert (there.rgb == here.rgb).all()
    assert (there.notes, there.orientation, there.id) == (here.notes, 6, here.id)
    grey = encoded("PNG", Image.fromarray(PIXELS[..., 0]))
    assert (images.read_map(grey, name="map.png") == PIXELS[..., 0]).all()
    assert starts == ["turned.png", "map.png"]


@pytest.mark.parametrize("hushed", [True, False])
def test_a_packed_tiff_says_nothing_on_standard_error(starts, capfd, monkeypatch, hushed):
    if not hushed:  # as with a Pillow that brings no libtiff of its own
        monkeypatch.setattr(suspicion, "is_hushed", lambda: False)
    data = encoded("TIFF", compression="tiff_lzw")
    assert (images.load(data, name="lzw.tif").rgb == PIXELS).all()
    damaged = bytearray(data)
    damaged[20:40] = b"\xff" * 20
    with pytest.raises(ImageError, match=r"worse\.tif is damaged"):
        images.load(bytes(damaged), name="worse.tif")
    assert starts == ([] if hushed else ["lzw.tif", "worse.tif"])
    assert capfd.readouterr() == ("", "")
    images.load(encoded("TIFF"), name="raw.tif")
    assert "raw.tif" not in starts


@pytest.mark.parametrize(
    ("data", "apart_"),
    [
        (of_many_scans(), True),
        (run_length_bmp(), True),
        (b"\xff\xd8" + b"\xff" * 100_000 + encoded("JPEG")[2:], True),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 5000 + encoded("JPEG")[2:], True),
        (encoded("PNG")[:33] + b"\0\0\0\0teSt\0\0\0\0" * 5000, True),
        (encoded("GIF", Image.new("P", (60, 40)))[:19] + b"\x21\xfe" + b"\x01a" * 70_000, True),
        (encoded("JPEG"), False),
        (encoded("JPEG", progressive=True), False),
        (encoded("PNG"), False),
        (encoded("GIF"), False),
        (encoded("WEBP"), False),
        (encoded("BMP"), False),
        (b"", False),
        (b"BM", False),
        (b"GIF89a", False),
        (b"\x89PNG\r\n\x1a\n", False),
    ],
)
def test_many_parts_are_seen_without_decoding(data, apart_):
    assert suspicion.many_parts(data) is apart_


def test_a_picture_that_takes_too_long_is_told(monkeypatch):
    monkeypatch.setattr(apart, "_SECONDS", 0.0)
    with pytest.raises(ImageError, match=r"slow.jpg takes more than 4 s of processor time to decode; save it again"):
        images.load(of_many_scans(), name="slow.jpg")


@pytest.mark.parametrize(
    "head",
    [
        {"shape": [40, 60, 4], "dtype": "|u1", "notes": [], "turn": 1},
        {"shape": [40, 60, 3], "dtype": "<f8", "notes": [], "turn": 1},
        {"shape": [40, 61, 3], "dtype": "|u1", "notes": [], "turn": 1},
        {"shape": [-40, -60, 3], "dtype": "|u1", "notes": [], "turn": 1},
        {"shape": [40, 60, 3], "dtype": "|u1", "turn": 1},
    ],
)
def test_a_result_that_does_not_fit_is_not_believed(head):
    with pytest.raises((ValueError, KeyError)):
        apart.unpacked(json.dumps(head).encode() + b"\n" + PIXELS.tobytes(), "picture")
    values, notes, turn = apart.unpacked(apart.packed(PIXELS, ["note"], 3), "picture")
    assert (values == PIXELS).all()
    assert (notes, turn) == (["note"], 3)


def test_a_map_has_fewer_values_than_a_picture_may_have_pixels():
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "|u1", "fortran_order": False, "shape": (4001, 4000)})
    with pytest.raises(ImageError, match="16 million"):
        images.read_map(held.getvalue() + bytes(4001 * 4000))
