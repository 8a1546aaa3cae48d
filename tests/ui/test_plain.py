"""Text of others in Markdown shows as it is."""

import html
import random
import re

import pytest
from markdown_it import MarkdownIt

from quantviz.ui.plain import code, plain

MARKS = "!$&()*+-.:<=>[\\]^_`{|}~#1ax \"'/"


def shown(markdown):
    """Return the elements and the text that Markdown becomes."""
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    elements = set(re.findall(r"<(\w+)", rendered))
    return elements, html.unescape(re.sub(r"<[^>]*>", "", rendered)).removesuffix("\n")


@pytest.mark.parametrize(
    "text",
    [
        "![x](http://example.org/x.png)",
        '<img src="http://example.org/x.png">',
        "[![x](http://example.org/x.png)](http://example.org)",
        "a `![x](http://example.org/x.png)",
        "``![x](http://example.org/x.png)",
        "a\\![x](http://example.org/x.png)",
        "# heading", "1. first", "- first", "> said", "a | b", "~~gone~~", "$x$", "&excl;[x](http://example.org/x.png)",
    ],
)  # fmt: skip
def test_marks_are_shown_as_they_are(text):
    assert shown(plain(text)) == ({"p"}, text)


def test_commands_of_our_own_stay_code():
    assert shown(plain("It is not here; run `quantviz fetch-weights *`.")) == (
        {"p", "code"},
        "It is not here; run quantviz fetch-weights *.",
    )


def test_whatever_the_text_no_element_but_code_comes_of_it():
    draw = random.Random(0)
    for _ in range(1000):
        text = "".join(draw.choices(MARKS, k=draw.randint(1, 14))).strip()
        for markdown, kept in ((plain(text), text), (code(text), text.replace("`", "'"))):
            elements, said = shown(f"before {markdown} after")
            assert elements <= {"p", "code"}, text
            if "code" not in elements or markdown == code(text):
                assert said.split() == f"before {kept} after".split(), text


def test_what_breaks_a_line_does_not_end_the_paragraph():
    assert shown(plain("one\n\n# two\r\n    three")) == ({"p"}, "one # two three")


def test_a_name_of_any_bytes_can_be_sent_to_a_browser():
    assert plain("caf\udce9.jpg").encode() == b"caf\\\\udce9.jpg"
    assert code("caf\udce9.jpg").encode() == b"`caf\\udce9.jpg`"
