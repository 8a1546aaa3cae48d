"""JPEG files without their end marker: read where every pixel is there, refused where one is missing."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from quantviz import images
from quantviz.images.endless import NO_END, with_end
from quantviz.specs import ImageError

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 255, (61, 83, 3), np.uint8))
FORMS = {
    "baseline": {},
    "no subsampling": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 5},
    "progressive": {"progressive": True},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}


def encoded(form, picture=PICTURE):
    held = io.BytesIO()
    picture.save(held, "JPEG", **FORMS[form])
    return held.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read(form):
    data = encoded(form)
    whole = images.load(data)
    for missing in (1, 2):
        read = images.load(data[:-missing])
        assert np.array_equal(read.rgb, whole.rgb)
        assert read.notes == (NO_END,)
    assert not whole.notes


def test_a_map_that_lacks_its_end_marker_is_read():
    data = encoded("baseline", PICTURE.convert("L"))
    assert np.array_equal(images.read_map(data[:-2]), images.read_map(data))


@pytest.mark.parametrize("form", FORMS)
def test_a_jpeg_cut_anywhere_else_is_refused(form):
    """Above all at restart markers and between scans, where a decoder misses nothing of what it has."""
    data = encoded(form)
    ends = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7\xda\xc4]", data)]
    for end in (*ends, *range(700, len(data) - 3, 331), len(data) - 3, len(data) - 4, len(data) - 12):
        assert with_end(data[:end]) is None
    with pytest.raises(ImageError, match="damaged or incomplete"):
        images.load(data[:-40])


def test_nothing_else_is_mended():
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\x02", b"\xff\xd8" + bytes(4000), encoded("baseline")[:200]):
        assert with_end(data) is None
