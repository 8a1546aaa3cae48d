"""Files that are not read: what they are is told, not damage; and none of a folder vanishes in silence."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from quantviz import images
from quantviz.specs import ImageError

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 255, (32, 40, 3), np.uint8))


def encoded(form, **options):
    held = io.BytesIO()
    PICTURE.save(held, form, **options)
    return held.getvalue()


def jpeg_of_12_bits():
    data = bytearray(encoded("JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = 12
    return bytes(data)


def bmp_of_compression(kind):
    data = bytearray(encoded("BMP"))
    data[30:34] = struct.pack("<I", kind)
    return bytes(data)


def long_npy():
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }" + " " * 20_000 + "\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header.encode() + bytes(16)


@pytest.mark.parametrize(
    ("read", "data", "words"),
    [
        (images.load, jpeg_of_12_bits(), "12"),
        (images.load, bmp_of_compression(4), "ompression"),
        (images.load, bmp_of_compression(77), "ompression"),
        (images.read_map, long_npy(), "may not be safe"),
    ],
)
def test_the_limit_of_a_library_is_told_as_one(read, data, words):
    with pytest.raises(ImageError) as caught:
        read(data, name="odd")
    told = str(caught.value)
    assert "that is not read" in told
    assert words in told
    assert "damaged" not in told


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "a HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(40), "an AVIF picture"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(40), "a video"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "a JPEG 2000 picture"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\xef\xbb\xbf  <svg xmlns='x'/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"PK\x03\x04" + bytes(40), "an archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"P6 1 1 255\n\0\0\0", "a PPM picture"),
    ],
)
def test_a_file_of_another_kind_is_named(data, kind):
    with pytest.raises(ImageError, match="not an image of a supported format") as caught:
        images.load(data, name="x.jpg")
    assert kind in str(caught.value)


def test_damage_is_still_told_as_damage():
    for data in (encoded("PNG")[:200], encoded("JPEG")[:300], encoded("GIF")[:100]):
        with pytest.raises(ImageError, match="damaged or incomplete"):
            images.load(data)


def test_pictures_that_a_folder_does_not_list_are_counted(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    assert images.left_out(tmp_path) == ()
    for name in ("b.HEIC", "c.heic", "d.tga", "notes.txt", ".e.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "bare").write_bytes(encoded("JPEG"))
    (tmp_path / "README").write_bytes(b"BMC is no picture")
    (said,) = images.left_out(tmp_path)
    assert said.startswith("4 pictures are left out")
    assert "2 .heic, 1 .tga, 1 without an ending" in said
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"holds no image file; .* left out.*2 \.heic"):
        images.folder(tmp_path)
