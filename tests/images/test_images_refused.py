"""Which files are refused as pictures, and that nothing else goes wrong with them."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images_support import encode, outcome, png
from PIL import Image

from quantviz import images
from quantviz.specs import ImageError, ImageSample

RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)


def refused(data, **options):
    with pytest.raises(ImageError) as caught:
        images.load(data, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(form, part):
    data = encode(RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8), form)
    assert "x.img" in refused(data[: int(len(data) * part)], name="x.img")


def test_damage_inside_a_png_is_refused():
    data = bytearray(encode(RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8), "PNG"))
    data[len(data) // 2] ^= 0xFF
    refused(bytes(data))


def test_tiff_with_compression_is_read_and_its_truncation_refused():
    data = encode(NOISE, "TIFF", compression="tiff_lzw")
    assert np.array_equal(images.load(data).rgb, NOISE)
    refused(data[: len(data) // 2])


SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'/>"


@pytest.mark.parametrize("data", [b"text in a file named .jpg", SVG, b"%PDF-1.7\n", b"\0" * 5000, b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused(data, tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    message = refused(path)
    assert message.startswith("holiday.jpg is ")
    assert "PNG, JPEG" in message


def test_other_formats_that_pillow_knows_are_refused():
    assert "not an image of a supported format" in refused(encode(NOISE, "PPM"))
    assert "not an image of a supported format" in refused(encode(NOISE, "TGA"))


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "none.png").touch()
    assert "none.png is empty (0 bytes)" in refused(tmp_path / "none.png")
    assert "empty" in refused(b"")


def test_huge_picture_is_refused_before_it_is_decoded():
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(12_001)) for _ in range(12_000)) + rows.flush()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert len(data) < 200_000
    assert "12000 x 12000 pixels, more than the 50 million allowed" in refused(data)


def test_more_pixels_than_pillow_opens_are_refused():
    assert "900000000 pixels, more than the 50 million" in refused(png(30_000, 30_000, 8, 0, b""))


def test_pillows_warnings_stay_off_standard_error(recwarn):
    warnings.simplefilter("always")
    refused(png(12_000, 12_000, 8, 0, b""))
    assert not recwarn.list
    warnings.warn("others still show", UserWarning, stackwith := 1)
    assert len(recwarn.list) == stackwith


def test_too_many_bytes_are_refused(tmp_path):
    path = tmp_path / "large.bmp"
    with open(path, "wb") as file:
        file.truncate(images.MAX_BYTES + 2**20)
    assert "large.bmp has 65.0 MiB, more than the 64 MiB allowed" in refused(path)
    assert "65.0 MiB" in refused(bytes(images.MAX_BYTES + 2**20))


def test_small_and_narrow_pictures_are_refused():
    assert "15 x 40 pixels" in refused(encode(Image.new("RGB", (15, 40)), "PNG"))
    assert images.load(encode(Image.new("RGB", (16, 16)), "PNG")).rgb.shape == (16, 16, 3)
    assert "16 x 801 pixels" in refused(encode(Image.new("RGB", (16, 801)), "PNG"))
    assert images.load(encode(Image.new("RGB", (16, 800)), "PNG")).rgb.shape == (800, 16, 3)


def test_values_without_a_range_are_refused():
    assert "floating-point" in refused(encode(np.zeros((20, 20), np.float32), "TIFF"))
    assert "from -1 to 70000" in refused(encode(np.tile(np.int32([-1, 70_000]), (20, 10)), "TIFF"))


def test_paths_that_cannot_be_read_are_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "gone.png")
    assert "is a folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / ("x" * 300))
    assert "cannot be read" in refused(tmp_path / "a\0b")
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refused(tmp_path / "pipe.png")
    locked = tmp_path / "locked.png"
    locked.write_bytes(encode(NOISE, "PNG"))
    locked.chmod(0)
    if os.geteuid() != 0:
        assert "Permission denied" in refused(locked)


SEEDS = [
    encode(NOISE, "PNG"),
    encode(NOISE, "JPEG"),
    encode(NOISE, "GIF"),
    encode(NOISE, "WEBP"),
    encode(NOISE, "TIFF"),
    encode(NOISE, "TIFF", compression="tiff_lzw"),
    encode(NOISE, "BMP"),
    encode(Image.new("CMYK", (20, 20)), "JPEG"),
    encode(Image.fromarray(NOISE), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 24))]),
    encode(np.zeros((20, 20), np.uint16), "PNG"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_give_a_picture_or_an_image_error(data):
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    # Headers decide most of what a parser does, so they are hit more often.
    place = st.one_of(st.integers(0, min(150, len(seed) - 1)), st.integers(0, len(seed) - 1))
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8)):
        seed[at] = value
    if data.draw(st.booleans()):
        del seed[data.draw(place) :]
    assert isinstance(outcome(images.load, bytes(seed)), ImageSample | str)
    assert isinstance(outcome(images.read_map, bytes(seed)), np.ndarray | str)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    for read in (images.load, images.read_map):
        with pytest.raises(ImageError):
            read(data)


def test_threads_give_the_same_as_one():
    expected = [images.load(data).rgb for data in SEEDS]
    wrong: list[str] = []

    def work():
        for _ in range(20):
            for data, rgb in zip(SEEDS, expected, strict=True):
                if not np.array_equal(images.load(data).rgb, rgb):
                    wrong.append("differs")
                try:
                    images.load(data[:30])
                    wrong.append("taken")
                except ImageError:
                    pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(warnings.filters) == len(set(warnings.filters))
