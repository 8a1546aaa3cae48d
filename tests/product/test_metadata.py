"""What stands in more than one file about the project says the same everywhere."""

import re
from pathlib import Path

import yaml

from quantviz import __version__

ROOT = Path(__file__).parents[2]


def test_the_citation_names_this_release_and_the_paper_apart():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.search(rf"^## \[{re.escape(__version__)}\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released is not None
    assert (citation["version"], citation["date-released"]) == (__version__, released[1])
    assert "2403.09939" not in str({key: value for key, value in citation.items() if key != "references"})
    assert [entry["identifiers"][0]["value"] for entry in citation["references"]] == ["arXiv:2403.09939"]


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_hook_before_a_commit_runs_make_lint():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make lint"]
    assert re.search(r"^lint:", (ROOT / "Makefile").read_text(), re.M)
