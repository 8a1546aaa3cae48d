"""Paired comparisons in words, and which calls are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from statistics_support import coarse, quick, samples

from quantviz.specs import UsageError
from quantviz.statistics import family, holm, in_words, paired, summary

# Words
FLOAT = np.linspace(0.5, 0.9, 40)
WOBBLE = np.random.default_rng(0).permutation(np.linspace(-0.01, 0.01, 40))


def words(a, b, margin=0.05, **names):
    return in_words(paired(a, b, margin=margin), **names)


def test_words_for_a_clear_loss():
    text = words(FLOAT - 0.2 + WOBBLE, FLOAT)
    assert text.startswith(
        "On average over 40 images, CC is 0.2 lower for W8A8 than for float (95 % confidence interval -0.202 to "
    )
    assert "; the differences are distinguishable from zero (Wilcoxon signed-rank test, p < 0.001, not cor" in text
    assert "They are not equivalent: the mean difference lies beyond the margin of ±0.05 (TOST p = 1, 90 % con" in text
    assert "lower" not in words(FLOAT, FLOAT - 0.2 + WOBBLE)


def test_words_for_a_small_gain_name_the_correction():
    result = paired(FLOAT + 0.02 + WOBBLE, FLOAT, margin=0.05)
    text = in_words(family({"one": result, "two": result})["one"], what="SIM", a="W4A8", b="W8A8")
    assert "SIM is 0.02 higher for W4A8 than for W8A8" in text
    assert "Holm-corrected over 2 tests" in text
    assert "Even so, they are equivalent within the margin of ±0.05 (TOST p < 0.001" in text
    assert "Holm-corrected over 1 test)" in in_words(family({"one": result})["one"])


@pytest.mark.parametrize(
    ("spread", "verdict"), [(1, "They are equivalent within"), (40, "Equivalence within the margin of ±0.05 is not")]
)
def test_words_never_take_a_silent_test_for_equality(spread, verdict):
    text = words(FLOAT + spread * WOBBLE + 0.0001, FLOAT)
    assert "not distinguishable from zero" in text
    assert "which does not show that there are none" in text
    assert verdict in text


def test_words_when_mean_and_ranks_disagree():
    assert "by rank they lean the other way" in words(np.r_[np.full(50, -0.01), np.full(5, 1.0)], np.zeros(55))


def test_words_when_the_two_checks_disagree():
    d = np.r_[np.zeros(30), 0.5]
    texts = [words(d, 0 * d, margin) for margin in np.linspace(0.03, 0.08, 30)]
    assert any("is not claimed, because its two checks disagree" in text for text in texts)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([], [], "No image has a finite CC for both W8A8 and float, so nothing can be said of them."),
        ([None], [1.0], "No image has a finite CC for both W8A8 and float (1 without a value left out), so nothing"),
        ([1.0], [0.5], "On the one image that has both, CC is 0.5 higher for W8A8 than for float, and a single image"),
        ([1.0], [0.5], "Equivalence within the margin of ±0.05 cannot be judged from 1 image."),
        ([1.0, 2.0], [0.5, 2.1], "On average over 2 images, CC is 0.2 higher"),
        ([1.0, 2.0], [0.5, 2.1], "(too few images for a confidence interval); too few images differ for a test"),
        ([1.0, 2.0, np.inf], [0.5, 2.1, 0.0], "over 2 images (1 infinite left out), CC"),
        ([1.0, None, np.inf, 0.0], [0.5, 2.1, 0.0, 1.0], "(1 without a value and 1 infinite left out)"),
        ([1.0, -1.0], [0.0, 0.0], "On average over 2 images, CC is the same for W8A8 and float"),
        (FLOAT, FLOAT, "On every one of 40 images, CC is the same for W8A8 and float, so there is no difference to"),
        (FLOAT, FLOAT, "On these images they are equivalent within the margin of ±0.05: every difference lies inside"),
        (FLOAT, FLOAT + 0.1, "On every one of 40 images, CC is 0.1 lower for W8A8 than for float, by the same amount;"),
        (FLOAT, FLOAT + 0.1, "They are not equivalent within the margin of ±0.05: no difference lies inside it."),
    ],
)
def test_words_for_degenerate_samples(a, b, expected):
    assert expected in words(a, b)


@given(samples | coarse)
@quick
def test_words_are_one_or_two_sentences_and_deterministic(pair):
    result = paired(*pair, margin=0.1)
    text = in_words(result)
    assert text == in_words(replace(result))
    assert text.endswith(".")
    assert text.count(". ") <= 1


# Refusals
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired([1.0], [1.0, 2.0], margin=1), "a and b hold 1 and 2 values"),
        (lambda: paired(np.ones((2, 2)), np.ones((2, 2)), margin=1), r"a has shape \(2, 2\)"),
        (lambda: paired([1.0], ["x"], margin=1), "b holds <U1 values"),
        (lambda: paired([1.0, None], ["1", None], margin=1), "b holds object values"),
        (lambda: paired([1j], [1.0], margin=1), "a holds complex128 values"),
        (lambda: paired([{}], [1.0], margin=1), "a holds something that is no number"),
        (lambda: paired([10**400], [1.0], margin=1), "a holds something that is no number"),
        (lambda: paired([[1.0], [1.0, 2.0]], [1.0], margin=1), "a is a ragged nest"),
        (lambda: paired([1.0], [1.0], margin=0), "Margin 0 is not"),
        (lambda: paired([1.0], [1.0], margin=float("nan")), "Margin nan is not"),
        (lambda: paired([1.0], [1.0], margin=10**400), "Margin 1000"),
        (lambda: paired([1.0], [1.0], margin="0.1"), "Margin '0.1' is not"),
        (lambda: paired([1.0], [1.0], margin=1, confidence=0.5), "Confidence 0.5 is not"),
        (lambda: paired([1.0], [1.0], margin=1, confidence=95), "Confidence 95 is not"),
        (lambda: paired([1.0], [1.0], margin=1, seed=-1), "Seed -1 is not"),
        (lambda: summary([[1.0]]), r"values has shape \(1, 1\)"),
        (lambda: holm([0.5, 1.5]), "p-value 1.5 is outside"),
        (lambda: family({"CC": 0.5}), "'CC' holds a float"),
    ],
)
def test_refusals_say_what_was_wrong(call, message):
    with pytest.raises(UsageError, match=message):
        call()
