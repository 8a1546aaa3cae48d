"""Preprocessing as users write it."""

import pytest

from quantviz.networks.preprocessing import IMAGENET, of_words, words_of
from quantviz.specs import UsageError


def test_order_and_range_are_read_and_told():
    found = of_words("order=BGR, range=0-255, mean=104/117/124, std=1", IMAGENET)
    assert (found.order, found.range, found.mean, found.std) == ("BGR", "0-255", (104, 117, 124), (1, 1, 1))
    assert words_of(found).endswith("mean 104/117/124, std 1/1/1, BGR, 0-255")
    assert words_of(IMAGENET).endswith("std 0.229/0.224/0.225")
    for wrong in ("order=bgr", "range=255"):
        with pytest.raises(UsageError, match=f"Input {wrong} is unknown; use "):
            of_words(wrong, IMAGENET)
