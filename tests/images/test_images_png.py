"""Sound PNG files that exceed limits of Pillow's own."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from quantviz import images
from quantviz.specs import ImageError

LONG = "x" * 2_000_000


@pytest.fixture(scope="module")
def picture(noise_picture):
    return Image.fromarray(noise_picture(1, 40, 60))


def encoded(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("how", ["zTXt", "iTXt", "iTXt packed", "tEXt", "many"])
def test_long_texts_do_not_keep_a_picture_from_being_read(picture, how):
    notes = PngImagePlugin.PngInfo()
    if how.startswith("iTXt"):
        notes.add_itxt("prompt", LONG, zip=how.endswith("packed"))
    else:
        for number in range(80 if how == "many" else 1):  # 80 texts of 1 MB exceed the limit of all of them
            notes.add_text(f"note {number}", LONG[:1_000_000] if how == "many" else LONG, zip=how != "tEXt")
    found = images.load(encoded(picture, pnginfo=notes), name="notes.png")
    assert np.array_equal(found.rgb, np.asarray(picture))


def test_a_profile_beyond_the_limit_does_not_either(picture):
    found = images.load(encoded(picture, icc_profile=bytes(2_000_000)), name="profile.png")
    assert np.array_equal(found.rgb, np.asarray(picture))


def test_a_text_that_says_which_way_is_up_stays(picture):
    notes = PngImagePlugin.PngInfo()
    turned = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    notes.add_itxt("XML:com.adobe.xmp", turned)
    notes.add_text("comment", LONG, zip=True)
    found = images.load(encoded(picture, pnginfo=notes), name="turned.png")
    assert found.rgb.shape == (60, 40, 3)


def test_what_is_cut_off_is_still_told_as_damaged(picture):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", LONG, zip=True)
    whole = encoded(picture, pnginfo=notes)
    bad = whole[: whole.index(b"zTXt") - 4] + struct.pack(">I", 2**31) + b"zTXt" + zlib.compress(b"x")
    for data in (whole[:-2000], bad):
        with pytest.raises(ImageError, match="damaged"):
            images.load(data, name="cut.png")
