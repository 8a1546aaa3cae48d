"""A presentation's file: what it may say, and each mistake in one sentence with its line."""

import pytest

from quantviz.specs import UsageError
from quantviz.study.presentation import SHIPPED_FILE, SHOWS, read_presentation


def written(tmp_path, text):
    path = tmp_path / "talk.toml"
    path.write_text(text)
    return path


def test_the_shipped_one_can_be_read_and_shows_most_kinds():
    found = read_presentation(SHIPPED_FILE)
    assert len(found.slides) >= 6
    assert {slide.show for slide in found.slides} >= {"text", "maps", "drift", "accuracy", "gap", "triangle"}
    assert all(len(slide.title.split()) <= 14 for slide in found.slides)


def test_a_file_is_read(tmp_path):
    text = 'title = "talk"\n[[slides]]\ntitle = "one"\n[[slides]]\ntitle = "two"\nshow = "drift"\nnetworks = ["a"]\n'
    found = read_presentation(written(tmp_path, text))
    assert (found.title, [slide.title for slide in found.slides]) == ("talk", ["one", "two"])
    assert found.slides[1].networks == ("a",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "is no TOML"),
        ('title = "no slide"', "there is no slide"),
        ("slides = []", "there is no slide"),
        ("title = 3\n[[slides]]\ntitle = 'a'", "line 1: title 3 is no text"),
        ('[[slides]]\ntext = "a"', "line 1: slide 1 has no title"),
        ('[[slides]]\ntitle = "a"\ncolour = "red"', "line 3: key 'colour' is unknown; use title"),
        ('name = "a"\n[[slides]]\ntitle = "a"', "line 1: key 'name' is unknown"),
        ('[[slides]]\ntitle = "a"\nshow = "film"', "line 3: show 'film' is unknown; use one of text"),
        ('[[slides]]\ntitle = "a"\nshow = "table1"\nmetric = "nss"', "line 4: metric 'nss' does not fit 'table1'"),
        ('[[slides]]\ntitle = "a"\nshow = "maps"', "maps of no picture"),
        ('[[slides]]\ntitle = "a"\nbits = "W8A8"', "line 3: bits 'W8A8' is no list"),
        ("[[slides]]\ntitle = 4", "line 2: title 4 is no text"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_its_line(tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        read_presentation(written(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value).removesuffix("\n") or "TOML" in said


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_presentation(tmp_path / "absent.toml")
    assert "text" in SHOWS
