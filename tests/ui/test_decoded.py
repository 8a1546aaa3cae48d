"""Uploaded pictures are decoded once, within a bound on memory; a file of a wrong name costs a sentence."""

import io

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from quantviz import images
from quantviz.specs import ImageError
from quantviz.ui import decoded as module


def encoded(seed):
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)).save(held, "PNG")
    return held.getvalue()


def test_a_picture_is_decoded_once_and_named_as_each_calls_it(monkeypatch):
    read = []
    monkeypatch.setattr(images, "load", lambda data, name, load=images.load: read.append(name) or load(data, name=name))
    monkeypatch.setattr(module, "MOST_BYTES", 3 * 40 * 40 * 3)
    module._kept.clear()
    first = module.decoded(encoded(1), "a.png")
    again = module.decoded(encoded(1), "b.png")
    assert read == ["a.png"]
    assert (again.name, again.id) == ("b.png", first.id)
    assert again.rgb is first.rgb
    for seed in (2, 3, 4):
        module.decoded(encoded(seed), f"{seed}.png")
    assert len(module._kept) == 3
    module.decoded(encoded(1), "c.png")
    assert read == ["a.png", "2.png", "3.png", "4.png", "c.png"]
    with pytest.raises(ImageError):
        module.decoded(b"no picture", "d.png")
    assert len(module._kept) == 3


def test_a_wrong_suffix_costs_a_sentence():
    def page():
        from streamlit.elements.lib.file_uploader_utils import enforce_filename_restriction

        from quantviz.ui import guarded

        with guarded():
            enforce_filename_restriction("picture.exe", [".png"])

    shown = AppTest.from_function(page).run(timeout=60)
    assert not shown.exception
    (error,) = shown.error
    assert "refused by its name" in error.value
    assert "reload the page" in error.value
