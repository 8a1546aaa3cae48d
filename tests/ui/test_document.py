"""Long pages of text: their parts, and that every shipped one has its headings in order."""

from itertools import pairwise
from pathlib import Path

import pytest

import quantviz.ui
from quantviz.ui import metrics_page
from quantviz.ui.document import sections_of

METHOD = (Path(quantviz.ui.__file__).parent / "method.md").read_text(encoding="utf-8")


def test_parts_have_their_text_and_anchors_of_their_own():
    parts = sections_of("# Title\n\nFirst.\n\n## A b (`c`)\n\ntext\n\n```\n# no heading\n```\n\n## A b\n### Ω\n")
    assert [(part.level, part.title, part.anchor) for part in parts] == [
        (1, "Title", "title"),
        (2, "A b (`c`)", "a-b"),
        (2, "A b", "a-b-2"),
        (3, "Ω", "part"),
    ]
    assert parts[0].text == "First."
    assert parts[1].text == "text\n\n```\n# no heading\n```"
    assert parts[2].text == ""


@pytest.mark.parametrize("text", [METHOD, metrics_page()], ids=["method", "metrics"])
def test_headings_of_the_pages_go_down_one_level_at_a_time(text):
    levels = [part.level for part in sections_of(text)]
    assert levels[0] == 1
    assert 1 not in levels[1:]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert "".join(part.text for part in sections_of(text)).count("|") == text.count("|")
